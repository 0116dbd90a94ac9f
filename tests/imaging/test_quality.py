"""quality: measures of nuclei and fields, compared with scikit-image and with made-up fields of known quality."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.measure import label, regionprops_table

from cellssl.imaging.labels import Runs, measure
from cellssl.imaging.neighbours import distances_to_others
from cellssl.imaging.quality import (
    CEILINGS,
    DIFFERENCE_BLUR,
    NucleusPixels,
    ceiling_of,
    edge_distances,
    hull_areas,
    measure_quality,
    median_of_counts,
    rim_steepness,
    solidity,
    step_px,
)
from cellssl.randomness import generator


def discs(radius: float = 10.0, sigma: float = 1.0, light: float = 2000.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw nine nuclei of one size; return their image and their labels."""
    rows, columns = np.mgrid[:120, :120]
    near = np.hypot((rows + 20) % 40 - 20, (columns + 20) % 40 - 20)[20:100, 20:100] < radius
    image = np.pad(500.0 + light * near, 20, constant_values=500.0)
    return ndimage.gaussian_filter(image, sigma), label(image > 500)


def test_solidity_is_close_to_that_of_scikit_image() -> None:
    noise = ndimage.gaussian_filter(generator("tests", "solidity").random((200, 200)), 6)
    labels = label(noise > np.median(noise))
    known = regionprops_table(labels, properties=("solidity", "area"))
    large = known["area"] > 100  # in small ones the corners of pixels matter, which scikit-image cuts
    assert large.sum() > 3
    assert np.allclose(solidity(labels)[large], known["solidity"][large], atol=0.03)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (6, 4)])
def test_a_rectangle_fills_its_hull(shape: tuple[int, int]) -> None:
    assert solidity(np.pad(np.ones(shape, int), 2)).tolist() == [1.0]


def test_a_nucleus_with_a_quarter_cut_out_fills_six_sevenths_of_its_hull() -> None:
    notched = np.ones((20, 20), int)
    notched[10:, 10:] = 0
    assert solidity(notched)[0] == pytest.approx(300 / 350)


def test_a_number_that_does_not_occur_has_no_solidity() -> None:
    assert solidity(np.array([[0, 1, 0], [0, 3, 3]])).tolist() == [1.0, 0.0, 1.0]


def test_focus_falls_with_blur_and_does_not_depend_on_gain_offset_or_magnification() -> None:
    def focus(sigma: float, gain: float = 1.0, offset: float = 0.0, radius: float = 10.0) -> float:
        image, labels = discs(radius, sigma)
        image = image * gain + offset
        nuclei, _ = measure_quality(image[None].astype(np.uint16), 0, labels, measure(labels).centres)
        return float(np.median(nuclei.focus))

    by_blur = [focus(sigma) for sigma in (0.5, 1.0, 2.0, 4.0)]
    assert by_blur == sorted(by_blur, reverse=True) and by_blur[0] > 2 * by_blur[-1]
    assert focus(1.0, gain=5.0, offset=3000.0) == pytest.approx(focus(1.0), rel=0.01)
    assert focus(1.5, radius=15.0) == pytest.approx(focus(1.0), rel=0.05)


def test_a_straight_rim_has_the_steepness_of_its_blur() -> None:
    sigma = 3.0
    image = ndimage.gaussian_filter(np.repeat(np.arange(200) > 99, 200).reshape(200, 200).astype(np.float32), sigma)
    inside = NucleusPixels.of(np.ones(image.shape, int))
    step = step_px(inside, 0.2)
    blur = np.sqrt(sigma**2 + step**2 * (1 + DIFFERENCE_BLUR))  # of the image, and of the derivative
    found = rim_steepness(inside, image, np.array([1.0]), step)[0]
    # a Gaussian's height, and the mean of its cube over that of its square
    assert found == pytest.approx(step / np.sqrt(2 * np.pi) / blur * np.sqrt(2 / 3), rel=0.02)


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("pixel_um, rel", [(1.0, 0.1), (0.25, 0.05), (0.125, 0.05)])
def test_the_same_nuclei_have_the_same_focus_at_any_magnification(pixel_um: float, rel: float, is_known: bool) -> None:
    def focus(pixel_um: float) -> float:
        middles = (np.arange(round(60 / pixel_um)) + 0.5) * pixel_um  # a field of 60 um with four nuclei of 15 um
        inside = np.hypot(*np.meshgrid(*[(middles % 30) - 15] * 2)) < 7.5
        blurred = ndimage.gaussian_filter(500.0 + 2000 * inside, 0.8 / pixel_um)
        labels = label(inside)
        pixels, centres = blurred[None].astype(np.uint16), measure(labels).centres
        return measure_quality(pixels, 0, labels, centres, pixel_um if is_known else None)[1].focus

    assert focus(pixel_um) == pytest.approx(focus(0.5), rel=rel) and 0.12 < focus(0.5) < 0.21


