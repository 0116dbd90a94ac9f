"""scaling: limits from exact histograms, and the function from 16 to 8 bits."""

from itertools import permutations

import numpy as np
import pytest

from cellssl.imaging.scaling import Histogram, scaled
from cellssl.randomness import generator


def fields(number: int = 3, highest: int = 65_536) -> np.ndarray:
    return generator("tests", "scaling").integers(0, highest, (number, 2, 50, 60)).astype(np.uint16)


def histogram(images: np.ndarray) -> Histogram:
    result = Histogram.empty(images.shape[1])
    for image in images:
        result.add(image)
    return result


@pytest.mark.parametrize("percent", [0.0, 0.1, 50.0, 99.9, 100.0])
@pytest.mark.parametrize("highest", [65_536, 256, 3])
def test_percentiles_are_those_of_all_pixels_at_once(percent: float, highest: int) -> None:
    images = fields(highest=highest)
    known = np.percentile(images, percent, axis=(0, 2, 3), method="inverted_cdf")
    assert histogram(images).percentile(percent).tolist() == known.tolist()


def test_the_order_of_fields_and_merges_does_not_matter() -> None:
    images = fields()
    for first, second, third in permutations(images):
        merged = histogram(np.stack([first])).merge(histogram(np.stack([second, third])))
        assert (merged.counts == histogram(images).counts).all()


def test_a_histogram_without_pixels_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="without pixels"):
        Histogram.empty(2).percentile(50.0)


def test_scaling_agrees_with_the_formula() -> None:
    crops = fields()
    low, high = np.array([1_000, 20_000]), np.array([60_000, 20_777])
    stretched = (crops - low[:, None, None]) / (high - low)[:, None, None]
    assert (scaled(crops, low, high) == np.rint(255 * stretched.clip(0, 1))).all()


def test_limits_become_0_and_255_and_the_order_of_grey_values_stays() -> None:
    ramp = np.arange(65_536, dtype=np.uint16).reshape(1, 1, 256, 256)
    out = scaled(ramp, np.array([300]), np.array([40_000])).ravel()
    assert out[[0, 300, 40_000, 65_535]].tolist() == [0, 0, 255, 255]
    assert (np.diff(out.astype(int)) >= 0).all() and len(np.unique(out)) == 256


def test_eight_bit_images_with_full_limits_pass_unchanged() -> None:
    crops = fields(highest=256)
    assert (scaled(crops, np.array([0, 0]), np.array([255, 255])) == crops).all()


def test_a_channel_that_does_not_vary_becomes_zero() -> None:
    crops = fields()
    crops[:, 1] = 777
    limits = histogram(crops)
    out = scaled(crops, limits.percentile(0.1), limits.percentile(99.9))
    assert out[:, 1].max() == 0 and out[:, 0].max() == 255


def test_a_view_of_a_stack_scales_like_a_copy() -> None:
    crops = fields(number=5)
    limits = np.array([5, 5]), np.array([9_000, 50_000])
    assert (scaled(crops[::2, ::-1], *limits) == scaled(crops[::2, ::-1].copy(), *limits)).all()
