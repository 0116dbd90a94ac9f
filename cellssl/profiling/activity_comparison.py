"""activity_comparison: profiles and the design of a test -> for each treatment, its ranking and its relabelings."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from cellssl.profiling.activity_design import ActivityDesign
from cellssl.profiling.counted_ranking import CountedRanking, counts_around_one_treated_well, counts_of_fixed
from cellssl.profiling.nearness import Similarity
from cellssl.profiling.refitted_ranking import RefittedRanking
from cellssl.profiling.relabelings import Relabelings

AT_ONCE = 500_000
"""How many distances are held at a time."""
Ranking = RefittedRanking | CountedRanking


@dataclass(frozen=True)
class Comparison:
    """What one treatment is compared with."""

    ranking: Ranking
    agreement: Callable[[Int[np.ndarray, "b k"]], Float[np.ndarray, "b"]]
    """How much treated wells point the same way from the centre, which decides between relabelings of equal rank."""
    relabelings: Relabelings
    treated: Int[np.ndarray, "k"]
    """The treated wells, as the ranking numbers them, ordered by block."""
    negatives: Int[np.ndarray, "k"]
    """How many negatives each has."""
    at_once: int
    """How many relabelings are ranked at a time."""

    def for_many(self) -> "Comparison":
        """Return an equal comparison that counts beforehand where it can, which pays for many relabelings."""
        if not isinstance(self.ranking, RefittedRanking):
            return self
        return replace(self, ranking=_counted(self.ranking))


def with_controls(
    x: Float[np.ndarray, "n d"],
    design: ActivityDesign,
    similarity: Similarity,
    *,
    all_plates: bool,
    scaled: bool = False,
) -> Callable[[int], Comparison]:
    """Return what compares a treatment with control wells, on which every relabeling centres its plates again."""

    def compare(number: int) -> Comparison:
        rows = design.compared(number, all_plates=all_plates)
        plate = np.unique(design.plate[rows], return_inverse=True)[1].reshape(-1)
        treated = np.flatnonzero(np.isin(rows, design.tested[number]))
        ranking = RefittedRanking.of(x[rows], plate, treated, similarity, all_plates, scaled)
        wells = np.bincount(plate) - np.bincount(plate[treated], minlength=plate.max() + 1)
        negatives = np.full(len(treated), wells.sum()) if all_plates else wells[plate[treated]]
        relabelings = design.relabelings(number, rows)
        held = len(treated) * (int(negatives.max()) + 4 * len(treated))
        return Comparison(ranking, ranking.agreement, relabelings, treated, negatives, max(1, AT_ONCE // held))

    return compare


def with_all(
    x: Float[np.ndarray, "n d"], design: ActivityDesign, similarity: Similarity, *, all_plates: bool
) -> Callable[[int], Comparison]:
    """Return what compares a treatment with all other wells; `x` are centred on the mean of all wells of a plate.

    No relabeling moves this mean.
    """
    group = np.zeros_like(design.plate) if all_plates else design.plate
    counts, wells = counts_of_fixed(x, group, similarity), np.bincount(group)

    def agreement(chosen: Int[np.ndarray, "b k"]) -> Float[np.ndarray, "b"]:
        """Return the same as `RefittedRanking.agreement`, from sums: all inner products take too much memory."""
        k = chosen.shape[1]
        sums = sum(x[chosen[:, slot]] for slot in range(k))
        own = np.einsum("nd,nd->n", x, x)[chosen].sum(axis=1)
        return np.asarray((np.einsum("bd,bd->b", sums, sums) - own) / (k * (k - 1)))

    def compare(number: int) -> Comparison:
        treated = design.tested[number]
        same = group[treated][:, None] == group[treated]
        negatives = wells[group[treated]] - same.sum(axis=1)
        relabelings = design.relabelings(number, np.arange(len(x)))
        at_once = max(1, AT_ONCE // (4 * len(treated) ** 2))
        return Comparison(CountedRanking(counts, same), agreement, relabelings, treated, negatives, at_once)

    return compare


def _counted(ranking: RefittedRanking) -> Ranking:
    """Return an equal ranking that counts beforehand; the same one where a plate has two treated wells."""
    k = len(ranking.plate_of_treated)
    if ranking.all_plates or len(np.unique(ranking.plate_of_treated)) < k:
        return ranking
    counts = counts_around_one_treated_well(ranking.inner, ranking.plate, ranking.share, ranking.similarity)
    return CountedRanking(counts, np.zeros((k, k), bool))
