"""cell_background: a channel in which cells shine in, the grey level of the gaps between the cells, everywhere, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.background import fit_surface
from cellssl.imaging.blocks import block_mean_of_all, interpolate

if TYPE_CHECKING:
    from jaxtyping import Float32, Real

WINDOW = 8.0
"""Side of the neighbourhood in diameters of a nucleus: no cell is so large that the gap beside it lies outside."""
GRID = 6
"""Points per diameter of a nucleus at which the background is computed; it changes slowly."""
SMOOTHING_PX = 2.0
"""Least standard deviation of the smoothing: the darkest of many single pixels would be noise."""
DARKEST = 5
"""Percentage of the field in which the noise of the background is measured."""
INTERVALS, STIFFNESS = 2, 1e-3
"""How the surface below cells may bend: less than one below nuclei, as a colony without gaps is wider."""


def cell_background(channel: Real[np.ndarray, "y x"], nucleus_px: float) -> Float32[np.ndarray, "y x"]:
    """Return the darkest level of the neighbourhood, following slopes (a grey opening on a coarse grid).

    `nucleus_px` is the typical diameter of a nucleus, in whose units the neighbourhood is measured. In a layer of cells
    without gaps it is the level of the darkest places within cells.
    """
    from scipy import ndimage

    side = max(int(nucleus_px / GRID), 1)
    # at a high magnification the neighbourhood is as large as the field, and an opening would not see slopes
    surface = slope_below(channel)
    sigma = max(1.0, min(SMOOTHING_PX, nucleus_px / 5) / side)
    squares = block_mean_of_all(channel - surface, side)
    coarse = ndimage.gaussian_filter(squares, sigma)
    window = tuple(min(2 * int(WINDOW * nucleus_px / side / 2) + 1, 2 * length - 1) for length in coarse.shape)
    # the minimum alone would follow a slope at a distance of half a window
    opened = ndimage.maximum_filter(ndimage.minimum_filter(coarse, window), window)
    smooth = ndimage.gaussian_filter(opened, [length / 4 for length in window])
    smooth += _depth_of_noise(squares, coarse - smooth, sigma, min(window[0] * window[1], coarse.size))
    return np.asarray(surface + interpolate(smooth, channel.shape, (float(side), float(side))))


def _depth_of_noise(
    squares: Float32[np.ndarray, "y x"], above: Float32[np.ndarray, "y x"], sigma: float, points: int
) -> float:
    """Return how far the darkest of `points` lies below the mean of the background, for its noise alone.

    `above` is what `squares`, smoothed by `sigma`, exceed the darkest level by. The noise is that of dark places,
    as it grows with the light, and it is the smaller, the fewer places show the background.
    """
    from scipy import stats

    size = 2 * np.sqrt(np.pi) * sigma  # side of a square of independent noise
    if min(squares.shape) < 3:
        return 0.0
    # second differences both ways see noise, with 6 times its standard deviation, and no smooth light (Immerkaer 1996)
    inner = above[1:-1, 1:-1]
    rough = np.abs(np.diff(np.diff(squares, 2, axis=0), 2, axis=1))
    noise = float(np.median(rough[inner <= np.percentile(inner, DARKEST)])) / (0.6745 * 6 * size)
    depth = 0.0
    shown = 1.0
    for _ in range(2):
        independent = max(points * shown / size**2, 1.0)
        depth = noise * float(stats.norm.isf(0.625 / (independent + 0.25)))  # Blom's expected extreme
        shown = float((above <= 2 * depth).mean())
    return max(depth, 0.0)


def slope_below(channel: Real[np.ndarray, "y x"]) -> Float32[np.ndarray, "y x"]:
    """Return a stiff surface below cells: it follows slopes, but glows only in part, as colonies look like them."""
    return fit_surface(channel, stiffness=STIFFNESS, intervals=INTERVALS).at(channel.shape)
