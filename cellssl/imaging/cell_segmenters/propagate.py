"""propagate: nuclei and a stain of cells in, one cell per nucleus out, divided where the brightness changes.

Jones, Carpenter and Golland 2005, doi:10.1007/11569541_54: the "Propagation" of CellProfiler's
IdentifySecondaryObjects. A pixel belongs to the nucleus from which it is reached at the least cost; a step costs the
change of brightness around it, and its length times a weight. All lengths are in diameters of the field's nuclei.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from cellssl.imaging.cell_segmenters._stain import Stain, StainSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int32, Int64

FAINT = 0.1  # added before the logarithm, in units of the light beside nuclei: changes of the background do not count
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))
"""Rows and columns of a step to a neighbour; each counts in both directions."""


class Settings(StainSettings):
    """Grow every nucleus through the stain; cells that touch are divided where the brightness changes (actin)."""

    regularisation: float = Field(0.05, ge=0)
    """Weight of distance against changes of brightness. 0 follows the changes alone; from 1 on, pixels go to the
    nearest nucleus."""

    def divide(self, stain: Stain) -> Int32[np.ndarray, "small_y small_x"]:
        """Return the nucleus from which every pixel is reached at the least cost."""
        brightness = np.log(np.maximum(stain.light, 0) + np.float32(FAINT))
        return propagated(brightness, stain.nuclei, stain.allowed, self.regularisation)


def propagated(
    image: Float32[np.ndarray, "y x"], seeds: Int32[np.ndarray, "y x"], allowed: Bool[np.ndarray, "y x"], weight: float
) -> Int32[np.ndarray, "y x"]:
    """Return the label of the seed from which every allowed pixel is reached at the least cost; 0 where from none.

    A step costs sqrt(change^2 + weight^2 * length^2); the change is summed over the 3 x 3 pixels around both ends.
    """
    from scipy.ndimage import maximum_filter
    from scipy.sparse.csgraph import dijkstra

    # paths within a seed cost nothing, so the search starts from those pixels of seeds that have other neighbours
    rim = (seeds > 0) & maximum_filter(seeds == 0, 3)
    used = np.flatnonzero((allowed & (seeds == 0)) | rim)
    if not rim.any():
        return seeds.copy()
    labels = seeds.ravel()[used]
    costs, number = _steps(image, used, weight)
    starts = number[np.flatnonzero(rim)]
    _, _, source = dijkstra(costs, directed=False, indices=starts, min_only=True, return_predecessors=True)
    cells = seeds.ravel().copy()
    cells[used] = np.where(source >= 0, labels[np.maximum(source, 0)], 0)  # below 0: not reached
    return np.asarray(np.where(seeds > 0, seeds, cells.reshape(seeds.shape)), np.int32)


def _steps(
    image: Float32[np.ndarray, "y x"], used: Int64[np.ndarray, "n"], weight: float
) -> tuple[object, Int32[np.ndarray, "pixel"]]:
    """Return the sparse matrix of the costs between used pixels, and the number of every pixel in it, -1 for none."""
    from scipy.sparse import coo_array

    height, width = image.shape
    number = np.full(image.size, -1, np.int32)
    number[used] = np.arange(len(used), dtype=np.int32)
    grid = number.reshape(image.shape)
    starts, ends, costs = [], [], []
    for (down, across), change in zip(STEPS, _changes(image), strict=True):
        left = max(-across, 0)
        here = grid[: height - down, left : width - max(across, 0)]
        there = grid[down:, left + across : width - left]
        both = (here >= 0) & (there >= 0)
        starts.append(here[both])
        ends.append(there[both])
        costs.append(np.sqrt(change[both] ** 2 + (down + abs(across)) * weight**2))
    start, end, cost = map(np.concatenate, (starts, ends, costs))
    cost = np.maximum(cost, np.finfo(np.float32).tiny)  # one that costs nothing would be no step in a sparse matrix
    return coo_array((cost, (start, end)), shape=(len(used), len(used))).tocsr(), number


def _changes(image: Float32[np.ndarray, "y x"]) -> list[Float[np.ndarray, "rows columns"]]:
    """Return for each of STEPS the change of brightness from every pixel to its neighbour, over 3 x 3 pixels."""
    from scipy.ndimage import uniform_filter

    height, width = image.shape
    padded = np.pad(image.astype(np.float64), 1, mode="edge")
    found = []
    for down, across in STEPS:
        left = max(-across, 0)
        here = padded[: height + 2 - down, left : width + 2 - max(across, 0)]
        there = padded[down:, left + across : width + 2 - left]
        summed = 9 * uniform_filter(np.abs(there - here), 3)
        found.append(np.maximum(summed[1:-1, 1:-1], 0))
    return found
