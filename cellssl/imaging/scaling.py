"""scaling: raw 16-bit pixels in -> 8-bit pixels out, between limits that are measured once per plate and channel.

Every model, baseline and montage takes its cells from `scaled`, so that a cell has the same pixels everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int64, Real, UInt8, UInt16

GREY_LEVELS = 65_536
SAME_PIXELS = frozenset({2, 3, 4})
"""Values of the ALGORITHM of `segment` that left the pixels of a crop, and their scale, as they were before. A model
that was trained before any other value does not fit cells made since."""


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
