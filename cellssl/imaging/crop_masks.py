"""crop_masks: a label image, numbers of cells and their windows in, crops in which only the own cell is left, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.cropping import nearest

if TYPE_CHECKING:
    from jaxtyping import Bool, Int, Real, UInt16

OUTSIDE = 0
"""Grey value of the pixels outside the own cell, as DeepProfiler and CellProfiler mask: no scale is brighter there."""


def mask_crops(
    crops: UInt16[np.ndarray, "n c crop_px crop_px"], masks: Bool[np.ndarray, "n crop_px crop_px"]
) -> UInt16[np.ndarray, "n c crop_px crop_px"]:
    """Return the crops with OUTSIDE wherever their mask is false."""
    return np.where(masks[:, None], crops, np.uint16(OUTSIDE))


def own_masks(
    labels: Int[np.ndarray, "y x"],
    numbers: Int[np.ndarray, "n"],
    centres: Real[np.ndarray, "n 2"],
    window_px: float,
    crop_px: int,
) -> Bool[np.ndarray, "n crop_px crop_px"]:
    """Return for each window, as `cropping.resampled` cuts it, which of its pixels have the number of its own cell.

    Beyond the field all of it is false: the mirror image of a cell is not the cell.
    """
    return np.asarray(nearest(labels, centres, window_px, crop_px, "pad") == numbers[:, None, None])
