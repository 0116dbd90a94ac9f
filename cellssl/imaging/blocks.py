"""blocks: an image in -> the means over its squares out, and from such a smaller image one of full size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32, Real


def block_mean(image: Real[np.ndarray, "y x"], side: int) -> Float32[np.ndarray, "small_y small_x"]:
    """Return the mean over squares of `side` pixels; an incomplete square at the bottom or on the right is cut off."""
    if side == 1:
        return np.asarray(image, np.float32)
    rows, columns = image.shape[0] // side, image.shape[1] // side
    whole = image[: rows * side, : columns * side]
    # sums of strided parts are much faster than a mean over two axes
    strips = np.array(whole[::side], np.float32)
    for row in range(1, side):
        strips += whole[row::side]
    total = strips[:, ::side].copy()
    for column in range(1, side):
        total += strips[:, column::side]
    return np.asarray(total * np.float32(1 / side**2))


def enlarge(small: Real[np.ndarray, "small_y small_x"], side: int, shape: tuple[int, ...]) -> Real[np.ndarray, "y x"]:
    """Repeat every pixel as a square of `side`; the last ones fill the shape that `block_mean` started from."""
    if side == 1:
        return small
    rows = np.minimum(np.arange(shape[0]) // side, small.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) // side, small.shape[1] - 1)
    return np.asarray(small[:, columns][rows])
