"""group_bootstrap: counts of every group of cells, such as a well -> the sums of the counts of bootstrap draws."""

import numpy as np
from jaxtyping import Int

from cellssl.randomness import generator


def drawn_sums(
    counts: Int[np.ndarray, "g k"], stratum: Int[np.ndarray, "g"], draws: int, seed: int
) -> Int[np.ndarray, "draws k"]:
    """Return the sums of the counts of every draw, which has as many groups of each stratum as there are.

    Groups with equal counts share one multinomial draw.
    """
    rng = generator("bootstrap of groups", seed)
    sums = np.zeros((draws, counts.shape[1]), dtype=np.int64)
    for one in np.unique(stratum):
        kinds, times = np.unique(counts[stratum == one], axis=0, return_counts=True)
        sums += rng.multinomial(times.sum(), times / times.sum(), size=draws) @ kinds
    return sums


def class_strata(cells_of: Int[np.ndarray, "g c"]) -> Int[np.ndarray, "g"] | None:
    """Return the stratum of every group of a paired bootstrap, from its cells of each class.

    It is the class where every group has one, as wells have; else all groups are of one stratum. None where a stratum
    has one group, which shows no variation.
    """
    has_one_class = bool(((cells_of > 0).sum(axis=1) == 1).all())
    stratum = cells_of.argmax(axis=1) if has_one_class else np.zeros(len(cells_of), np.int64)
    return None if (np.unique(stratum, return_counts=True)[1] < 2).any() else stratum


def counts_of_groups(group: Int[np.ndarray, "m"], kind: Int[np.ndarray, "m"], kinds: int) -> Int[np.ndarray, "g k"]:
    """Return the number of cells of every group and kind."""
    groups = int(group.max(initial=-1)) + 1
    return np.bincount(group * kinds + kind, minlength=groups * kinds).reshape(groups, kinds)
