"""cell_brightness: a field and its nuclei, or finished crops, in; how bright every cell is, and what lies between, out.

A cell is its nucleus and a ring around it, or the middle of its crop. Both are measured alike, so that the intensity
scale of a plate is about the same from its fields and from crops of its cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.labels import typical_diameter_px

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int, Int32, Int64, UInt

HIGH_PERCENTILE = 99.0
"""Percentile of a cell's own pixels that is its brightness: single hot pixels and specks of dust do not count."""
LOW_PERCENTILE = 5.0
"""Percentile of a cell's own pixels that is its darkness; it counts where cells are darker than their surround."""
BETWEEN_PERCENTILE = 1.0
"""Percentile of the pixels between cells that becomes black, so that the noise of the background is not cut off."""
RING_DIAMETERS = 0.5
"""Width of the ring around a nucleus, in diameters of the field's median nucleus."""
MIDDLE_SHARE = 0.75
"""Diameter of the middle of a crop, as a share of its side: crops of single cells show little else."""
MIDDLE_PERCENTILE = 50.0
"""Percentile of the pixels between cells from which darkness is measured where cells are darker than their surround."""
PIXELS_ACROSS = 10
"""About so many pixels across a median nucleus are looked at, whatever the magnification; more only take time."""
ALL_BUT_ZERO = 0.8
"""Share of zeros among what lies between cells from which on it is 0, as after a mask. Fewer zeros are no image: a crop
that is filled where it leaves its field lacks at most three quarters, and a shifted channel less."""
CROP_PIXELS_ACROSS = 64
"""At least so many pixels across a crop are looked at, where it has them."""


@dataclass(frozen=True)
class CellBrightness:
    """Grey values per cell and channel; nan where there is no pixel."""

    high: Float32[np.ndarray, "n c"]
    """A high percentile of the cell's own pixels."""
    low: Float32[np.ndarray, "n c"]
    """A low percentile of the cell's own pixels."""
    between: Float32[np.ndarray, "n c"]
    """A low percentile of what lies between cells: of the whole field, or of the margin of the crop."""
    middle: Float32[np.ndarray, "n c"]
    """The median of the same pixels."""

    def rows(self, rows: np.ndarray) -> CellBrightness:
        """Return some of the cells."""
        return CellBrightness(self.high[rows], self.low[rows], self.between[rows], self.middle[rows])


