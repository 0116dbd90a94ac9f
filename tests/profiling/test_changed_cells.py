"""The share of changed cells: about 0 without an effect, below the truth with one, and independent of plates."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cellssl.profiling.changed_cells import changed_share
from cellssl.profiling.control_cells import control_cells, discriminant
from cellssl.profiling.labels import codes
from cellssl.randomness import generator


@cache
def cells(
    share: float = 0.0, *, shift: float = 6.0, plates: int = 2, controls: int = 12, wells: int = 4, per_well: int = 100
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return cells of 15 treatments, their plates, wells and treatments, and control flags.

    Wells differ by a tenth of the standard deviation of cells; changed cells are shifted along one axis of the cells.
    """
    rng = generator("changed cells", plates, controls, wells)
    plate = np.concatenate([np.repeat(np.arange(plates), controls), np.tile(np.arange(wells) % plates, 15)])
    treatment = np.concatenate(
        [np.full(plates * controls, None), np.repeat([f"drug {i:02d}" for i in range(15)], wells)]
    )
    size = rng.integers(per_well // 2, per_well * 3 // 2, len(plate))
    well = np.repeat(np.arange(len(plate)), size)
    latent = rng.normal(size=(len(well), 40)) + 0.1 * rng.normal(size=(len(plate), 40))[well]
    treated = np.array([name is not None for name in treatment])[well]
    latent[:, 3] += shift * (treated & (rng.random(len(well)) < share))
    mixing = rng.normal(size=(40, 64)) * np.exp(-np.arange(40) / 15)[:, None]
    x = latent @ mixing + 0.1 * rng.normal(size=(len(well), 64)) + 3 * rng.normal(size=(plates, 64))[plate[well]]
    return x.astype(np.float32), plate[well].astype(str), well.astype(str), treatment[well], ~treated


def shares(*args: np.ndarray, **settings: str) -> pd.DataFrame:
    return changed_share(*args, draws=200, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("wells", [2, 4])
@pytest.mark.parametrize("plates", [1, 2])
def test_treatments_without_an_effect_have_no_changed_cells(plates: int, wells: int) -> None:
    assert shares(*cells(plates=plates, wells=wells))["share"].mean() < 0.03


def test_three_changed_cells_of_ten_are_found() -> None:
    found = shares(*cells(0.3))
    assert found["share"].between(0.2, 0.35).all()
    assert found["low"].mean() < 0.3 < found["high"].mean()
    assert (found["low"] <= found["share"]).all()
    assert (found["share"] <= found["high"]).all()


def test_the_share_is_at_least_that_many_also_where_all_cells_change_a_little() -> None:
    found = shares(*cells(1.0, shift=1.5))["share"]
    assert found.between(0.15, 1).all()


def test_all_cells_are_changed_where_none_is_like_a_control_cell() -> None:
    assert shares(*cells(1.0, shift=30.0))["share"].min() > 0.97


def test_offsets_of_plates_change_nothing() -> None:
    x, plates, *rest = cells(0.3)
    offset = np.where(plates[:, None] == "0", np.float32(2), np.float32(-1))
    np.testing.assert_allclose(shares(x + offset, plates, *rest)["share"], shares(x, plates, *rest)["share"], atol=0.03)


def test_names_of_treatments_change_only_the_order() -> None:
    x, plates, wells, treatments, is_control = cells(0.3)
    renamed = np.array([None if name is None else str(99 - int(name[-2:])) for name in treatments], object)
    found = shares(x, plates, wells, renamed, is_control)["share"]
    np.testing.assert_allclose(found[::-1], shares(x, plates, wells, treatments, is_control)["share"])


def test_a_treatment_with_one_well_has_no_share() -> None:
    found = shares(*cells(0.8, wells=1, shift=10.0))
    assert len(found) == 15
    assert found[["share", "low", "high"]].isna().all(axis=None)


def test_all_other_wells_can_be_the_reference() -> None:
    x, plates, wells, treatments, _ = cells(0.0)
    changed = treatments == "drug 04"
    x = x + np.where(changed[:, None] & (np.arange(len(x)) % 2 == 0)[:, None], 5, 0).astype(np.float32) * x.std(axis=0)
    found = shares(x, plates, wells, treatments, np.zeros(len(x), bool), reference="all").set_index("treatment")
    assert found["share"].idxmax() == "drug 04"
    assert found.loc["drug 04", "share"] == pytest.approx(0.5, abs=0.12)


def test_treatments_on_plates_without_controls_have_no_share() -> None:
    x, plates, wells, treatments, is_control = cells(0.3)
    assert shares(x, plates, wells, treatments, np.zeros(len(x), bool))["share"].isna().all()
    kept = ~(is_control & (plates == "1"))
    one_plate = shares(*(each[kept] for each in (x, plates, wells, treatments, is_control)))
    assert one_plate["share"].between(0.1, 0.4).all()  # their wells on the other plate


@pytest.mark.parametrize("controls", [1, 2])
def test_one_or_two_control_wells_per_plate_do_not_show_how_wells_differ_so_there_is_no_share(controls: int) -> None:
    assert shares(*cells(0.5, controls=controls, shift=10.0))["share"].isna().all()


def test_a_plate_with_few_control_wells_is_not_compared() -> None:
    x, plates, wells, treatments, is_control = cells(0.3)
    kept = ~is_control | (plates == "0") | np.isin(wells, np.unique(wells[is_control & (plates == "1")])[:2])
    kept_on_one = ~(is_control & (plates == "1"))
    found, expected = (
        shares(*(each[rows] for each in (x, plates, wells, treatments, is_control))) for rows in (kept, kept_on_one)
    )
    np.testing.assert_allclose(found["share"], expected["share"], atol=0.01)


def test_other_wells_that_are_the_reference_are_counted_without_those_of_the_treatment() -> None:
    x, plates, wells, treatments, _ = cells(0.3, plates=1)
    rows = np.isin(wells, [*np.unique(wells[treatments == "drug 04"]), *np.unique(wells[treatments == "drug 07"])[:2]])
    few = tuple(each[rows] for each in (x, plates, wells, treatments, np.zeros(len(x), bool)))
    found = shares(*few, reference="all").set_index("treatment")["share"]
    assert found.isna().tolist() == [True, False]  # 2 other wells, and 4


def test_features_that_do_not_vary_count_for_nothing() -> None:
    x, *rest = cells(0.3)
    dead = np.concatenate([x, np.full((len(x), 3), 7, np.float32)], axis=1)
    np.testing.assert_allclose(shares(dead, *rest)["share"], shares(x, *rest)["share"], atol=0.02)


def test_the_direction_is_that_of_a_linear_discriminant() -> None:
    rng = generator("discriminant")
    x = (rng.normal(size=(6000, 8)) @ (np.eye(8) + 0.3 * rng.normal(size=(8, 8)))).astype(np.float32)
    treated = np.arange(6000) >= 4000
    x[treated] += np.float32(0.5)
    controls = control_cells(x, np.zeros(6000, int), codes(np.arange(6000) % 40)[1], ~treated, seed=0)
    difference = x[treated].mean(axis=0) - x[~treated].mean(axis=0)
    direction = discriminant(controls, 0).directions(difference[None].astype(np.float64))[:, 0]
    expected = LinearDiscriminantAnalysis().fit(x, treated).transform(x)[:, 0]
    assert np.corrcoef(x @ direction, expected)[0, 1] > 0.98


def test_a_large_offset_does_not_cost_digits() -> None:
    x, *rest = cells(0.3)
    np.testing.assert_allclose(shares(x + np.float32(2000), *rest)["share"], shares(x, *rest)["share"], atol=0.02)
