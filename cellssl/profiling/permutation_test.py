"""permutation_test: relabelings, and which of them reach an observed score -> a p-value, and how many were counted."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from cellssl.profiling.relabelings import Relabelings

ENOUGH = 100
"""Draws that reach the observed value; then the p-value is known well enough, and no more are made."""
FIRST_DRAWS = 250
"""Draws made at first; later ones are as many as there were before."""

Reached = Callable[[Int[np.ndarray, "b k"]], Int[np.ndarray, "h"]]
"""Relabelings -> the numbers of those whose score is at least the observed one."""


def permutation_p_value(
    relabelings: Relabelings, reached_by: Reached, null_size: int, at_once: int, rng: np.random.Generator
) -> tuple[float, int]:
    """Return the share of relabelings that reach the observed score, and how many were counted; NaN where there is one.

    All are counted where they are `null_size` at most; else they are drawn until `ENOUGH` of them reach the score
    (Besag and Clifford 1991, doi:10.1093/biomet/78.2.301), or `null_size` times, `at_once` at a time.
    """
    number = relabelings.number
    if number == 1:
        return np.nan, 0
    if number <= null_size:
        return sum(len(reached_by(some)) for some in relabelings.all(at_once)) / number, number
    reached = done = 0
    while done < null_size:
        size = min(at_once, max(FIRST_DRAWS, done), null_size - done)
        at = reached_by(relabelings.draw(rng, size))
        if reached + len(at) >= ENOUGH:
            draws = done + int(at[ENOUGH - reached - 1]) + 1
            return ENOUGH / draws, draws
        reached, done = reached + len(at), done + size
    return (reached + 1) / (null_size + 1), null_size
