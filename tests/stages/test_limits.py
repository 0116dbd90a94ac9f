"""Limits in micrometres, and what a run says of the nuclei that it dropped."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from cellssl.errors import UsageError
from cellssl.imaging.selection import REASONS
from cellssl.stages.segment.counts import in_words, warnings_of
from cellssl.stages.segment.selection import (
    NUCLEI_CSV,
    check_areas,
    check_pixel_sizes,
    count_nuclei,
    reject_by_limits,
    select_nuclei,
    window_sides_px,
)
from cellssl.stages.segment.settings import Settings


def fields(*pixel_um: float) -> pd.DataFrame:
    """One field of 1,000 x 1,000 pixels per pixel size."""
    n = len(pixel_um)
    return pd.DataFrame(
        {
            "field_id": [f"f{number}" for number in range(n)],
            "plate": "P1",
            "well": "A01",
            "pixel_um": pixel_um,
            "field_height_px": 1000,
            "field_width_px": 1000,
            "field_flags": "",
        }
    )


def nuclei(area_px: list[float], field_id: str = "f0") -> pd.DataFrame:
    """Perfect nuclei of these areas, side by side in the middle of a field."""
    n = len(area_px)
    measured = {"solidity": 1.0, "saturated": 0.0, "focus": 0.2, "at_edge": False, "eccentricity": 0.0}
    places = {"row_px": 500.0, "column_px": 400.0 + 10 * np.arange(n)}
    return pd.DataFrame(
        {"field_id": [field_id] * n, "nucleus_label": np.arange(1, n + 1), "area_px": area_px} | places
    ).assign(**measured)


def reasons(areas_px: list[float], pixel_um: float, **settings: Any) -> list[str]:
    found = reject_by_limits(nuclei(areas_px), fields(pixel_um), Settings(**settings))
    return [("kept", *REASONS)[number] for number in found]


SCALES = {"4x": 1.6, "10x": 1.0, "20x": 0.5, "40x": 0.25, "60x": 0.1}


@pytest.mark.parametrize("pixel_um", SCALES.values(), ids=SCALES)
def test_by_default_the_same_nuclei_are_kept_at_any_magnification(pixel_um: float) -> None:
    areas_px = [um2 / pixel_um**2 for um2 in (10, 26, 200, 2000, 4900, 5100)]
    assert reasons(areas_px, pixel_um) == ["too_small", "kept", "kept", "kept", "kept", "too_large"]


def test_where_the_pixel_size_is_not_known_the_default_is_in_pixels() -> None:
    assert reasons([99, 100, 20_000, 20_001], np.nan) == ["too_small", "kept", "kept", "too_large"]


def test_a_limit_that_is_given_replaces_the_default_of_both_units() -> None:
    assert reasons([30, 40], 0.25, min_area_px=35.0) == ["too_small", "kept"]
    assert reasons([300, 600], 0.5, min_area_um2=100.0) == ["too_small", "kept"]


@pytest.mark.parametrize("limit", ["min_area", "max_area"])
def test_a_limit_in_both_units_is_an_error(limit: str) -> None:
    with pytest.raises(ValidationError, match="are both given"):
        Settings(**{f"{limit}_px": 500.0, f"{limit}_um2": 500.0})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"min_area_um2": 6000.0}, r"max_area_um2 = 5000 \(the default\), .* set segment.max_area_um2 too"),
        ({"max_area_um2": 20.0}, r"min_area_um2 = 25 \(the default\) is above .* set segment.min_area_um2 too"),
        ({"min_area_px": 300.0, "max_area_px": 200.0}, "min_area_px = 300 is above max_area_px = 200, .* correct one"),
    ],
)
def test_limits_that_contradict_each_other_or_a_default_are_an_error(given: dict[str, float], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Settings(**given)


@pytest.mark.parametrize(
    ("given", "fitting_um", "pixel_um", "words", "missing"),
    [
        ({"min_area_px": 30_000.0}, 0.1, np.nan, "min_area_px = 30000 is above max_area_px = 20000", "max_area_px"),
        ({"min_area_px": 30_000.0}, 0.1, 0.5, "min_area_px = 30000 is above max_area_um2 = 5000", "max_area_um2"),
        ({"max_area_px": 90.0}, 1.0, 0.5, "min_area_um2 = 25 .* is above max_area_px = 90", "min_area_um2"),
    ],
)
def test_a_limit_in_pixels_is_compared_with_the_default_of_the_plate(
    given: dict[str, float], fitting_um: float, pixel_um: float, words: str, missing: str
) -> None:
    check_areas(Settings(**given), fields(fitting_um))  # 30,000 pixels of 0.1 um are 300 um2
    with pytest.raises(UsageError, match=words) as caught:
        check_areas(Settings(**given), fields(fitting_um, pixel_um))
    assert caught.value.hint == f"set segment.{missing} too"


@pytest.mark.parametrize("given", [{"min_area_um2": 40.0}, {"max_area_um2": 900.0}, {"crop_um": 80.0}])
def test_a_setting_in_micrometres_needs_the_size_of_every_pixel(given: dict[str, float]) -> None:
    check_pixel_sizes(Settings(**given), fields(0.5, 0.25))
    check_pixel_sizes(Settings(), fields(0.5, np.nan))
    with pytest.raises(UsageError, match="not known for 1 of 2 fields; first: f1") as caught:
        check_pixel_sizes(Settings(**given), fields(0.5, np.nan))
    assert "fetch.dataset.pixel_um" in caught.value.hint and "_px" in caught.value.hint


@pytest.mark.parametrize(
    ("given", "setting", "cure"),
    [
        ({"method": {"name": "watershed", "diameter_um": 12.0}}, "segment.method.diameter_um", "leave out diameter_um"),
        ({"method": {"name": "cellpose", "diameter_um": 12.0}}, "segment.method.diameter_um", "leave out diameter_um"),
        ({"lobes": {"channel": "b", "diameter_um": 12.0}}, "segment.lobes.diameter_um", "leave out lobes.diameter_um"),
        *(
            (
                {"cells": {"channel": "b", "method": {"name": name, setting: 30.0}}},
                f"segment.cells.method.{setting}",
                f"give {other} in place of {setting}",
            )
            for name, setting, other in (
                ("propagate", "max_distance_um", "max_distance_diameters"),
                ("watershed", "max_distance_um", "max_distance_diameters"),
                ("cellpose", "diameter_um", "diameter_in_nuclei"),
            )
        ),
    ],
)
def test_a_length_of_a_method_in_micrometres_needs_the_size_of_every_pixel(
    given: dict[str, Any], setting: str, cure: str
) -> None:
    check_pixel_sizes(Settings(**given), fields(0.5, 0.25))
    with pytest.raises(UsageError, match=f"{setting} cannot be applied to plate .*; first: f1") as caught:
        check_pixel_sizes(Settings(**given), fields(0.5, np.nan))
    assert "fetch.dataset.pixel_um" in caught.value.hint and cure in caught.value.hint


def test_the_table_with_cellprofilers_names_has_no_solidity_of_another_hull() -> None:
    from skimage.measure import regionprops

    from cellssl.imaging.quality import solidity

    rows, columns = np.mgrid[:20, :20]
    disc = (np.hypot(rows - 10, columns - 10) < 6).astype(np.int32)
    assert regionprops(disc)[0].solidity - solidity(disc)[0] > 0.01, "they are the same: the table may have it"
    assert "Nuclei_AreaShape_Solidity" not in NUCLEI_CSV.values()


def test_a_pixel_size_that_cannot_be_right_is_an_error_and_not_a_full_memory() -> None:
    with pytest.raises(UsageError, match="a window of 80,000"):
        check_pixel_sizes(Settings(crop_um=80.0), fields(0.001))


def test_a_window_in_micrometres_has_the_pixels_of_its_field() -> None:
    sides = window_sides_px(Settings(crop_um=80.0, crop_px=64), np.array([0.5, 0.25]))
    assert sides.tolist() == [160.0, 320.0]
    table = pd.concat([nuclei([500.0] * 21, "f0"), nuclei([500.0] * 21, "f1")], ignore_index=True)
    chosen = select_nuclei(table, fields(0.5, 0.25), Settings(crop_um=80.0))
    by_field = chosen.groupby("field_id")["neighbours"].max()
    assert by_field.to_dict() == {
        "f0": 16,
        "f1": 20,
    }  # as many as are within 80 and within 160 pixels of the middle one


def test_windows_in_micrometres_that_leave_a_field_are_dropped_by_its_own_size() -> None:
    table = pd.concat([nuclei([5000.0], "f0"), nuclei([5000.0], "f1")], ignore_index=True)
    settings = Settings(crop_um=300.0, border="drop")
    assert reject_by_limits(table, fields(0.5, 0.25), settings).tolist() == [0, 1 + REASONS.index("window_outside")]


def test_a_plate_is_summed_up_in_one_sentence_whose_numbers_balance() -> None:
    chosen = select_nuclei(nuclei([5] * 5 + [500.0] * 2), fields(0.5), Settings(cells_per_well=1))
    counts = count_nuclei(chosen, 1, 0)
    assert in_words(counts) == "7 found, 1 kept: 5 too small, 1 over the number per well"
    assert in_words({"detected": 1234, "kept": 1234}) == "1,234 found, 1,234 kept"


def test_where_most_nuclei_are_dropped_for_one_reason_the_limit_and_the_cure_are_said() -> None:
    def warned(areas_px: list[float], pixel_um: float, **given: Any) -> list[str]:
        chosen, settings = nuclei(areas_px), Settings(**given)
        return list(warnings_of(settings, "P1", select_nuclei(chosen, fields(pixel_um), settings), fields(pixel_um)))

    assert warned([50] * 5 + [500] * 5, 0.5) == []
    (placeholder,) = warned([9000] * 6, 1.0)  # 60x, whose pixels are not 1 um
    assert "6 of 6 nuclei were dropped as too_large" in placeholder
    assert "segment.max_area_um2 = 5000" in placeholder and "as a disc of 107 um" in placeholder
    assert "correct fetch.dataset.pixel_um" in placeholder
    (unknown,) = warned([40] * 6, np.nan)
    assert "segment.min_area_px = 100, and the median is 40 pixels; lower it, or set fetch.dataset.pixel_um" in unknown
    (ragged,) = warned([500] * 3, 0.5, quality={"min_focus": 0.3})
    assert "segment.quality.min_focus = 0.3; lower it" in ragged
    assert warned([500] * 9, 0.5, cells_per_well=2) == []  # the recipe asks for two
