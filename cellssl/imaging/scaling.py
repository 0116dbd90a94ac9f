"""scaling: raw 16-bit pixels in -> 8-bit pixels out, between limits that are measured once per plate and channel.

Every model, baseline and montage takes its cells from `scaled`, so that a cell has the same pixels everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cellssl.randomness import generator

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64, Real, UInt8, UInt16

    from cellssl.imaging.cell_brightness import CellBrightness
    from cellssl.randomness import Name

GREY_LEVELS = 65_536
SAME_PIXELS = frozenset({2, 3, 4, 5})
"""Values of the ALGORITHM of `segment` that left the pixels of a crop as they were before. A model that was trained
before any other value does not fit cells made since. The settings of the scale are compared one by one."""
DARKEST_SHARE = 0.05
"""Share of the cells of a field whose surrounds are so dark that they show black: what lies between cells."""
DARK_CELLS = 0.25
"""How dark cells are below the median of what lies between them, over how bright they are above it, from which on they
are taken for dark ones; a nucleus in fluorescence, with its ring, is hardly darker."""
BRIGHT_SURROUND = 0.5
"""Least share of the median between cells that is bright even where it is darkest, for cells to be taken for dark ones.
In transmitted light it is; in fluorescence, what is bright between cells is other cells, and the background is not."""
DRAWS = 200
"""Number of bootstrap draws; the standard deviation that they give is itself known to 5 %."""
MOST_DRAWN = 5_000
"""Number of cells of one draw at most; of more cells the standard deviation follows from the root of their number."""


@dataclass
class Histogram:
    """Counts of each of the 65,536 grey values per channel; exact, and small whatever the number of fields.

    Adding fields and merging histograms commute, so neither their order nor the number of workers matters.
    """

    counts: Int64[np.ndarray, "c 65536"]

    @classmethod
    def empty(cls, channels: int) -> Histogram:
        """Return a histogram without pixels."""
        return cls(np.zeros((channels, GREY_LEVELS), np.int64))

    def add(self, field: Real[np.ndarray, "c y x"]) -> None:
        """Count the pixels of one field (uint8 or uint16, all channels)."""
        if field.dtype not in (np.uint8, np.uint16) or len(field) != len(self.counts):
            raise ValueError(
                f"a field must be uint8 or uint16 with {len(self.counts)} channels, got {field.dtype} with {len(field)}"
            )
        for i, channel in enumerate(field):
            self.counts[i] += np.bincount(channel.ravel(), minlength=GREY_LEVELS)

    def merge(self, other: Histogram) -> Histogram:
        """Return the histogram of the pixels of both."""
        return Histogram(self.counts + other.counts)

    def pixels(self) -> Int64[np.ndarray, "c"]:
        """Return the number of counted pixels per channel."""
        return np.asarray(self.counts.sum(axis=1))

    def percentile(self, percent: float) -> UInt16[np.ndarray, "c"]:
        """Return per channel the smallest grey value that at least `percent` % of the pixels do not exceed.

        It is a value that occurs, so it is the same on every machine (numpy's percentile with method="inverted_cdf").
        """
        if (self.pixels() == 0).any():
            raise ValueError("a histogram without pixels has no percentile")
        below = np.cumsum(self.counts, axis=1)
        wanted = np.maximum(np.ceil(self.pixels() * (percent / 100)), 1)
        return np.asarray(np.argmax(below >= wanted[:, None], axis=1), np.uint16)


@dataclass(frozen=True)
class Limits:
    """The grey values that become 0 and 255, one per channel."""

    low: Float64[np.ndarray, "c"]
    high: Float64[np.ndarray, "c"]


def limits_of_cells(cells: CellBrightness, headroom: float) -> Limits:
    """Return black and white of some cells: of the middle half of them, so that no cell, clump or speck decides alone.

    Black is what lies between cells (of crops, `with_darkest_surrounds` first), and white `headroom` times as far above
    it as a cell is bright. Where cells are darker than their surround, as in transmitted light, both are wider apart.
    """
    bright, dark, between, middle = (
        middle_of(levels.astype(np.float64)) for levels in (cells.high, cells.low, cells.between, cells.middle)
    )
    surround = np.where(np.isnan(between), dark, between)  # cells that fill their fields leave nothing between them
    darker = np.maximum(surround - dark, 0.0)
    low, high = surround - headroom * darker, surround + headroom * np.maximum(bright - surround, darker)
    darkness = middle - dark
    is_bright_field = (darkness > DARK_CELLS * (bright - middle)) & (surround > BRIGHT_SURROUND * middle)
    darkest = np.minimum(middle - headroom * darkness, surround - darkness)  # a lamp may be weaker in the corners
    low = np.where(is_bright_field, np.minimum(low, darkest), low)
    high = np.where(is_bright_field, np.maximum(high, middle + headroom * darkness), high)
    return Limits(np.maximum(low, 0.0), high)


def sd_of_limits(cells: CellBrightness, headroom: float, *names: Name) -> Limits:
    """Return the standard deviations of black and white over bootstrap draws of the cells; nan for a single cell.

    `names` determine the draws.
    """
    n = len(cells.high)
    if n < 2:
        unknown = np.full(cells.high.shape[1], np.nan)
        return Limits(unknown, unknown)
    drawn, numbers = min(n, MOST_DRAWN), generator("scale", *names)
    limits = [limits_of_cells(cells.rows(numbers.integers(0, n, drawn)), headroom) for _ in range(DRAWS)]
    shrunk = np.sqrt(drawn / n)
    low, high = (np.std([getattr(one, name) for one in limits], axis=0, ddof=1) for name in ("low", "high"))
    return Limits(low * shrunk, high * shrunk)


def middle_of(levels: Float64[np.ndarray, "n c"]) -> Float64[np.ndarray, "c"]:
    """Return the mean of the middle half of the rows without nan; nan where there is none.

    A quarter of the cells may be anything, as for a median nearly half; but it varies less from draw to draw.
    """
    known = levels[np.isfinite(levels).all(axis=1)]
    if not len(known):
        return np.full(levels.shape[1], np.nan)
    left_out = len(known) // 4
    ordered = np.partition(known, (left_out, len(known) - left_out - 1), axis=0)
    return np.asarray(ordered[left_out : len(known) - left_out].mean(axis=0))


def with_darkest_surrounds(cells: CellBrightness, groups: Int64[np.ndarray, "n"]) -> CellBrightness:
    """Return the cells of several fields, each with the darkest of what lies between the cells of its field.

    `groups` tells the fields apart. Around most cells of a dense field lie others: only its darkest surrounds show what
    lies between them. It is one value per field, so that a field that is darker than the others does not decide alone.
    """
    between = np.full_like(cells.between, np.nan)
    by_group = np.argsort(groups, kind="stable")
    for rows in np.split(by_group, np.flatnonzero(np.diff(groups[by_group])) + 1):
        between[rows] = darkest_of(cells.between[rows])
    return replace(cells, between=between)


def darkest_of(levels: Real[np.ndarray, "n c"]) -> Float64[np.ndarray, "c"]:
    """Return the value that DARKEST_SHARE of the rows without nan do not exceed; nan where there is none."""
    known = levels[np.isfinite(levels).all(axis=1)].astype(np.float64)
    if not len(known):
        return np.full(levels.shape[1], np.nan)
    return np.asarray(np.quantile(known, DARKEST_SHARE, axis=0, method="inverted_cdf"))


def scaled(
    crops: UInt16[np.ndarray, "n c y x"], low: Real[np.ndarray, "c"], high: Real[np.ndarray, "c"]
) -> UInt8[np.ndarray, "n c y x"]:
    """Stretch every channel so that `low` becomes 0 and `high` becomes 255, round, and clip.

    A channel whose limits are equal holds no information and becomes 0.
    """
    return looked_up(crops, lookup_tables(low, high))


def looked_up(
    crops: UInt16[np.ndarray, "n c y x"], tables: UInt8[np.ndarray, "c 65536"]
) -> UInt8[np.ndarray, "n c y x"]:
    """Return the 8-bit value of every pixel: `scaled`, for who scales many batches by the same limits."""
    out = np.empty(crops.shape, np.uint8)
    for channel, table in enumerate(tables):
        for crop, result in zip(crops[:, channel], out[:, channel], strict=True):  # one crop stays in the cache
            np.take(table, crop, out=result, mode="clip")  # uint16 is never out of range; "clip" avoids a buffer
    return out


def lookup_tables(low: Real[np.ndarray, "c"], high: Real[np.ndarray, "c"]) -> UInt8[np.ndarray, "c 65536"]:
    """Return the 8-bit value of each of the 65,536 grey values, per channel."""
    low, high = np.asarray(low, np.float64)[:, None], np.asarray(high, np.float64)[:, None]
    span = np.where(high > low, high - low, np.inf)
    values: np.ndarray = np.rint(np.clip((np.arange(GREY_LEVELS) - low) / span, 0, 1) * 255)
    return values.astype(np.uint8)
