"""crop_masks: a label image, numbers of cells and their windows in, crops in which only the own cell is left, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.cropping import window_starts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaxtyping import Bool, Int, Real, UInt16

OUTSIDE = 0
"""Grey value of the pixels outside the own cell, as DeepProfiler and CellProfiler mask: no scale is brighter there."""


def mask_crops(
    crops: UInt16[np.ndarray, "n c crop_px crop_px"], masks: Bool[np.ndarray, "n crop_px crop_px"]
) -> UInt16[np.ndarray, "n c crop_px crop_px"]:
    """Return the crops with OUTSIDE wherever their mask is false."""
    return np.where(masks[:, None], crops, np.uint16(OUTSIDE))


def own_masks(
    labels: Int[np.ndarray, "y x"], numbers: Int[np.ndarray, "n"], centres: Real[np.ndarray, "n 2"], crop_px: int
) -> Bool[np.ndarray, "n crop_px crop_px"]:
    """Return for each window, as `cropping.windows` cuts it, which of its pixels have the number of its own cell.

    Beyond the field all of it is false: the mirror image of a cell is not the cell.
    """
    masks = np.zeros((len(centres), crop_px, crop_px), bool)
    for mask, window in zip(masks, own_windows(labels, numbers, centres, crop_px), strict=True):
        mask[...] = window
    return masks


def own_windows(
    labels: Int[np.ndarray, "y x"], numbers: Int[np.ndarray, "n"], centres: Real[np.ndarray, "n 2"], window_px: int
) -> Iterator[Bool[np.ndarray, "window_px window_px"]]:
    """Yield the mask of one window at a time."""
    for number, (top, left) in zip(numbers, window_starts(centres, window_px), strict=True):
        mask = np.zeros((window_px, window_px), bool)
        inside = labels[max(top, 0) : max(top + window_px, 0), max(left, 0) : max(left + window_px, 0)]
        row, column = max(-top, 0), max(-left, 0)
        mask[row : row + inside.shape[0], column : column + inside.shape[1]] = inside == number
        yield mask
