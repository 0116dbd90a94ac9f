"""cropping: a field (channel, row, column) and the centres of its cells in -> one window of pixels around each, out.

Where a window lies: its middle is never further than half a pixel from the centre. A window of `crop_px` starts at
ceil(centre - crop_px / 2) in rows and in columns; so a cell centred on pixel (r, c) has that pixel at index
crop_px // 2, and an even window shows one pixel more above and to the left of it than below and to the right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Bool, Int64, Real, UInt16

Border = Literal["reflect", "pad", "drop"]
"""What happens where a window leaves the field: mirrored pixels, zeros, or (`drop`) no such window is asked for."""


def crop(
    field: Real[np.ndarray, "c y x"], centres: Real[np.ndarray, "n 2"], crop_px: int, border: Border = "reflect"
) -> UInt16[np.ndarray, "n c crop_px crop_px"]:
    """One window for every centre, row for row, the very pixels of the field."""
    crops = np.empty((len(centres), len(field), crop_px, crop_px), np.uint16)
    for crop, window in zip(crops, windows(field, centres, crop_px, border), strict=True):
        crop[...] = window
    return crops


def windows(
    field: Real[np.ndarray, "c y x"], centres: Real[np.ndarray, "n 2"], crop_px: int, border: Border = "reflect"
) -> Iterator[UInt16[np.ndarray, "c crop_px crop_px"]]:
    """As `crop`, one window at a time, so that they can be written to a memory map without a copy held.

    `reflect` mirrors without repeating the outermost pixel, as often as needed (numpy's "reflect"); `pad` puts zeros.
    With `drop` every window has to lie inside (ask `windows_inside` first), else ValueError.
    """
    field = _uint16(field)
    starts = window_starts(centres, crop_px)
    inside = windows_inside(centres, crop_px, field.shape[1:])
    if border == "drop" and not inside.all():
        raise ValueError(f"{(~inside).sum()} windows leave the field; drop their cells before cutting")
    for (top, left), whole in zip(starts, inside, strict=True):
        if whole:
            yield field[:, top : top + crop_px, left : left + crop_px]
        elif border == "pad":
            yield _padded(field, int(top), int(left), crop_px)
        else:
            rows = _mirrored(np.arange(top, top + crop_px), field.shape[1])
            columns = _mirrored(np.arange(left, left + crop_px), field.shape[2])
            yield field[:, rows[:, None], columns]


def window_starts(centres: Real[np.ndarray, "n 2"], crop_px: int) -> Int64[np.ndarray, "n 2"]:
    """First row and first column of every window; negative where it begins outside the field."""
    starts: np.ndarray = np.ceil(centres - crop_px / 2)
    return starts.astype(np.int64)


def windows_inside(
    centres: Real[np.ndarray, "n 2"], crop_px: int, field_shape: tuple[int, ...]
) -> Bool[np.ndarray, "n"]:
    """For every centre: does its whole window lie in a field of (rows, columns)?"""
    starts = window_starts(centres, crop_px)
    return np.asarray(((starts >= 0) & (starts + crop_px <= np.asarray(field_shape))).all(axis=1))


def _mirrored(index: Int64[np.ndarray, "i"], size: int) -> Int64[np.ndarray, "i"]:
    """Indices that walk to and fro between 0 and size - 1."""
    there_and_back = max(2 * (size - 1), 1)
    index = index % there_and_back
    return np.minimum(index, there_and_back - index) if size > 1 else np.zeros_like(index)


def _padded(
    field: UInt16[np.ndarray, "c y x"], top: int, left: int, crop_px: int
) -> UInt16[np.ndarray, "c crop_px crop_px"]:
    window = np.zeros((len(field), crop_px, crop_px), np.uint16)
    seen = field[:, max(top, 0) : max(top + crop_px, 0), max(left, 0) : max(left + crop_px, 0)]
    row, column = max(-top, 0), max(-left, 0)
    window[:, row : row + seen.shape[1], column : column + seen.shape[2]] = seen
    return window


def _uint16(field: Real[np.ndarray, "c y x"]) -> UInt16[np.ndarray, "c y x"]:
    """8- and 16-bit unsigned images as uint16, values unchanged; anything else would lose something."""
    if field.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"a field must be uint8 or uint16 to be cut without loss, got {field.dtype}")
    return field.astype(np.uint16, copy=False)
