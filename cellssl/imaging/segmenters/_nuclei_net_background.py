"""_nuclei_net_background: a field and its labels in -> the level and the noise of the background at every pixel out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.blocks import interpolate
from cellssl.imaging.labels import typical_diameter_px

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int32

TILE_DIAMETERS = 6.0  # side of the tiles in which the background is judged, in diameters of nuclei
SMALLEST_TILE_PX = 64
OUTLIERS = 4.0  # in standard deviations: what differs more from a tile's background is none of it
MOST_SPREAD = 5.0  # times that of the median tile; light that is 25 times as strong has such noise
MIN_TILE_SHARE = 0.1  # of a tile that must be background


@dataclass(frozen=True)
class Background:
    """The level and the standard deviation of the background at every pixel."""

    level: Float32[np.ndarray, "y x"]
    noise: Float32[np.ndarray, "y x"]


def local_background(light: Float32[np.ndarray, "y x"], labels: Int32[np.ndarray, "y x"]) -> Background:
    """Measure what lies between nuclei in square tiles a few nuclei wide, and interpolate between them.

    A tile of which nuclei cover nearly everything, or that is far more uneven than most, takes the values of the
    nearest other tile.
    """
    from scipy import ndimage

    tile_px = max(TILE_DIAMETERS * typical_diameter_px(labels), SMALLEST_TILE_PX)
    stride = max(int(tile_px) // 48, 1)  # some 2,000 pixels are enough for a median
    counts = [max(round(side / tile_px), 1) for side in light.shape]
    levels, spreads = np.full(counts, np.nan), np.full(counts, np.nan)
    rows, columns = (
        np.linspace(0, side, count + 1).astype(int) for side, count in zip(light.shape, counts, strict=True)
    )
    for i, j in np.ndindex(*counts):
        place = np.s_[rows[i] : rows[i + 1] : stride, columns[j] : columns[j + 1] : stride]
        values, outside = light[place], labels[place] == 0
        if outside.sum() >= max(MIN_TILE_SHARE * outside.size, 16):
            levels[i, j], spreads[i, j] = _level_and_spread(values, outside)
    known = np.isfinite(levels)
    if known.any():  # beside a very bright object the tile shows its halo, and hides the nuclei around it
        known &= spreads <= MOST_SPREAD * np.median(spreads[known])
    if not known.any():
        outside = labels == 0
        levels[:], spreads[:] = _median_and_spread(light[outside]) if outside.any() else (float(light.min()), 0.0)
    elif not known.all():
        nearest = tuple(ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True))
        levels, spreads = levels[nearest], spreads[nearest]
    sides = tuple(side / count for side, count in zip(light.shape, counts, strict=True))
    return Background(interpolate(levels, light.shape, sides), interpolate(spreads, light.shape, sides))


def _level_and_spread(tile: Float32[np.ndarray, "y x"], background: Bool[np.ndarray, "y x"]) -> tuple[float, float]:
    """Return the level in the middle of a tile and the spread around the plane through its background."""
    rows, columns = np.nonzero(background)
    values = tile[background].astype(np.float64)
    points = np.stack([np.ones(len(values)), rows - tile.shape[0] / 2, columns - tile.shape[1] / 2], axis=1)
    middle, spread = _median_and_spread(values)
    near = np.abs(values - middle) <= OUTLIERS * spread  # bright specks must not tilt the plane
    for _ in range(2):
        if near.sum() < 16:
            break
        plane = np.linalg.lstsq(points[near], values[near])[0]
        rest = values - points @ plane
        offset, spread = _median_and_spread(rest)
        middle, near = float(plane[0]) + offset, np.abs(rest - offset) <= OUTLIERS * spread
    return middle, spread


def _median_and_spread(values: Float[np.ndarray, "i"]) -> tuple[float, float]:
    """Return the median, and the standard deviation from the median absolute deviation."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))
