"""cropping: a field (channel, row, column) and the centres of its cells in -> one window of pixels around each out.

The middle of a window is never further than half a pixel from the centre. A window of side `crop_px` starts at
ceil(centre - crop_px / 2) in rows and in columns. So a cell centred on pixel (r, c) has that pixel at index
crop_px // 2, and a window with an even side shows one pixel more above and to the left of it than below and to the
right. A window that is resampled starts in the same way, and its side need not be a whole number of pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Bool, Int64, Real, Shaped, UInt16
    from scipy.sparse import csr_array

Border = Literal["reflect", "pad", "drop"]
"""What fills a window beyond the field: mirrored pixels (`reflect`) or zeros (`pad`); `drop` forbids such windows."""


def crop(
    field: Real[np.ndarray, "c y x"], centres: Real[np.ndarray, "n 2"], crop_px: int, border: Border = "reflect"
) -> UInt16[np.ndarray, "n c crop_px crop_px"]:
    """Return one window per centre, in the order of the centres, with unchanged pixel values."""
    crops = np.empty((len(centres), len(field), crop_px, crop_px), np.uint16)
    for crop, window in zip(crops, windows(field, centres, crop_px, border), strict=True):
        crop[...] = window
    return crops


def windows(
    field: Real[np.ndarray, "c y x"], centres: Real[np.ndarray, "n 2"], crop_px: int, border: Border = "reflect"
) -> Iterator[UInt16[np.ndarray, "c crop_px crop_px"]]:
    """Yield one window at a time, so that they can be written to a memory map without a copy in memory.

    `reflect` mirrors without repeating the outermost pixel, as often as needed (numpy's "reflect"); `pad` fills with
    zeros. With `drop` every window must lie inside (call `windows_inside` first), else ValueError.
    """
    field = _uint16(field)
    if border == "drop" and not (inside := windows_inside(centres, crop_px, field.shape[1:])).all():
        raise ValueError(f"{(~inside).sum()} windows leave the field; drop their cells before cropping")
    starts = window_starts(centres, crop_px)
    larger, first = _with_margin(field, starts, crop_px, border)
    for top, left in starts - first:
        yield larger[:, top : top + crop_px, left : left + crop_px]


def resampled(
    field: Real[np.ndarray, "c y x"],
    centres: Real[np.ndarray, "n 2"],
    window_px: float,
    crop_px: int,
    border: Border = "reflect",
) -> UInt16[np.ndarray, "n c crop_px crop_px"]:
    """Return one window of `window_px` pixels per centre, resampled to `crop_px`.

    Where that shrinks it, every pixel is the mean over its area, which is exact; where it enlarges it, pixels are
    interpolated linearly. Sums are those of a few numbers in a fixed order, so that they do not depend on threads.
    """
    if math.isclose(window_px, crop_px, rel_tol=1e-9):
        return crop(field, centres, crop_px, border)
    if border == "drop" and not windows_inside(centres, window_px, field.shape[1:]).all():
        raise ValueError("a window leaves the field; drop its cell before cropping")
    starts = window_starts(centres, window_px) - 1
    weights = _shares_of_areas(window_px, crop_px) if window_px > crop_px else _linear_weights(window_px, crop_px)
    side_px = weights.shape[1]
    larger, first = _with_margin(_uint16(field), starts, side_px, border)
    crops = np.empty((len(centres), len(field), crop_px, crop_px), np.uint16)
    for crop_, (top, left) in zip(crops, starts - first, strict=True):
        for channel, plane in zip(crop_, larger, strict=True):
            window = plane[top : top + side_px, left : left + side_px].astype(np.float64)
            channel[...] = np.floor((weights @ (weights @ window).T).T + 0.5)
    return crops


def nearest(
    plane: Shaped[np.ndarray, "y x"], centres: Real[np.ndarray, "n 2"], window_px: float, crop_px: int, border: Border
) -> Shaped[np.ndarray, "n crop_px crop_px"]:
    """Return the windows of `resampled` from a plane of labels: the value of the pixel in which every one lies."""
    starts = window_starts(centres, window_px)
    larger, first = _with_margin(plane[None], starts, math.ceil(window_px), border)
    middles = ((np.arange(crop_px) + 0.5) * (window_px / crop_px)).astype(np.int64)
    windows_ = [larger[0][(top + middles)[:, None], left + middles] for top, left in starts - first]
    return np.array(windows_, plane.dtype).reshape(len(centres), crop_px, crop_px)


def _with_margin(
    field: Shaped[np.ndarray, "c y x"], starts: Int64[np.ndarray, "n 2"], side_px: int, border: Border
) -> tuple[Shaped[np.ndarray, "c h w"], Int64[np.ndarray, "2"]]:
    """Return the field with as much around it as windows of this side need; and the row and column where it begins."""
    sides = np.asarray(field.shape[1:])
    first = starts.min(axis=0, initial=0)
    last = np.maximum(starts.max(axis=0, initial=0) + side_px, sides)
    around = np.stack([-first, last - sides], axis=1)
    if not around.any():
        return field, first
    if border == "pad" or (around < sides[:, None]).all():
        return np.pad(field, [(0, 0), *around], mode="constant" if border == "pad" else "reflect"), first
    rows, columns = (  # a field that is smaller than a window is mirrored more than once
        _mirrored(np.arange(begin, end), side) for begin, end, side in zip(first, last, field.shape[1:], strict=True)
    )
    return field[:, rows[:, None], columns], first


def _shares_of_areas(window_px: float, crop_px: int) -> csr_array:
    """Return the share that every pixel of a window has in every pixel of its crop, along one axis.

    Like `_linear_weights`, the columns begin one pixel before the window, and the same ones go for rows and columns.
    """
    from scipy.sparse import csr_array

    edges = np.arange(crop_px + 1) * (window_px / crop_px) + 1
    pixels = np.arange(math.ceil(window_px) + 2)
    shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return csr_array(np.maximum(shares, 0) / np.diff(edges)[:, None])


def _linear_weights(window_px: float, crop_px: int) -> csr_array:
    """Return the weights of the two pixels between whose middles that of a pixel of the crop lies, along one axis."""
    from scipy.sparse import csr_array

    at = (np.arange(crop_px) + 0.5) * (window_px / crop_px) + 0.5
    distances = np.abs(at[:, None] - np.arange(math.ceil(window_px) + 2))
    return csr_array(np.maximum(1 - distances, 0))


def window_starts(
    centres: Real[np.ndarray, "n 2"], crop_px: float | Real[np.ndarray, "n 1"]
) -> Int64[np.ndarray, "n 2"]:
    """Return the first row and column of every window; negative where it begins outside the field."""
    starts: np.ndarray = np.ceil(centres - crop_px / 2)
    return starts.astype(np.int64)


def windows_inside(
    centres: Real[np.ndarray, "n 2"],
    crop_px: float | Real[np.ndarray, "n"],
    field_shape: tuple[int, ...] | Real[np.ndarray, "n 2"],
) -> Bool[np.ndarray, "n"]:
    """Return for every centre whether its whole window lies in a field of (rows, columns), or in a field of its own."""
    sides = np.broadcast_to(crop_px, len(centres))[:, None]
    starts = window_starts(centres, sides)
    return np.asarray(((starts >= 0) & (starts + sides <= np.asarray(field_shape))).all(axis=1))


def _mirrored(index: Int64[np.ndarray, "i"], size: int) -> Int64[np.ndarray, "i"]:
    """Reflect indices into 0 .. size - 1."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return np.minimum(index, period - index) if size > 1 else np.zeros_like(index)


def _uint16(field: Real[np.ndarray, "c y x"]) -> UInt16[np.ndarray, "c y x"]:
    """Convert uint8 and uint16 to uint16 with unchanged values; ValueError for other types, which would lose values."""
    if field.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a field must be uint8 or uint16 to be cropped without loss, got {field.dtype}")
    return field.astype(np.uint16, copy=False)
