"""radial_distribution: a label image and the channels of a field in, how light spreads over the rings of objects, out.

The measurements are those of CellProfiler's MeasureObjectIntensityDistribution, the same to the bit as cp_measure's.
That finds the rings anew for every channel, which takes half of the time of all measurements; here channels share them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64, Int, Int32, Int64

WEDGES = 8
"""Sectors around the centre whose means RadialCV compares within a ring."""


@dataclass(frozen=True)
class Rings:
    """Where the pixels of objects lie, one value per pixel in the order of the rows."""

    where: Int64[np.ndarray, "pixel"]
    """Flat index of the pixel in the field."""
    which: Int64[np.ndarray, "pixel"]
    """Its object, from 0."""
    ring: Int64[np.ndarray, "pixel"]
    """Its ring, from 0 at the centre."""
    wedge: Int64[np.ndarray, "pixel"]
    n: int
    """Number of objects."""
    rings: int
    """Number of rings."""

    def of_channel(self, pixels: Float64[np.ndarray, "y x"]) -> dict[str, Float64[np.ndarray, "n"]]:
        """Return FracAtD, MeanFrac and RadialCV of every ring, under the names of cp_measure."""
        light = pixels.ravel()[self.where]
        place = self.which * self.rings + self.ring
        shape = (self.n, self.rings)
        total = np.bincount(place, light, self.n * self.rings).reshape(shape)
        count = np.bincount(place, minlength=self.n * self.rings).reshape(shape)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = total / total.sum(axis=1, keepdims=True)
            mean = share / (count / count.sum(axis=1, keepdims=True) + np.finfo(float).eps)
        measured = {}
        for ring in range(self.rings):
            name = f"{ring + 1}of{self.rings}"
            measured[f"RadialDistribution_FracAtD_{name}"] = share[:, ring]
            measured[f"RadialDistribution_MeanFrac_{name}"] = mean[:, ring]
            measured[f"RadialDistribution_RadialCV_{name}"] = self._variation(ring, light)
        return measured

    def _variation(self, ring: int, light: Float64[np.ndarray, "pixel"]) -> Float64[np.ndarray, "n"]:
        """Return standard deviation over mean of the means of the wedges of a ring; 0 where the ring has no pixel."""
        here = self.ring == ring
        place = self.which[here] * WEDGES + self.wedge[here]
        total = np.bincount(place, light[here], self.n * WEDGES).reshape(self.n, WEDGES)
        count = np.bincount(place, minlength=self.n * WEDGES).reshape(self.n, WEDGES)
        with np.errstate(invalid="ignore", divide="ignore"):
            means: np.ma.MaskedArray = np.ma.MaskedArray(total / count, count == 0)
            variation = means.std(axis=1) / means.mean(axis=1)
        return np.where(count.any(axis=1), np.asarray(variation), 0.0)


def find_rings(labels: Int32[np.ndarray, "y x"], rings: int) -> Rings:
    """Divide the objects 1..n into rings between their centre, the pixel farthest from the edge, and their edge."""
    from centrosome import cpmorphology

    to_edge = cpmorphology.distance_to_edge(labels)
    centres = _centres(labels, to_edge)
    from_centre, reached = _from_centre(labels, centres)
    where = np.flatnonzero(reached)  # not the further pieces of an object in several
    which = labels.ravel()[where].astype(np.int64) - 1
    near, far = from_centre.ravel()[where], to_edge.ravel()[where]
    ring = np.minimum((near / (near + far + 0.001) * rings).astype(np.int64), rings - 1)
    rows, columns = np.divmod(where, labels.shape[1])
    down, right = rows - centres[0][which], columns - centres[1][which]
    wedge = (down > 0) + 2 * (right > 0) + 4 * (np.abs(down) > np.abs(right))
    return Rings(where, which, ring, wedge.astype(np.int64), int(labels.max()), rings)


def _centres(
    labels: Int32[np.ndarray, "y x"], to_edge: Float64[np.ndarray, "y x"]
) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """Return row and column of the pixel of every object that is farthest from its edge, the first of equal ones."""
    where = np.flatnonzero(labels)
    which, far = labels.ravel()[where] - 1, to_edge.ravel()[where]
    farthest = np.zeros(int(labels.max()))
    np.maximum.at(farthest, which, far)
    candidates = np.flatnonzero(far == farthest[which])
    first = candidates[np.unique(which[candidates], return_index=True)[1]]
    rows, columns = np.divmod(where[first], labels.shape[1])
    return rows, columns


def _from_centre(
    labels: Int32[np.ndarray, "y x"], centres: tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]
) -> tuple[Float64[np.ndarray, "y x"], np.ndarray]:
    """Return the way from the centre within the object to each of its pixels, and which pixels it reaches."""
    from centrosome import cpmorphology, propagate

    seeds = np.zeros(labels.shape, int)
    seeds[centres] = labels[centres]
    colours = cpmorphology.color_labels(labels)  # objects that touch are done one after the other
    distance, reached = np.zeros(labels.shape), np.zeros(labels.shape, bool)
    for colour in range(1, int(colours.max()) + 1):
        inside = colours == colour
        owner, away = propagate.propagate(np.zeros(labels.shape), seeds, inside, 1)
        distance[inside] = away[inside]
        reached |= inside & (owner > 0)
    return distance, reached
