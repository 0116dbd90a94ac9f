"""neighbours: a label image of nuclei in, for each nucleus how near and how close-packed its neighbours are, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64, Int, Int64

TOUCH_PX = 2
"""Two nuclei touch where they have pixels so near, along rows and along columns: at most one pixel lies between."""
OTHERS = 3
"""Number of nearest other nuclei whose distance is measured."""


@dataclass(frozen=True)
class Neighbours:
    """What the other nuclei of the field tell, one value per nucleus in the order of the labels."""

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
    distances = distances_to_others(centres, OTHERS)
    touching, free_border = measure_touching(labels, len(centres))
    return Neighbours(distances[:, 1], distances[:, 2], touching, free_border)


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

    A border pixel is one with another label, or background, above, below, left or right of it. The edge of the field is
    no border, because what lies beyond it is not known.
    """
    border, owner = border_pixels(labels)
    framed = np.pad(labels, TOUCH_PX)
    row, column = np.divmod(border, labels.shape[1])
    place = (row + TOUCH_PX) * framed.shape[1] + column + TOUCH_PX
    free, pairs = np.ones(len(border), bool), [np.empty(0, np.int64)]
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


def border_pixels(labels: Int[np.ndarray, "y x"]) -> tuple[Int64[np.ndarray, "p"], Int[np.ndarray, "p"]]:
    """Return the flat index and the label of every pixel of a nucleus with another label beside it."""
    differs = np.zeros(labels.shape, bool)
    down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    differs[1:] |= down
    differs[:-1] |= down
    differs[:, 1:] |= across
    differs[:, :-1] |= across
    where = np.flatnonzero(differs)
    owner = labels.ravel()[where]
    inside = owner > 0
    return where[inside], owner[inside]
