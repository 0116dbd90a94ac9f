"""nearness: inner products of profiles -> whole numbers that are smaller the nearer two profiles are."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

Similarity = Literal["cosine", "euclidean"]
STEPS = 2.0**40
"""Steps within a cosine of 1, or within the typical squared length: what differs by less is equally near, so that
rounding decides nothing."""
FARTHEST = 2.0**20
"""Squared distances above this many typical squared lengths are equally far."""
LEAST = 1e-12
"""A profile whose squared length is below this share of the typical one lies at the centre: its cosines are 0."""


def distance_steps(
    inner: Float[np.ndarray, "*shape"],
    one: Float[np.ndarray, "..."],
    other: Float[np.ndarray, "..."],
    typical: float,
    similarity: Similarity,
) -> Int[np.ndarray, "*shape"]:
    """Return minus the cosine, or the squared distance, in whole steps.

    `one` and `other` are the squared lengths of the two profiles, which broadcast to `inner`; `typical` is the squared
    length of a typical profile.
    """
    if similarity == "cosine":
        distance = inner * (-STEPS * _inverse_length(one, typical)) * _inverse_length(other, typical)
    else:
        distance = np.minimum((one + other - 2 * inner) / (typical or 1.0), FARTHEST) * STEPS
    steps: np.ndarray = np.rint(distance).astype(np.int64)
    return steps


def typical_squared_length(squared: Float[np.ndarray, "n"]) -> float:
    """Return the median over profiles, or their mean where the median is 0."""
    return float(np.median(squared)) or float(np.mean(squared))


def _inverse_length(squared: Float[np.ndarray, "*shape"], typical: float) -> Float[np.ndarray, "*shape"]:
    apart = squared > LEAST * typical
    found: np.ndarray = np.where(apart, 1 / np.sqrt(np.where(apart, squared, 1)), 0)
    return found
