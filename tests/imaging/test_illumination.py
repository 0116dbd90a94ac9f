"""illumination: what fields share is found and taken off, at the scale that pybbbc uses."""

import numpy as np
import pytest
from scipy import ndimage

from cellssl.imaging.illumination import FLOOR_PERCENT, SIGMA_PX, evened, mean_image, unevenness
from cellssl.randomness import generator


def vignette(rows: int = 512, columns: int = 640) -> np.ndarray:
    down, right = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return 1 - 0.4 * (down**2 + right**2)


def test_the_mean_image_is_the_mean() -> None:
    fields = generator("tests", "mean").integers(0, 65_536, (5, 8, 9)).astype(np.uint16)
    assert np.allclose(mean_image(iter(fields)), fields.mean(axis=0))
    assert mean_image(iter(())) is None


def test_the_blur_is_that_of_pybbbc_at_full_size() -> None:
    mean = 1000 * vignette(512, 640)
    slow = ndimage.gaussian_filter(mean, SIGMA_PX, mode="nearest")
    slow = np.maximum(slow, np.percentile(slow, FLOOR_PERCENT))
    assert np.allclose(unevenness(mean), slow / slow.mean(), rtol=0.01)


def test_a_lamp_that_lights_one_side_is_evened_out_and_grey_values_keep_their_size() -> None:
    ramp = np.linspace(0.5, 1.5, 3000)[None].repeat(400, axis=0)
    chance = generator("tests", "lamp")
    fields = [(3000 * ramp * chance.uniform(0.8, 1.2, ramp.shape)).astype(np.uint16) for _ in range(3)]
    uneven = unevenness(mean_image(fields))
    flat = evened(fields[0], uneven)
    left, right = flat[:, 700:1200].mean(), flat[:, 1800:2300].mean()
    assert left / right == pytest.approx(1, abs=0.05) and fields[0][:, 700:1200].mean() / right < 0.85
    assert uneven.mean() == pytest.approx(1, abs=1e-5)


def test_evening_out_never_leaves_the_range_of_16_bits() -> None:
    bright = np.full((4, 4), 60_000, np.uint16)
    assert evened(bright, np.full((4, 4), 0.5, np.float32)).tolist() == [[65_535] * 4] * 4
