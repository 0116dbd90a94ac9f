"""noise: an image in -> the standard deviation of the noise of its pixels out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32


def pixel_noise(image: Float32[np.ndarray, "y x"]) -> float:
    """Return the standard deviation of the pixel noise, from the Laplacian's median (Immerkaer 1996).

    An image of one or two rows or columns has no Laplacian; its noise is 0.
    """
    rough = 4 * image[1:-1, 1:-1] - image[:-2, 1:-1] - image[2:, 1:-1] - image[1:-1, :-2] - image[1:-1, 2:]
    return float(np.median(np.abs(rough)) / (0.6745 * np.sqrt(20))) if rough.size else 0.0
