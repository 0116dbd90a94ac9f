"""cell brightness and the scale that follows: percentiles per nucleus, and what must not move white."""

from pathlib import Path

import numpy as np
import pytest
from microscopes import OBJECTIVES, grow, photograph, real_dapi, simulated_field
from scipy import ndimage

from cellssl.config import plugins
from cellssl.imaging.cell_brightness import (
    RING_DIAMETERS,
    CellBrightness,
    brightness_in_crops,
    brightness_in_field,
    with_rings,
)
from cellssl.imaging.labels import measure, typical_diameter_px
from cellssl.imaging.scaling import Limits, limits_of_cells, scaled, sd_of_limits, with_darkest_surrounds
from cellssl.randomness import generator

HEADROOM = 3.0
CHANNELS = ("dna", "tubulin", "actin")


def simulated(number: int = 0, cells: float = 195.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the channels of a simulated field, and its label image."""
    field = simulated_field(number, cells)
    return np.stack([field.images[channel] for channel in CHANNELS]), field.labels


def joined(parts: list[CellBrightness]) -> CellBrightness:
    return CellBrightness(
        *(np.concatenate([vars(one)[name] for one in parts]) for name in ("high", "low", "between", "middle"))
    )


def white(pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return limits_of_cells(brightness_in_field(pixels, labels), HEADROOM).high


def slope_kept(image: np.ndarray, own: np.ndarray, limits: Limits) -> float:
    """Return the slope of the mean 8-bit brightness over the dose of a drug that doubles it, over that of no limit."""
    factors, low = np.linspace(1, 2, 5), limits.low[0]
    brighter = [np.clip(low + factor * (image - low), 0, 65_535) for factor in factors]
    seen = [scaled(one.astype(np.uint16)[None, None], limits.low, limits.high)[0, 0][own].mean() for one in brighter]
    linear = [(255 * (one - low) / (limits.high[0] - low))[own].mean() for one in brighter]
    return float(np.polyfit(factors, seen, 1)[0] / np.polyfit(factors, linear, 1)[0])


def test_percentiles_are_those_of_every_nucleus_and_its_ring() -> None:
    photo = photograph(grow(40, 300, 300, diameter_um=14), OBJECTIVES["10x"])
    owner = with_rings(photo.labels, RING_DIAMETERS * typical_diameter_px(photo.labels))
    found = brightness_in_field(photo.image[None], photo.labels)
    for number in range(1, photo.labels.max() + 1):
        own = photo.image[owner == number]
        known = np.percentile(own, [99, 5], method="inverted_cdf")
        assert [found.high[number - 1, 0], found.low[number - 1, 0]] == known.tolist()
    assert (found.between == np.percentile(photo.image[owner == 0], 1, method="inverted_cdf")).all()


def test_a_ring_is_as_wide_as_asked_for_and_goes_to_the_nearest_nucleus() -> None:
    labels = photograph(grow(60, 250, 250, diameter_um=14), OBJECTIVES["10x"]).labels
    grown = with_rings(labels, 4.5)
    distance = ndimage.distance_transform_edt(labels == 0)
    assert ((grown > 0) == (distance <= 4.5)).all() and (grown[labels > 0] == labels[labels > 0]).all()
    for number in np.unique(grown[grown > 0])[::7]:
        assert np.allclose(ndimage.distance_transform_edt(labels != number)[grown == number], distance[grown == number])


def test_nuclei_of_six_pixels_and_of_a_hundred_give_the_same_white() -> None:
    culture = grow(150, 600, 600, diameter_um=15)
    whites = [
        white(photo.image[None], photo.labels)
        for photo in (photograph(culture, OBJECTIVES[name]) for name in ("4x", "20x", "60x"))
    ]
    assert np.ptp(whites) < 0.15 * np.mean(whites)  # at 4x, a nucleus is 6 px across, and blurred


@pytest.mark.parametrize("cells", [5, 50, 500])
def test_at_most_one_percent_of_the_nuclear_pixels_of_controls_is_cut_off(cells: int) -> None:
    fields = [simulated(number, cells) for number in range(8 if cells == 5 else 2 if cells == 50 else 1)]
    limits = limits_of_cells(joined([brightness_in_field(*field) for field in fields]), HEADROOM)
    nuclear = np.concatenate([pixels[:, labels > 0] for pixels, labels in fields], axis=1)
    assert (nuclear >= limits.high[:, None]).mean(axis=1).max() <= 0.01


@pytest.mark.parametrize("cells", [50, 500])
def test_the_dose_of_a_drug_that_doubles_brightness_stays_visible(cells: int) -> None:
    pixels, labels = simulated(1, cells)
    levels = brightness_in_field(pixels, labels)
    for channel in range(len(CHANNELS)):
        only = CellBrightness(*(vars(levels)[name][:, [channel]] for name in ("high", "low", "between", "middle")))
        limits = limits_of_cells(only, HEADROOM)
        assert slope_kept(pixels[channel].astype(float), labels > 0, limits) == pytest.approx(1, abs=0.1)


def test_a_real_field_is_not_cut_off_and_keeps_the_dose(shared_data: Path) -> None:
    image = real_dapi(shared_data)
    if image is None:
        pytest.skip("the real DAPI field is absent")
    labels = (
        plugins.load("cellssl.imaging.segmenters", "watershed").Settings().prepare([], "cpu").segment(image, 0.4963)
    )
    limits = limits_of_cells(brightness_in_field(image[None], labels), HEADROOM)
    assert (image[labels > 0] >= limits.high[0]).mean() <= 0.01
    assert slope_kept(image.astype(float), labels > 0, limits) == pytest.approx(1, abs=0.1)


def test_sparse_and_dense_fields_of_the_same_cells_have_the_same_white() -> None:
    pixels, labels = simulated(2, 500)
    dense = pixels[:1]
    background = generator("tests", "background").choice(dense[0][labels == 0], labels.shape)
    sparse = []
    for number in range(0, labels.max(), 10):
        few = np.where((labels > number) & (labels <= number + 10), labels - number, 0)
        sparse.append(brightness_in_field(np.where((few > 0) | (labels == 0), dense, background), few))
    assert limits_of_cells(joined(sparse), HEADROOM).high == pytest.approx(white(dense, labels), rel=0.05)


def test_crops_and_fields_of_the_same_cells_have_about_the_same_white() -> None:
    pixels, labels = simulated(1)
    centres = measure(labels).centres.round().astype(int)
    inside = [(row, column) for row, column in centres if 48 < row < 976 and 48 < column < 1232]
    crops = np.stack([pixels[:, row - 48 : row + 48, column - 48 : column + 48] for row, column in inside])
    found = limits_of_cells(brightness_in_crops(crops), HEADROOM).high
    assert found == pytest.approx(white(pixels, labels), rel=0.15)


def test_debris_mitoses_and_dust_do_not_move_white() -> None:
    pixels, labels = simulated(1)
    clean = white(pixels, labels)
    rng = generator("tests", "debris")
    brighter = np.isin(labels, rng.choice(labels.max(), labels.max() // 30, replace=False) + 1)
    dirty = np.where(brighter, np.minimum(pixels * 10.0, 65_535), pixels)
    dust = ndimage.binary_dilation(rng.random(labels.shape) < 6 / labels.size, iterations=8)
    hot = rng.random(labels.shape) < 0.001
    dirty[:, dust | hot] = 65_535
    assert white(dirty.astype(np.uint16), labels) == pytest.approx(clean, rel=0.06)


def test_cells_darker_than_their_surround_are_not_cut_off() -> None:
    _, labels = simulated(1)
    rng = generator("tests", "bright field")
    image = rng.normal(30_000, 500, labels.shape) - 9_000 * ndimage.gaussian_filter((labels > 0).astype(float), 3)
    image = image.astype(np.uint16)
    limits = limits_of_cells(brightness_in_field(image[None], labels), HEADROOM)
    assert limits.low[0] < image.min() and image.max() < limits.high[0]


@pytest.mark.parametrize("rim", [0.95, 0.8])
def test_a_lamp_that_is_weaker_in_the_corners_does_not_cut_off_dark_rims(rim: float) -> None:
    _, labels = simulated(1)
    rng = generator("tests", "vignette")
    row, column = (np.linspace(-1, 1, side) for side in labels.shape)
    lamp = 30_000 * (1 - 0.3 * (row[:, None] ** 2 + column**2) / 2)
    at_rim = (labels > 0) & ~ndimage.binary_erosion(labels > 0, iterations=3)
    image = (rng.normal(lamp, 300) * np.where(at_rim, rim, np.where(labels > 0, 1.05, 1.0))).astype(np.uint16)
    limits = limits_of_cells(brightness_in_field(image[None], labels), HEADROOM)
    nuclear = scaled(image[None, None], limits.low, limits.high)[0, 0][labels > 0]
    assert max((nuclear == 0).mean(), (nuclear == 255).mean()) <= 0.01


def test_cells_that_are_brighter_than_the_background_but_darker_than_their_neighbours_are_fluorescent() -> None:
    tubulin = [np.full((50, 1), level, np.float32) for level in (7_500, 3_300, 1_000, 4_900)]  # a dense real plate
    limits = limits_of_cells(CellBrightness(*tubulin), HEADROOM)
    assert limits.low.tolist() == [1_000] and limits.high.tolist() == [1_000 + 3 * 6_500]


def test_dark_cells_that_fill_the_middle_of_their_crops_are_not_cut_off() -> None:
    rng = generator("tests", "dark crops")
    crops = rng.normal(30_000, 500, (50, 1, 40, 40))
    crops[:, :, np.hypot(*np.mgrid[-19.5:20, -19.5:20]) < 9] -= 9_000
    limits = limits_of_cells(brightness_in_crops(crops.astype(np.uint16)), HEADROOM)
    assert limits.low[0] < crops.min() and crops.max() < limits.high[0]


def test_one_odd_field_of_ten_moves_neither_black_nor_white() -> None:
    pixels, labels = simulated(1, 60)
    limits = []
    for odd in (pixels, (0.7 * pixels).astype(np.uint16)):
        levels = [brightness_in_field(odd if number == 0 else pixels, labels) for number in range(10)]
        fields = np.repeat(np.arange(10), labels.max())
        limits.append(limits_of_cells(with_darkest_surrounds(joined(levels), fields), HEADROOM))
    assert limits[1].low == pytest.approx(limits[0].low, rel=1e-3)
    assert limits[1].high == pytest.approx(limits[0].high, rel=0.05)


def test_crops_of_a_dense_field_show_black_where_their_surrounds_are_darkest() -> None:
    rng = generator("tests", "dense crops")
    crops = rng.normal(2_000, 100, (40, 1, 32, 32))
    crops[[3, 17, 31], :, :, :4] = rng.normal(500, 10, (3, 1, 32, 4))
    crops[:20] -= 50  # two fields
    levels = with_darkest_surrounds(brightness_in_crops(crops.astype(np.uint16)), np.repeat([0, 1], 20))
    assert limits_of_cells(levels, HEADROOM).low == pytest.approx([455], abs=20)
    assert len(np.unique(levels.between)) == 2


def test_a_channel_that_was_shifted_keeps_its_black() -> None:
    pixels, labels = simulated(1)
    shifted = pixels.copy()
    shifted[1, :, :40] = 0
    found, known = (limits_of_cells(brightness_in_field(one, labels), HEADROOM) for one in (shifted, pixels))
    assert found.low == pytest.approx(known.low, rel=0.02) and found.high == pytest.approx(known.high, rel=0.02)


def crops_with_padding_or_masks() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return crops, the same with the edge of their field in every window, and with all but the cell masked."""
    rng = generator("tests", "padding")
    crops = rng.normal(500, 20, (60, 2, 64, 64)).astype(np.uint16)
    crops[:, :, 24:40, 24:40] += 2_000
    padded, inside = crops.copy(), np.hypot(*np.mgrid[-31.5:32, -31.5:32]) < 15
    padded[:, :, :, 50:] = 0
    return crops, padded, np.where(inside, crops, 0).astype(np.uint16)


def test_padding_with_zeros_is_no_background() -> None:
    plain, padded, _ = (limits_of_cells(brightness_in_crops(one), HEADROOM) for one in crops_with_padding_or_masks())
    assert padded.low == pytest.approx(plain.low, rel=0.02) and padded.high == pytest.approx(plain.high, rel=0.02)


def test_masked_cells_have_a_black_of_0_and_stay_visible_half_as_bright() -> None:
    *_, masked = crops_with_padding_or_masks()
    limits = limits_of_cells(brightness_in_crops(masked), HEADROOM)
    assert limits.low.tolist() == [0, 0]
    assert (scaled(masked // 2, limits.low, limits.high)[masked > 0] > 0).all()
    pixels, labels = simulated(1)
    field = np.where(labels > 0, pixels, 0)
    assert limits_of_cells(brightness_in_field(field, labels), HEADROOM).low.tolist() == [0, 0, 0]


def test_a_constant_channel_and_empty_crops_have_one_grey_value_for_black_and_white() -> None:
    crops = np.full((5, 1, 32, 32), 77, np.uint16)
    limits = limits_of_cells(brightness_in_crops(crops), HEADROOM)
    assert limits.low.tolist() == limits.high.tolist() == [77]
    assert np.isnan(brightness_in_crops(np.zeros((2, 3, 32, 32), np.uint16)).high).all()


def test_a_field_without_nuclei_or_full_of_them_has_levels() -> None:
    empty = brightness_in_field(np.ones((2, 40, 40), np.uint16), np.zeros((40, 40), np.int32))
    assert empty.high.shape == (0, 2)
    full = brightness_in_field(np.full((1, 40, 40), 9, np.uint16), np.ones((40, 40), np.int32))
    assert full.high.tolist() == [[9]] and np.isnan(full.between).all()
    assert limits_of_cells(full, HEADROOM).high.tolist() == [9]


def test_the_bootstrap_gives_the_spread_over_plates_with_so_many_controls() -> None:
    rng = generator("tests", "plates")

    def plate(cells: int) -> CellBrightness:
        high = 2_000 * np.exp(0.4 * rng.standard_normal((cells, 1)))
        return CellBrightness(*(one.astype(np.float32) for one in (500 + high, 500 + high / 5, *[500 + 0 * high] * 2)))

    spread = np.std([limits_of_cells(plate(65), HEADROOM).high for _ in range(300)])
    estimates = [sd_of_limits(plate(65), HEADROOM, number).high for number in range(10)]
    assert np.mean(estimates) == pytest.approx(spread, rel=0.2)
    many = plate(20_000)  # more than one draw takes
    assert sd_of_limits(many, HEADROOM, "many").high == pytest.approx(spread * np.sqrt(65 / 20_000), rel=0.3)
    assert np.isnan(sd_of_limits(plate(1), HEADROOM, "one").high).all()
