"""illumination: the shared flat field is estimated and corrected, at the scale that pybbbc uses."""

import numpy as np
import pytest
from scipy import ndimage

from cellssl.imaging.illumination import FLOOR_PERCENT, correct_illumination, estimate_flatfield, mean_image
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
