"""thumbnails: crops of cells in; small copies of them on a few JPEG sheets, with no more bytes than allowed, out.

A sheet holds three channels as the red, green and blue of its pixels, so that one sheet serves every channel alone and
all of them composed in colour, which a script of the page does.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cellssl.artifacts.crops import in_blocks

COLUMNS = 32
"""Number of cells in a row of a sheet, and of rows: a phone decodes no sheet that is much larger."""
PACKED = 3
"""Number of channels on a sheet."""
SIZES = (96, 80, 72, 64, 56, 52, 48, 44, 40, 36, 32, 28, 24, 20, 16)
"""Sides of a small copy, in pixels, the best first."""
QUALITIES = (85, 75, 60)
"""Qualities of JPEG that are tried with every side, the best first."""
MOST_REDUCED = 3
"""A crop that would be reduced more than this is cut to its middle: the cell would be too small to be seen."""
SAMPLE = 256
"""Number of cells by which the bytes are estimated."""


class Crops(Protocol):
    """Crops of cells that are read on demand, as `ScaledCrops` are."""

    shape: tuple[int, ...]

    def __len__(self) -> int: ...

    def read(self, rows: np.ndarray) -> UInt8[np.ndarray, "n c y x"]:
        """Return the crops of some cells."""

    def read_once(self, rows: np.ndarray) -> UInt8[np.ndarray, "n c y x"]:
        """Return the crops of some cells that are not read again."""


@dataclass(frozen=True)
class Thumbnails:
    """Small copies of cells, `COLUMNS` to a row of a sheet and `COLUMNS` rows to a sheet, in the order of the cells."""

    side_px: int
    """Side of a small copy."""
    window_px: int
    """Side of the middle of the crop that it shows, in pixels of the crop."""
    sheets: Sequence[Sequence[bytes]]
    """For every three channels the JPEGs of all cells."""

    @property
    def page_bytes(self) -> int:
        """The bytes that all sheets take on a page, as base64."""
        return sum(_page_bytes(sheet) for sheets in self.sheets for sheet in sheets)


def thumbnails(crops: Crops, limit_bytes: int) -> Thumbnails | None:
    """Return the largest and best small copies that take at most `limit_bytes` on a page; None where none do."""
    sample = crops.read(np.unique(np.linspace(0, len(crops) - 1, SAMPLE).astype(int)))
    for side_px, quality in _choices(crops.shape[-1]):
        if _estimated_bytes(sample, len(crops), side_px, quality) <= limit_bytes:
            made = _made(crops, side_px, quality)
            if made.page_bytes <= limit_bytes:
                return made
    return None


def shrunk(crops: UInt8[np.ndarray, "n c y x"], side_px: int) -> UInt8[np.ndarray, "n c side side"]:
    """Return small copies of the middle of crops."""
    window = window_px(crops.shape[-1], side_px)
    start = (crops.shape[-1] - window) // 2
    middle = crops[..., start : start + window, start : start + window]
    if window == side_px:
        return middle
    small = np.empty((*crops.shape[:2], side_px, side_px), np.uint8)
    for place in np.ndindex(*crops.shape[:2]):
        picture = Image.fromarray(np.ascontiguousarray(middle[place]))
        small[place] = np.asarray(picture.resize((side_px, side_px), Image.Resampling.HAMMING))
    return small


def window_px(crop_px: int, side_px: int) -> int:
    """Return the side of the middle of a crop that is shown."""
    return min(crop_px, MOST_REDUCED * side_px)


def _choices(crop_px: int) -> Iterator[tuple[int, int]]:
    """Yield sides and qualities, the best first; no copy is larger than the crop."""
    for side_px in dict.fromkeys(min(side, crop_px) for side in SIZES):
        for quality in QUALITIES:
            yield side_px, quality


def _estimated_bytes(sample: UInt8[np.ndarray, "n c y x"], cells: int, side_px: int, quality: int) -> float:
    """Return about how many bytes all cells would take on a page."""
    of_sample = sum(_page_bytes(sheet) for sheet in _sheets(shrunk(sample, side_px), quality))
    return of_sample * cells / len(sample)


def _made(crops: Crops, side_px: int, quality: int) -> Thumbnails:
    """Return the small copies of all cells, made sheet by sheet, so that few crops are in memory."""
    by_sheet = []
    for rows in in_blocks(np.arange(len(crops)), COLUMNS * COLUMNS):
        small = [shrunk(crops.read_once(part), side_px) for part in in_blocks(rows, SAMPLE)]
        by_sheet.append(_sheets(np.concatenate(small), quality))
    return Thumbnails(side_px, window_px(crops.shape[-1], side_px), list(zip(*by_sheet, strict=True)))


def _sheets(small: UInt8[np.ndarray, "n c y x"], quality: int) -> list[bytes]:
    """Return one JPEG for every three channels of some cells."""
    return [_jpeg(_tiled(small[:, first : first + PACKED]), quality) for first in range(0, small.shape[1], PACKED)]


def _tiled(small: UInt8[np.ndarray, "n c y x"]) -> UInt8[np.ndarray, "sheet_y sheet_x packed"]:
    """Return cells side by side in rows of `COLUMNS`; two channels get a third without light, one stays alone."""
    cells, channels, side, _ = small.shape
    packed = 1 if channels == 1 else PACKED
    columns, rows = min(cells, COLUMNS), -(-cells // COLUMNS)
    tiles = np.zeros((rows * columns, packed, side, side), np.uint8)
    tiles[:cells, :channels] = small
    grid = tiles.reshape(rows, columns, packed, side, side)
    return grid.transpose(0, 3, 1, 4, 2).reshape(rows * side, columns * side, packed)


def _jpeg(sheet: UInt8[np.ndarray, "y x packed"], quality: int) -> bytes:
    """Return a JPEG whose channels are compressed each by itself: a stain leaves no trace in the picture of another."""
    buffer = io.BytesIO()
    picture = Image.fromarray(sheet[..., 0] if sheet.shape[-1] == 1 else sheet)
    picture.save(buffer, format="jpeg", quality=quality, subsampling=0, keep_rgb=True)  # `optimize` fails on noise
    return buffer.getvalue()


def _page_bytes(file: bytes) -> int:
    return -(-len(file) // 3) * 4
