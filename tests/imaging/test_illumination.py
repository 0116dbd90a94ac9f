"""illumination: the shared flat field is estimated and corrected, at the scale that pybbbc uses."""

import numpy as np
import pytest
from microscopes import blank, in_meniscus, tilted, vignetted
from scipy import ndimage

from cellssl.imaging.illumination import (
    FLOOR_PERCENT,
    background_grid,
    correct_illumination,
    estimate_flatfield,
    mean_image,
    shared_background,
)
from cellssl.randomness import generator


def vignette(rows: int = 512, columns: int = 640) -> np.ndarray:
    down, right = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return 1 - 0.4 * (down**2 + right**2)


def test_the_mean_image_is_the_mean() -> None:
    fields = generator("tests", "mean").integers(0, 65_536, (5, 8, 9)).astype(np.uint16)
    assert np.allclose(mean_image(iter(fields)), fields.mean(axis=0))
    assert mean_image(iter(())) is None


def test_a_field_of_another_size_is_left_out_wherever_it_comes() -> None:
    fields, odd = [np.full((8, 9), value, np.uint16) for value in (1, 3)], np.full((4, 4), 500, np.uint16)
    for place in range(3):
        mean = mean_image([*fields[:place], odd, *fields[place:]])
        assert mean is not None and mean.shape == (8, 9) and (mean == 2).all()


@pytest.mark.parametrize("shape", [(512, 512), (1024, 1280), (300, 400)])
def test_a_blur_of_a_tenth_of_the_field_corrects_three_quarters_of_a_vignette(shape: tuple[int, int]) -> None:
    light = 1000 * vignette(*shape)
    corrected = light / estimate_flatfield(light, min(shape) / 10)
    assert corrected.std() / corrected.mean() < 0.25 * light.std() / light.mean()


def test_the_blur_is_that_of_pybbbc_at_full_size() -> None:
    mean = 1000 * vignette(512, 640)
    slow = ndimage.gaussian_filter(mean, 500, mode="nearest")
    slow = np.maximum(slow, np.percentile(slow, FLOOR_PERCENT))
    assert np.allclose(estimate_flatfield(mean, 500.0), slow / slow.mean(), rtol=0.01)


def test_a_lamp_that_lights_one_side_is_corrected_and_grey_values_keep_their_size() -> None:
    ramp = np.linspace(0.5, 1.5, 3000)[None].repeat(400, axis=0)
    chance = generator("tests", "lamp")
    fields = [(3000 * ramp * chance.uniform(0.8, 1.2, ramp.shape)).astype(np.uint16) for _ in range(3)]
    flatfield = estimate_flatfield(mean_image(fields), 500.0)
    corrected = correct_illumination(fields[0], flatfield)
    left, right = corrected[:, 700:1200].mean(), corrected[:, 1800:2300].mean()
    assert left / right == pytest.approx(1, abs=0.05) and fields[0][:, 700:1200].mean() / right < 0.85
    assert flatfield.mean() == pytest.approx(1, abs=1e-5)


def test_corrected_values_never_leave_the_range_of_16_bits() -> None:
    bright = np.full((4, 4), 60_000, np.uint16)
    assert correct_illumination(bright, np.full((4, 4), 0.5, np.float32)).tolist() == [[65_535] * 4] * 4


def grids_of(fields: list[np.ndarray]) -> np.ndarray:
    return np.array([background_grid(field, np.zeros(field.shape, np.int32)) for field in fields])


def blank_fields(count: int = 12) -> list[np.ndarray]:
    return [blank((96, 120), seed=seed) for seed in range(count)]


def test_a_tilt_that_fields_share_is_found_with_its_size() -> None:
    shared = shared_background(grids_of([tilted(field, 2000, 30) for field in blank_fields()]), nuclei=1350.0)
    assert shared is not None and shared.fields == 12
    assert shared.variation == pytest.approx(0.75 * 2000, rel=0.1)  # between the middles of the outermost tiles


def test_a_vignette_is_found_but_not_a_faint_one() -> None:
    fields = blank_fields()
    strong, faint = (grids_of([vignetted(field, falloff) for field in fields]) for falloff in (0.8, 0.1))
    assert shared_background(strong, nuclei=500.0) is not None
    assert shared_background(faint, nuclei=500.0) is None


def test_a_meniscus_that_lies_elsewhere_in_every_field_is_not_shared() -> None:
    fields = [np.rot90(in_meniscus(np.rot90(field, turn), 3000), -turn) for turn, field in enumerate(blank_fields())]
    assert shared_background(grids_of(fields), nuclei=1350.0) is None
    tilts = [tilted(field, 2500, 30 * number) for number, field in enumerate(blank_fields())]
    assert shared_background(grids_of(tilts), nuclei=1350.0) is None


@pytest.mark.parametrize(("level", "rise"), [(0.0, 0.0), (8.0, 4.0), (0.0, 20.0)])
def test_a_background_that_is_nearly_black_is_not_corrected(level: float, rise: float) -> None:
    grids = level + np.broadcast_to(np.linspace(0, rise, 4), (12, 4, 4))
    assert shared_background(grids.astype(np.float32), nuclei=3000.0) is None


def test_a_plate_without_nuclei_gives_no_measure_of_what_is_large() -> None:
    assert shared_background(grids_of([tilted(field, 2000) for field in blank_fields()]), nuclei=np.nan) is None


def test_seven_fields_are_too_few_to_know() -> None:
    fields = [tilted(field, 2000) for field in blank_fields()]
    assert shared_background(grids_of(fields[:7]), nuclei=1350.0) is None
    assert shared_background(grids_of(fields[:8]), nuclei=1350.0) is not None


def test_nuclei_and_tiles_that_they_fill_do_not_count() -> None:
    image, labels = np.full((80, 80), 500, np.uint16), np.zeros((80, 80), np.int32)
    image[:30, :30], labels[:30, :30] = 9000, 1
    grid = background_grid(image, labels)
    assert np.isnan(grid[0, 0]) and (grid.ravel()[1:] == 500).all()


def test_division_by_the_flat_field_evens_an_added_slope_but_changes_nuclei() -> None:
    slope = tilted(np.full((200, 400), 500.0), 1000)
    corrected = (slope + 1000) / estimate_flatfield(slope, 5.0) - slope / estimate_flatfield(slope, 5.0)
    assert (slope / estimate_flatfield(slope, 5.0)).std() < 0.01 * slope.mean()
    assert corrected[:, :20].mean() > 1.8 * corrected[:, -20:].mean()  # nuclei of the same light
