"""layout: the size of a field and the number of cells expected in it -> where their nuclei lie."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import ndimage

MARGIN_PX = 80  # cells outside the field whose bodies reach into it
_LATTICE_PX = 16


def scatter(
    rng: np.random.Generator, height_px: int, width_px: int, cells: float, patchiness: float
) -> Float[np.ndarray, "cell 2"]:
    """Return rows and columns of about `cells` nuclei inside the field, and of equally dense ones in a margin.

    Cells grow in patches: the log of their density is a smooth random surface with standard deviation `patchiness`.
    Each nucleus has a minimum distance of its own, so that some touch and a few overlap.
    """
    tall, wide = height_px + 2 * MARGIN_PX, width_px + 2 * MARGIN_PX
    wanted = int(rng.poisson(cells * tall * wide / (height_px * width_px)))
    surface = _density(rng, tall, wide, patchiness)
    tries = 8 * wanted + 8
    chosen = rng.choice(surface.size, size=tries, p=surface.ravel())
    corner = np.stack(np.unravel_index(chosen, surface.shape), axis=1) * _LATTICE_PX
    points = corner + rng.random((tries, 2)) * _LATTICE_PX
    apart = rng.triangular(27.0, 36.0, 50.0, tries)
    return _keep_apart(points, apart, wanted) - MARGIN_PX


def _density(rng: np.random.Generator, tall: int, wide: int, patchiness: float) -> Float[np.ndarray, "row column"]:
    noise = rng.standard_normal((-(-tall // _LATTICE_PX), -(-wide // _LATTICE_PX)))
    smooth = ndimage.gaussian_filter(noise, 80 / _LATTICE_PX, mode="wrap")
    surface = np.exp(patchiness * smooth / (smooth.std() + 1e-9))
    return np.asarray(surface / surface.sum())


def _keep_apart(
    points: Float[np.ndarray, "try 2"], apart: Float[np.ndarray, "try"], wanted: int
) -> Float[np.ndarray, "cell 2"]:
    """Return the first `wanted` points that are not nearer than `apart` to one accepted before."""
    taken = np.empty((wanted, 2))
    count = 0
    for point, distance in zip(points, apart, strict=True):
        if count == wanted:
            break
        gaps = taken[:count] - point
        if count == 0 or (gaps * gaps).sum(axis=1).min() >= distance * distance:
            taken[count] = point
            count += 1
    return taken[:count]
