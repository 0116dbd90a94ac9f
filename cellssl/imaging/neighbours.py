"""neighbours: a label image of nuclei in, for each nucleus how near and how close-packed its neighbours are, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.labels import border

if TYPE_CHECKING:
    from jaxtyping import Float64, Int, Int64

TOUCH_PX = 2
"""Two nuclei touch where they have pixels so near, along rows and along columns: at most one pixel lies between."""
OTHERS = 3
"""Number of nearest other nuclei whose distance is measured."""


@dataclass(frozen=True)
class Neighbours:
    """What the other nuclei of the field tell, one value per nucleus in the order of the labels."""

    nearest_px: Float64[np.ndarray, "n"]
    """Distance from its centre to the centre of the nearest other nucleus; nan where there is no other."""
    second_nearest_px: Float64[np.ndarray, "n"]
    """Distance from its centre to the centre of the second nearest other nucleus; nan where there are fewer."""
    third_nearest_px: Float64[np.ndarray, "n"]
    """Distance from its centre to the centre of the third nearest other nucleus; nan where there are fewer."""
    touching: Int64[np.ndarray, "n"]
    """Number of nuclei that it touches."""
    free_border: Float64[np.ndarray, "n"]
    """Share of its border pixels that touch no other nucleus; nan where it fills the field and so has no border."""


def measure_neighbours(labels: Int[np.ndarray, "y x"], centres: Float64[np.ndarray, "n 2"]) -> Neighbours:
    """Measure the neighbours of the nuclei 1..n of a field, all of them, whether they are kept or not."""
    nearest, second, third = distances_to_others(centres, OTHERS).T
    touching, free_border = measure_touching(labels, len(centres))
    return Neighbours(nearest, second, third, touching, free_border)


def distances_to_others(centres: Float64[np.ndarray, "n 2"], count: int) -> Float64[np.ndarray, "n count"]:
    """Return the distances of every centre to the `count` nearest other ones, the nearest first; nan for none."""
    from scipy.spatial import cKDTree

    distances = np.full((len(centres), count), np.nan)
    others = min(count, len(centres) - 1)
    if others > 0:
        distances[:, :others] = cKDTree(centres).query(centres, k=others + 1)[0][:, 1:]
    return distances


def measure_touching(labels: Int[np.ndarray, "y x"], n: int) -> tuple[Int64[np.ndarray, "n"], Float64[np.ndarray, "n"]]:
    """Return for labels 1..n how many others each touches, and the share of its border that touches none.

    `labels.border` says which pixels are its border.
    """
    places = np.flatnonzero(border(labels))
    owner = labels.ravel()[places]
    framed = np.pad(labels, TOUCH_PX)
    row, column = np.divmod(places, labels.shape[1])
    place = (row + TOUCH_PX) * framed.shape[1] + column + TOUCH_PX
    free, pairs = np.ones(len(places), bool), [np.empty(0, np.int64)]
    for down in range(-TOUCH_PX, TOUCH_PX + 1):
        for across in range(-TOUCH_PX, TOUCH_PX + 1):
            other = framed.ravel()[place + (down * framed.shape[1] + across)]
            touches = np.flatnonzero((other != owner) & (other > 0))
            free[touches] = False
            pairs.append(owner[touches].astype(np.int64) * (n + 1) + other[touches])
    touching = np.bincount(np.unique(np.concatenate(pairs)) // (n + 1), minlength=n + 1)[1:]
    length = np.bincount(owner, minlength=n + 1)[1:]
    with np.errstate(invalid="ignore"):
        share = np.bincount(owner, weights=free, minlength=n + 1)[1:] / length
    return touching.astype(np.int64), np.asarray(share)