def brightness_in_field(pixels: UInt[np.ndarray, "c y x"], labels: Int[np.ndarray, "y x"]) -> CellBrightness:
    """Measure the nuclei 1..n of a field, each with its ring; what lies between them has one value per channel.

    A ring has no pixel that is nearer to another nucleus. Pixels that are 0 in every channel are no image, such as the
    frame of a field that was shifted; nor are those between cells that are 0 in one channel, unless nearly all are.
    """
    diameter_px, n = typical_diameter_px(labels), int(labels.max(initial=0))
    step = max(1, int(diameter_px // PIXELS_ACROSS))
    thinned = pixels[:, step // 2 :: step, step // 2 :: step]
    owner = with_rings(labels[step // 2 :: step, step // 2 :: step], RING_DIAMETERS * diameter_px / step)
    outside = owner == 0
    own = ~outside & ~is_blank(thinned, axis=0)
    groups = owner[own] - 1
    levels = [percentiles_by_group(channel[own], groups, n, (LOW_PERCENTILE, HIGH_PERCENTILE)) for channel in thinned]
    low, high = np.stack(levels, axis=2)
    between, middle = (
        np.tile(np.array([_percentile_between(one[outside], percent) for one in thinned], np.float32), (n, 1))
        for percent in (BETWEEN_PERCENTILE, MIDDLE_PERCENTILE)
    )
    return CellBrightness(high, low, between, middle)


def brightness_in_crops(crops: UInt[np.ndarray, "n c y x"]) -> CellBrightness:
    """Measure finished crops: the cell is the disc in the middle whose diameter is three quarters of the side.

    Pixels that are 0 in every channel are no part of a cell: a window that leaves its field is often filled so, and
    what a mask has taken away. Outside, those that are 0 in one channel are no image, unless nearly all are.
    """
    step = max(1, crops.shape[-1] // CROP_PIXELS_ACROSS)
    thinned = crops[:, :, step // 2 :: step, step // 2 :: step]
    pixels = np.moveaxis(thinned.reshape(*thinned.shape[:2], -1), 1, 2).astype(np.float32)  # (n, pixel, c)
    disc = middle_disc(thinned.shape[2], thinned.shape[3]).ravel()
    own, outside = pixels[:, disc], pixels[:, ~disc]
    own[is_blank(own, axis=2)] = np.nan
    low, high = _percentiles_of_rows(own, (LOW_PERCENTILE, HIGH_PERCENTILE))
    zeros = (outside == 0).sum(axis=1)
    outside[outside == 0] = np.nan
    between, middle = _percentiles_of_rows(outside, (BETWEEN_PERCENTILE, MIDDLE_PERCENTILE))
    if outside.shape[1]:
        between[zeros >= ALL_BUT_ZERO * outside.shape[1]] = 0
        middle[zeros >= ALL_BUT_ZERO * outside.shape[1]] = 0
    return CellBrightness(high, low, between, middle)


def is_blank(pixels: np.ndarray, axis: int) -> Bool[np.ndarray, "..."]:
    """Return which pixels are 0 in every channel; `axis` is that of the channels."""
    return np.asarray(~pixels.any(axis=axis))


def middle_disc(height: int, width: int) -> Bool[np.ndarray, "y x"]:
    """Return the disc in the middle of a crop, three quarters of its shorter side across; at least one pixel."""
    rows, columns = (np.arange(side) - (side - 1) / 2 for side in (height, width))
    return np.asarray(np.hypot(rows[:, None], columns) <= max(MIDDLE_SHARE * min(height, width) / 2, 0.75))


def with_rings(labels: Int[np.ndarray, "y x"], width_px: float) -> Int32[np.ndarray, "y x"]:
    """Grow every nucleus by a ring of this width, without pixels that are nearer to another nucleus.

    The places around a pixel are looked at from the nearest one outwards, until there is a nucleus: for rings of a few
    pixels that takes a fraction of the time of a distance transform.
    """
    from scipy import ndimage

    reach = int(width_px)
    framed = np.pad(labels, reach).astype(np.int32)
    flat, columns = framed.ravel(), framed.shape[1]
    near = ndimage.maximum_filter(labels > 0, size=2 * reach + 1)
    row, column = np.nonzero(near & (labels == 0))
    open_places = (row + reach) * columns + column + reach
    grown = flat.copy()
    for down, across in _offsets(width_px):
        owner = flat[open_places + (down * columns + across)]
        grown[open_places] = owner
        open_places = open_places[owner == 0]
    return np.asarray(grown.reshape(framed.shape)[reach : reach + labels.shape[0], reach : reach + labels.shape[1]])


def _offsets(width_px: float) -> list[tuple[int, int]]:
    """Return the steps (rows, columns) that are at most so long, the shortest first."""
    steps = range(-int(width_px), int(width_px) + 1)
    inside = [(down, across) for down in steps for across in steps if 0 < math.hypot(down, across) <= width_px]
    return sorted(inside, key=lambda one: math.hypot(*one))


def percentiles_by_group(
    values: UInt[np.ndarray, "pixel"], groups: Int[np.ndarray, "pixel"], n: int, percents: tuple[float, ...]
) -> Float32[np.ndarray, "p n"]:
    """Return percentiles of the pixels of every group 0..n-1, each a value that occurs; nan for a group without pixels.

    They are numpy's with method="inverted_cdf", all groups at once: the pixels are sorted by group and value in one.
    """
    ordered = np.sort(groups.astype(np.int64) << 16 | values) & 0xFFFF
    counts = np.bincount(groups, minlength=n)
    first = np.cumsum(counts) - counts
    found = np.full((len(percents), n), np.nan, np.float32)
    for row, percent in zip(found, percents, strict=True):
        row[counts > 0] = ordered[(first + _rank(counts, percent))[counts > 0]]
    return found


def _percentile_between(values: UInt[np.ndarray, "pixel"], percent: float) -> float:
    """Return a percentile of the grey values between cells without zeros; 0 where nearly all are, nan without any."""
    known = values[values > 0]
    return 0.0 if len(values) and len(known) <= (1 - ALL_BUT_ZERO) * len(values) else _percentile(known, percent)


def _percentile(values: UInt[np.ndarray, "pixel"], percent: float) -> float:
    """Return a percentile of some grey values, counted and not sorted; nan without any."""
    if not len(values):
        return np.nan
    reached = np.cumsum(np.bincount(values))
    return float(np.searchsorted(reached, _rank(np.array(len(values)), percent) + 1))


def _percentiles_of_rows(
    pixels: Float32[np.ndarray, "n pixel c"], percents: tuple[float, ...]
) -> list[Float32[np.ndarray, "n c"]]:
    """Return percentiles over the pixels that are not nan, each a value that occurs; nan where there is none."""
    ordered = np.sort(pixels, axis=1)  # nan last
    counts = np.isfinite(pixels).sum(axis=1)
    if not pixels.shape[1]:
        return [np.full((len(pixels), pixels.shape[2]), np.nan, np.float32) for _ in percents]
    return [np.take_along_axis(ordered, _rank(counts, percent)[:, None], axis=1)[:, 0] for percent in percents]


def _rank(counts: Int64[np.ndarray, "..."], percent: float) -> Int64[np.ndarray, "..."]:
    """Return the position, from 0, of a percentile among so many ordered values."""
    return np.asarray(np.maximum(np.ceil(counts * (percent / 100)) - 1, 0), np.int64)
