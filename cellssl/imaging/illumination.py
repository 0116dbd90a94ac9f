"""illumination: many fields of the same optics in -> their flat field, corrected fields, and whether that pays, out.

The method of pybbbc for BBBC021: the flat field is the mean image of a plate's wells at one site, blurred so widely
that no cell remains visible, with its darkest few pixels raised to a floor; fields are divided by it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaxtyping import Float32, Float64, Int, Real, UInt16

FLOOR_PERCENT = 0.02
GRID = 4  # tiles along a side, in which the background of a field is compared with that of others
MIN_FIELDS = 8  # of one site: in the mean of fewer, single cells are visible
MIN_SHARE_OF_BACKGROUND, MIN_SHARE_OF_NUCLEI = 0.3, 0.25  # by which the background must vary to be worth a correction
VISIBLE_SHARE = 0.05  # of the light of nuclei, below which no variation of the background counts
MIN_AGREEMENT = 0.7  # share of the variation of the backgrounds of single fields that they have in common
SHRINK = 8  # a blur this wide gives the same on a smaller image, 64 times as fast


def mean_image(fields: Iterable[UInt16[np.ndarray, "y x"]]) -> Float64[np.ndarray, "y x"] | None:
    """Return the mean of every pixel over the fields of the most frequent size; None without fields.

    One field at a time is in memory.
    """
    totals: dict[tuple[int, ...], np.ndarray] = {}
    counts: Counter[tuple[int, ...]] = Counter()
    for field in fields:
        totals[field.shape] = totals.get(field.shape, 0.0) + field.astype(np.float64)
        counts[field.shape] += 1
    if not counts:
        return None
    size, count = counts.most_common(1)[0]
    return totals[size] / count


def estimate_flatfield(mean: Float64[np.ndarray, "y x"], blur_px: float) -> Float32[np.ndarray, "y x"]:
    """Return the image to divide fields by; its mean is 1, so that grey values keep their size."""
    from scipy import ndimage

    rows, columns = mean.shape
    padded = np.pad(mean, ((0, -rows % SHRINK), (0, -columns % SHRINK)), mode="edge")
    small = padded.reshape(padded.shape[0] // SHRINK, SHRINK, -1, SHRINK).mean(axis=(1, 3))
    small = ndimage.gaussian_filter(small, blur_px / SHRINK, mode="nearest")
    smooth = ndimage.zoom(small, SHRINK, order=1, grid_mode=True, mode="nearest")[:rows, :columns]
    smooth = np.maximum(smooth, max(float(np.percentile(smooth, FLOOR_PERCENT)), 1e-6))
    return np.asarray(smooth / smooth.mean(), np.float32)


def correct_illumination(
    field: UInt16[np.ndarray, "y x"], flatfield: Float32[np.ndarray, "y x"]
) -> UInt16[np.ndarray, "y x"]:
    """Divide the field by its flat field, round, and clip at the highest value of 16 bits."""
    return np.asarray(np.clip(np.rint(field / flatfield), 0, 65_535), np.uint16)


@dataclass(frozen=True)
class SharedBackground:
    """A background that fields have in common."""

    fields: int
    """Number of fields that were compared."""
    variation: float
    """Grey values between its darkest and its brightest part."""


def background_grid(image: Real[np.ndarray, "y x"], labels: Int[np.ndarray, "y x"]) -> Float32[np.ndarray, "GRID GRID"]:
    """Return the median outside nuclei in every tile of a field; nan for a tile that nuclei fill."""
    grid = np.full((GRID, GRID), np.nan, np.float32)
    for place in np.ndindex(GRID, GRID):
        # every fourth row and column is enough for a median
        tile = tuple(
            slice(at * side // GRID, (at + 1) * side // GRID, 4) for at, side in zip(place, image.shape, strict=True)
        )
        outside = image[tile][labels[tile] == 0]
        if len(outside):
            grid[place] = np.median(outside)
    return grid


def shared_background(grids: Float32[np.ndarray, "field GRID GRID"], nuclei: float) -> SharedBackground | None:
    """Return the background that fields of one site share, None where it is even, or each field has its own.

    `nuclei` is how far nuclei typically exceed the background, in grey values; nan where there are none. A meniscus
    that lies elsewhere in every field leaves little in the median over fields, so fields do not agree with it.
    """
    grids = grids[np.isfinite(grids).all(axis=(1, 2))].astype(np.float64)
    if len(grids) < MIN_FIELDS or not nuclei > 0:
        return None
    level = np.median(grids, axis=(1, 2), keepdims=True)
    own = grids - level
    shared = np.median(own, axis=0)
    variation = float(np.ptp(shared))
    # a field's own share is what is left when the shared background is subtracted
    agreement = 1 - float(np.median(np.square(own - shared).mean(axis=(1, 2))) / max(np.square(shared).mean(), 1e-12))
    # where the background is nearly black, a large share of it is nothing, and dividing by it would ruin the nuclei
    least = max(
        min(MIN_SHARE_OF_BACKGROUND * float(np.median(level)), MIN_SHARE_OF_NUCLEI * nuclei), VISIBLE_SHARE * nuclei
    )
    if agreement < MIN_AGREEMENT or variation < least:
        return None
    return SharedBackground(len(grids), variation)
