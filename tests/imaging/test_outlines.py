"""outlines: each nucleus has its colour, dim nuclei are seen beside specks and on slopes, small ones are enlarged."""

import numpy as np
import pytest

from cellssl.imaging.labels import relabel
from cellssl.imaging.outlines import display_limits, field_pictures, grey_picture, outlined, telling_window

PALETTE = np.array([[0, 0, 255], [255, 160, 0]], np.uint8)
BOX = (400, 500)


def made_field(diameter: int, side: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy field of round nuclei, brighter by 1,000 than the background, and their labels."""
    rows, columns = np.mgrid[:side, :side]
    step = 2 * diameter
    number = 1 + rows // step * -(-side // step) + columns // step
    inside = (rows % step - diameter) ** 2 + (columns % step - diameter) ** 2 <= (diameter / 2) ** 2
    labels = relabel(np.where(inside, number, 0))
    noise = np.random.default_rng(0).normal(300, 20, labels.shape)
    return np.rint(noise + 1000 * (labels > 0)).astype(np.uint16), labels


def kinds_of(labels: np.ndarray) -> np.ndarray:
    """Return kept for the first nucleus, dropped for the second, and so on."""
    return np.arange(labels.max()) % 2


@pytest.mark.parametrize("diameter", [6, 20, 150])
def test_the_outline_of_a_nucleus_has_the_colour_of_its_kind_and_lies_inside_it(diameter: int) -> None:
    field, labels = made_field(diameter)
    picture = outlined(grey_picture(field, labels), labels, PALETTE[kinds_of(labels)], labels.shape)
    for kind, colour in enumerate(PALETTE):
        drawn = (picture == colour).all(axis=2)
        assert set(np.unique(labels[drawn])) == set(np.flatnonzero(kinds_of(labels) == kind) + 1)
    coloured = np.ptp(picture, axis=2) > 0
    assert (labels[coloured] > 0).all()
    assert coloured.sum() < (labels > 0).sum()  # the nuclei stay visible


@pytest.mark.parametrize("rows", [2, 5])
@pytest.mark.parametrize("with_nucleus", [True, False])
def test_a_field_of_a_few_rows_is_shown_enlarged_too(rows: int, with_nucleus: bool) -> None:
    field, labels = np.full((rows, 3000), 300, np.uint16), np.zeros((rows, 3000), np.int32)
    labels[:, 40:45] = with_nucleus
    whole, part = field_pictures(field, labels, kinds_of(labels), PALETTE, BOX)
    assert len(whole.pixels) == 1
    assert len(part.pixels) == 6 * rows
    assert whole.part is not None and all(side.stop > side.start for side in whole.part)


def lightness(field: np.ndarray, labels: np.ndarray) -> float:
    """Return how much lighter the nuclei are than the background around them, in grey levels of the picture."""
    grey = grey_picture(field, labels).astype(float)
    return float(np.median(grey[labels > 0]) - np.median(grey[labels == 0]))


def test_a_bright_speck_does_not_darken_the_nuclei() -> None:
    field, labels = made_field(20)
    speck = field.copy()
    speck[:40, :40] = 65_535
    only_speck = np.zeros_like(labels)
    only_speck[:40, :40] = 1
    assert lightness(field, labels) > 80
    assert lightness(speck, labels) > 80
    grey = grey_picture(speck, only_speck).astype(float)  # the segmenter took the speck for the only nucleus
    assert np.median(grey[labels > 0]) - np.median(grey[labels == 0]) > 40


def test_nuclei_are_visible_on_a_slope_of_three_times_their_brightness() -> None:
    field, labels = made_field(20)
    tilted = field + np.linspace(0, 3000, field.shape[1]).astype(np.uint16)
    for found in (labels, np.zeros_like(labels)):  # the segmenter found all of them, or none
        for part in (np.s_[:, :100], np.s_[:, -100:]):
            grey = grey_picture(tilted, found)[part].astype(float)
            assert np.median(grey[labels[part] > 0]) - np.median(grey[labels[part] == 0]) > 20


def test_noise_alone_stays_dark() -> None:
    field, _ = made_field(20)
    noise = np.random.default_rng(1).normal(300, 20, field.shape).astype(np.uint16)
    assert np.percentile(grey_picture(noise, np.zeros(field.shape, np.int32)), 99) < 64


def test_images_of_two_grey_values_have_limits() -> None:
    labels = np.zeros((100, 100), np.int32)
    labels[50, 50] = 1
    for found in (labels, np.zeros_like(labels)):
        low, high = display_limits((labels * 255).astype(np.uint8), found)
        assert low < high <= 510


@pytest.mark.parametrize(("side", "diameter", "pictures"), [(1200, 6, 2), (1200, 30, 2), (400, 150, 1), (100, 30, 1)])
def test_small_nuclei_are_shown_in_a_part_that_is_enlarged(side: int, diameter: int, pictures: int) -> None:
    field, labels = made_field(diameter, side)
    whole, *parts = field_pictures(field, labels, kinds_of(labels), PALETTE, BOX)
    assert 1 + len(parts) == pictures
    assert whole.pixels.shape[0] <= BOX[0]
    assert whole.pixels.shape[1] <= BOX[1]
    for part in parts:
        assert whole.part is not None
        assert 20 <= diameter * part.zoom <= 60
        rows, columns = (len(range(*frame.indices(10_000))) for frame in whole.part)
        assert part.pixels.shape[0] / rows == pytest.approx(part.zoom / whole.zoom, rel=0.1)
        assert part.pixels.shape[1] / columns == pytest.approx(part.zoom / whole.zoom, rel=0.1)


def test_a_field_without_nuclei_is_shown_whole() -> None:
    empty = np.zeros((300, 900), np.int32)
    (whole,) = field_pictures(empty + 5, empty, np.zeros(0, int), PALETTE, BOX)
    assert whole.pixels.shape == (167, 500, 3)


def test_the_part_shows_dropped_nuclei_beside_kept_ones() -> None:
    centres = np.array([[10.0, 10.0], [12.0, 30.0], [20.0, 20.0], [150.0, 150.0], [160.0, 170.0]])
    rows, columns = telling_window(centres, np.array([0, 0, 0, 0, 1]), (200, 200), (50, 50))
    assert rows.start <= 150
    assert rows.stop > 160
    assert columns.start <= 150
    assert columns.stop > 170