def test_a_size_of_a_pixel_that_is_far_too_small_does_not_blur_nuclei_away() -> None:
    inside = NucleusPixels.of(np.pad(np.ones((20, 20), int), 5))
    assert step_px(inside, 0.0001) == pytest.approx(0.1 * 2 * np.sqrt(400 / np.pi))


@pytest.mark.parametrize("ceiling", CEILINGS)
def test_pixels_at_a_cameras_highest_value_are_saturated(ceiling: int) -> None:
    image = np.array([[0, ceiling - 1], [ceiling, ceiling]], np.uint16)
    assert ceiling_of(np.bincount(image.ravel())) == ceiling
    assert ceiling_of(np.bincount(np.minimum(image, ceiling - 2).ravel())) is None


def test_saturation_is_a_share_of_the_nucleus_in_the_worst_channel() -> None:
    labels = np.pad(np.ones((4, 4), int), 2)
    other = np.zeros((8, 8), np.uint16)
    other[2:4, 2:6] = 4095
    nuclei, field = measure_quality(
        np.stack([labels.astype(np.uint16) * 100, other]), 0, labels, np.array([[3.5, 3.5]])
    )
    assert nuclei.saturated.tolist() == [0.5]
    assert field.saturated == 8 / 64


def test_distances_agree_with_loops() -> None:
    centres = generator("tests", "distances").uniform(0, 50, (30, 2))
    apart = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    np.fill_diagonal(apart, np.inf)
    assert np.allclose(distances_to_others(centres, 1)[:, 0], apart.min(axis=1))
    by_loops = [min(row, 60 - row, column, 80 - column) for row, column in centres]
    assert np.allclose(edge_distances(centres, (61, 81)), by_loops)
    assert np.isnan(distances_to_others(centres[:1], 1)).all()


def test_a_bright_fibre_counts_as_bright_outside_nuclei_and_nuclei_do_not() -> None:
    image, labels = discs()
    centres = measure(labels).centres
    clean = measure_quality(image[None].astype(np.uint16), 0, labels, centres)[1]
    image[5:9] = 6000
    assert clean.bright_outside < 0.005
    assert measure_quality(image[None].astype(np.uint16), 0, labels, centres)[1].bright_outside == pytest.approx(
        4 / 120, rel=0.1
    )


def test_brightness_is_above_the_fields_background() -> None:
    image, labels = discs(sigma=0.01)
    nuclei, field = measure_quality(image[None].astype(np.uint16), 0, labels, measure(labels).centres)
    assert field.background == 500 and nuclei.brightness == pytest.approx(2000)


def test_an_empty_field_has_no_nuclei_to_measure() -> None:
    noise = generator("tests", "none").integers(0, 100, (2, 30, 30)).astype(np.uint16)
    nuclei, field = measure_quality(noise, 0, np.zeros((30, 30), np.int32), np.empty((0, 2)))
    assert all(len(values) == 0 for values in vars(nuclei).values())
    assert np.isnan(field.focus) and field.covered == field.bright_outside == 0


@pytest.mark.parametrize("count", [1, 2, 7, 1000])
def test_the_median_by_counting_is_the_median_by_sorting(count: int) -> None:
    values = generator("tests", "median", count).integers(0, 250, count)
    assert median_of_counts(np.bincount(values)) == np.median(values)


def test_hulls_of_all_nuclei_at_once_are_those_of_each_by_qhull() -> None:
    noise = ndimage.gaussian_filter(generator("tests", "hulls").random((150, 150)), 2.5)
    labels = np.asarray(label(noise > np.quantile(noise, 0.7)))
    labels[labels == 2] = 1  # a nucleus in two pieces
    found = hull_areas(Runs.of(labels))
    for number in range(1, labels.max() + 1):
        corners = [pixel + step for pixel in np.argwhere(labels == number) for step in np.ndindex(2, 2)]
        assert found[number - 1] == pytest.approx(ConvexHull(corners).volume if corners else 0.0)


def test_measures_of_a_field_agree_with_pixels_counted_one_by_one() -> None:
    pixels = generator("tests", "field").integers(0, 4096, (2, 40, 50)).astype(np.uint16)
    labels = np.asarray(label(ndimage.gaussian_filter(pixels[0].astype(float), 3) > 2100))
    nuclei, field = measure_quality(pixels, 0, labels, measure(labels).centres)
    outside, median = pixels[0][labels == 0], np.median(nuclei.brightness)
    assert field.background == np.median(outside) and field.covered == pytest.approx((labels > 0).mean())
    assert field.bright_outside == (outside > field.background + median).sum() / labels.size
    means = ndimage.mean(pixels[0], labels, np.arange(1, labels.max() + 1))
    assert nuclei.brightness == pytest.approx(means - field.background)
