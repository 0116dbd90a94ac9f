"""surroundings: where the nuclei of a field lie in, for some of them how close-packed the others are, as features, out.

Distances and numbers are logarithms (base 2), because they vary by factors; a factor between plates, such as another
size of a pixel, is then a shift that centring removes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64

FAR_UM = 200.0
"""A neighbour that is further away, or not there, counts as one at this distance."""
NEAR_UM = 1.0
"""Shortest distance: centres of two objects may be the same."""
RADII_UM = (25.0, 50.0, 100.0)
"""Radii within which nuclei are counted."""
STRIPS = 64
"""Number of strips in which the part of a disc within a field is measured."""


def log_distances(distances_um: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Return the logarithm of distances in um; nan, where a field has fewer nuclei, is FAR_UM, as is all beyond."""
    return np.asarray(np.log2(np.clip(np.nan_to_num(distances_um, nan=FAR_UM), NEAR_UM, FAR_UM)))


def log_counts(counts: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """Return the logarithm of 1 + a number; nan is 0."""
    return np.asarray(np.log2(1 + np.nan_to_num(counts, nan=0.0)))


def densities(
    centres: Float64[np.ndarray, "n 2"],
    places: Float64[np.ndarray, "m 2"],
    sides: tuple[float, float],
    radii: Sequence[float],
) -> Float64[np.ndarray, "m radius"]:
    """Count the others of `centres` within each radius of some of them, as if the field went on beyond its edge.

    A count is divided by the share of the disc that lies within the field of `sides` rows and columns. All lengths have
    one unit.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(centres)
    counts = [tree.query_ball_point(places, radius, return_length=True) - 1 for radius in radii]
    shares = [_share_inside(places, sides, radius) for radius in radii]
    return np.asarray(np.stack(counts, axis=1) / np.stack(shares, axis=1))


def _share_inside(
    centres: Float64[np.ndarray, "m 2"], sides: tuple[float, float], radius: float
) -> Float64[np.ndarray, "m"]:
    """Return which share of a disc around every centre lies within the field, measured in strips along the rows."""
    rows, columns = np.clip(centres, 0, sides).T[:, :, None]
    offsets = ((np.arange(STRIPS) + 0.5) / STRIPS * 2 - 1) * radius
    halves = np.sqrt(radius**2 - offsets**2)
    lengths = np.minimum(halves, columns) + np.minimum(halves, sides[1] - columns)
    inside = (rows + offsets >= 0) & (rows + offsets <= sides[0])
    return np.asarray((lengths * inside).sum(axis=1) / (2 * halves).sum())
