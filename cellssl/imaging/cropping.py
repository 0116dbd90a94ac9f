"""cropping: a field (channel, row, column) and the centres of its cells in -> one window of pixels around each out.

The middle of a window is never further than half a pixel from the centre. A window of side `crop_px` starts at
ceil(centre - crop_px / 2) in rows and in columns. So a cell centred on pixel (r, c) has that pixel at index
crop_px // 2, and a window with an even side shows one pixel more above and to the left of it than below and to the
right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Bool, Int64, Real, UInt16

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
    starts = window_starts(centres, crop_px)
    inside = windows_inside(centres, crop_px, field.shape[1:])
    if border == "drop" and not inside.all():
        raise ValueError(f"{(~inside).sum()} windows leave the field; drop their cells before cropping")
    for (top, left), is_inside in zip(starts, inside, strict=True):
        if is_inside:
            yield field[:, top : top + crop_px, left : left + crop_px]
        elif border == "pad":
            yield _padded(field, int(top), int(left), crop_px)
        else:
            rows = _mirrored(np.arange(top, top + crop_px), field.shape[1])
            columns = _mirrored(np.arange(left, left + crop_px), field.shape[2])
            yield field[:, rows[:, None], columns]


def window_starts(centres: Real[np.ndarray, "n 2"], crop_px: int) -> Int64[np.ndarray, "n 2"]:
    """Return the first row and column of every window; negative where it begins outside the field."""
    starts: np.ndarray = np.ceil(centres - crop_px / 2)
    return starts.astype(np.int64)


def windows_inside(
    centres: Real[np.ndarray, "n 2"], crop_px: int, field_shape: tuple[int, ...] | Real[np.ndarray, "n 2"]
) -> Bool[np.ndarray, "n"]:
    """Return for every centre whether its whole window lies in a field of (rows, columns), or in a field of its own."""
    starts = window_starts(centres, crop_px)
    return np.asarray(((starts >= 0) & (starts + crop_px <= np.asarray(field_shape))).all(axis=1))


def _mirrored(index: Int64[np.ndarray, "i"], size: int) -> Int64[np.ndarray, "i"]:
    """Reflect indices into 0 .. size - 1."""
    period = max(2 * (size - 1), 1)
    index = index % period
    return np.minimum(index, period - index) if size > 1 else np.zeros_like(index)


def _padded(
    field: UInt16[np.ndarray, "c y x"], top: int, left: int, crop_px: int
) -> UInt16[np.ndarray, "c crop_px crop_px"]:
    window = np.zeros((len(field), crop_px, crop_px), np.uint16)
    inside = field[:, max(top, 0) : max(top + crop_px, 0), max(left, 0) : max(left + crop_px, 0)]
    row, column = max(-top, 0), max(-left, 0)
    window[:, row : row + inside.shape[1], column : column + inside.shape[2]] = inside
    return window


def _uint16(field: Real[np.ndarray, "c y x"]) -> UInt16[np.ndarray, "c y x"]:
    """Convert uint8 and uint16 to uint16 with unchanged values; ValueError for other types, which would lose values."""
    if field.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a field must be uint8 or uint16 to be cropped without loss, got {field.dtype}")
    return field.astype(np.uint16, copy=False)
