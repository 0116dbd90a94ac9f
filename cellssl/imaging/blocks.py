"""blocks: an image in -> the means over its squares out; and from such a smaller image one of full size out."""

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


def block_mean_of_all(image: Real[np.ndarray, "y x"], side: int) -> Float32[np.ndarray, "small_y small_x"]:
    """Return the same with all pixels: the last row and column are repeated to complete squares."""
    rows, columns = (-length % side for length in image.shape)
    return block_mean(np.pad(image, ((0, rows), (0, columns)), mode="edge"), side)


def interpolate(
    small: Real[np.ndarray, "small_y small_x"], shape: tuple[int, ...], sides: tuple[float, ...]
) -> Float32[np.ndarray, "y x"]:
    """Interpolate linearly between the middles of tiles with these heights and widths in pixels.

    Beyond the outermost middles it is level.
    """
    tall = _interpolated(np.asarray(small, np.float32), sides[0], shape[0])
    return np.ascontiguousarray(_interpolated(np.ascontiguousarray(tall.T), sides[1], shape[1]).T)


def _interpolated(rows: Float32[np.ndarray, "count other"], side: float, length: int) -> Float32[np.ndarray, "n other"]:
    """Return `length` rows, interpolated between rows that are `side` apart."""
    place = np.clip((np.arange(length) + 0.5) / side - 0.5, 0, len(rows) - 1)
    first = np.minimum(place.astype(np.int64), max(len(rows) - 2, 0))
    share = (place - first).astype(np.float32)[:, None]
    step = np.diff(rows, axis=0, append=rows[-1:])
    return np.asarray(rows[first] + share * step[first], np.float32)


def enlarge(small: Real[np.ndarray, "small_y small_x"], side: int, shape: tuple[int, ...]) -> Real[np.ndarray, "y x"]:
    """Repeat every pixel as a square of `side`; the last ones fill the shape that `block_mean` started from."""
    if side == 1:
        return small
    rows = np.minimum(np.arange(shape[0]) // side, small.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) // side, small.shape[1] - 1)
    return np.asarray(small[:, columns][rows])
