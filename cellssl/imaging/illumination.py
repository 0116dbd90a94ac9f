"""illumination: many fields of the same optics in -> their flat field, and fields corrected by it, out.

The method of pybbbc for BBBC021: the flat field is the mean image of a plate's wells at one site, blurred so widely
that no cell remains visible, with its darkest few pixels raised to a floor; fields are divided by it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jaxtyping import Float32, Float64, UInt16

FLOOR_PERCENT = 0.02
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
