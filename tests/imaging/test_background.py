"""background: the fitted surface follows slopes and glows, and passes below nuclei of any size and number."""

import numpy as np
import pytest
from microscopes import CONDITIONS, OBJECTIVES, Objective, blank, grow, photograph

from cellssl.imaging.background import background_surface
from cellssl.imaging.blocks import block_mean, enlarge

NOISE = 30.0  # standard deviation of a pixel of the made-up background
SLOPES = [name for name in CONDITIONS if name.startswith(("slope", "vignette"))]


@pytest.mark.parametrize("shape", [(256, 320), (200, 400)])
@pytest.mark.parametrize("name", SLOPES)
def test_the_surface_of_a_blank_well_is_its_background(name: str, shape: tuple[int, int]) -> None:
    truth = CONDITIONS[name](np.full(shape, 500.0))
    assert np.abs(background_surface(CONDITIONS[name](blank(shape))) - truth).max() < 3 * NOISE


@pytest.mark.parametrize("name", SLOPES)
def test_the_surface_passes_below_dense_nuclei(name: str) -> None:
    image = photograph(grow(220, 256, 320, diameter_um=14), OBJECTIVES["10x"]).image
    truth = CONDITIONS[name](np.full(image.shape, 510.0))
    assert np.abs(background_surface(CONDITIONS[name](image)) - truth).max() < 2 * NOISE


def test_the_surface_does_not_rise_into_nuclei_of_250_pixels() -> None:
    image = photograph(grow(22, 65, 80), Objective(0.0625, 1.4)).image
    assert background_surface(image).max() < 510 + 0.15 * 1350


def test_means_over_squares_are_enlarged_to_the_size_before() -> None:
    image = np.arange(35, dtype=np.uint16).reshape(5, 7)
    means = block_mean(image, 2)
    assert means.tolist() == [[4, 6, 8], [18, 20, 22]]
    assert enlarge(means, 2, image.shape)[[0, 1, 4]][:, [0, 5, 6]].tolist() == [[4, 8, 8], [4, 8, 8], [18, 22, 22]]
