"""counted_ranking: similarities that no relabeling changes -> average precision of treated wells, from counts.

Where the centre of a plate does not depend on which wells are treated, or only on the one that is treated, it is known
beforehand how many wells are nearer to a well than another one. Average precision follows from these counts.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from cellssl.profiling.nearness import Similarity, distance_steps, typical_squared_length

AT_ONCE = 4_000_000
"""How many similarities are held at a time."""


@dataclass(frozen=True)
class CountedRanking:
    """Ranks treated wells among each other and the other wells."""

    counts: Int[np.ndarray, "n n"]
    """For two wells: how many of the wells that can be negatives of the first are as near to it as the second."""
    treated_counted: Bool[np.ndarray, "k k"]
    """Whether the second treated well is among the wells counted for the first, where it is not a negative."""

    def average_precision(self, treated: Int[np.ndarray, "b k"]) -> Float[np.ndarray, "b k"]:
        """Return the average precision of every treated well, for `b` choices of treated wells."""
        k = treated.shape[1]
        others = np.array([[slot for slot in range(k) if slot != query] for query in range(k)])
        counts = self.counts[treated[:, :, None], treated[:, others]].astype(np.int32)
        if self.treated_counted.any():
            marked = np.sort(2 * counts + np.take_along_axis(self.treated_counted, others, axis=1), axis=2)
            negatives = (marked >> 1) - _positives_counted(marked)
        else:
            negatives = np.sort(counts, axis=2)
        rank = np.arange(1, k)
        found: np.ndarray = (rank / (rank + negatives)).mean(axis=2)
        return found


def _positives_counted(marked: Int[np.ndarray, "b k j"]) -> Int[np.ndarray, "b k j"]:
    """Return how many counted positives are as near as each, from sorted counts whose last bit says "is counted"."""
    upto = np.cumsum(marked & 1, axis=2, dtype=np.int32)
    last_of_equals = np.ones(marked.shape, bool)
    last_of_equals[:, :, :-1] = (marked[:, :, 1:] >> 1) != (marked[:, :, :-1] >> 1)
    upto = np.where(last_of_equals, upto, np.iinfo(np.int32).max)
    found: np.ndarray = np.minimum.accumulate(upto[:, :, ::-1], axis=2)[:, :, ::-1]
    return found


def counts_around_one_treated_well(
    inner: Float[np.ndarray, "n n"],
    plate: Int[np.ndarray, "n"],
    share: Float[np.ndarray, "plates"],
    similarity: Similarity,
) -> Int[np.ndarray, "n n"]:
    """Count where every plate has one treated well: the first of the two wells.

    The centre of its plate is minus its profile / number of controls. `inner` are inner products of profiles minus the
    mean over all these wells of a plate; `share` is 1 / number of control wells.
    """
    squared, scale = np.diagonal(inner), 1 + share[plate]
    typical = typical_squared_length(squared)
    counts = np.empty(inner.shape, _whole(len(inner)))
    for number, m in enumerate(share):
        here = np.flatnonzero(plate == number)
        own, of_plate = squared[here, None], inner[np.ix_(here, here)]
        own_centred, products = (1 + m) ** 2 * own, (1 + m) * (of_plate + m * own)
        lengths = squared[here] + 2 * m * of_plate + m**2 * own
        controls = distance_steps(products, own_centred, lengths, typical, similarity)
        products = (1 + m) * scale * inner[here]
        treated = distance_steps(products, own_centred, scale**2 * squared, typical, similarity)
        for at, row in enumerate(here):
            counts[row] = _as_near(np.delete(controls[at], at), treated[at])
    return counts


def counts_of_fixed(
    x: Float[np.ndarray, "n d"], group: Int[np.ndarray, "n"], similarity: Similarity
) -> Int[np.ndarray, "n n"]:
    """Count among the wells of the same group as the first of the two wells."""
    squared = np.einsum("nd,nd->n", x, x)
    typical = typical_squared_length(squared)
    members = [np.flatnonzero(group == number) for number in range(group.max() + 1)]
    counts = np.empty((len(x), len(x)), _whole(len(x)))
    step = max(1, AT_ONCE // len(x))
    for begin in range(0, len(x), step):
        rows = slice(begin, begin + step)
        steps = distance_steps(x[rows] @ x.T, squared[rows, None], squared, typical, similarity)
        for row, distances in enumerate(steps, begin):
            others = members[group[row]]
            counts[row] = _as_near(distances[others[others != row]], distances)
    return counts


def _as_near(distances: Int[np.ndarray, "w"], limits: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """Return how many distances are not above each limit."""
    return np.searchsorted(np.sort(distances), limits, side="right")


def _whole(largest: int) -> type[np.signedinteger]:
    """Return the smaller type that holds a count."""
    return np.int16 if largest <= np.iinfo(np.int16).max else np.int32
