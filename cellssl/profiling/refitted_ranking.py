"""refitted_ranking: wells and who of them is treated -> average precision of the treated ones, plates centred anew.

The profile of a well is centred on the control wells of its plate, so that another choice of treated wells moves the
centre. With y the profiles minus the mean of all these wells of a plate, treated and controls, and s the sum of y over
the treated ones, the mean of its m control wells is -s/m, and the centred profile is y + s/m. All inner products of
centred profiles thus follow from those of y, which are computed once.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from cellssl.profiling.nearness import Similarity, distance_steps, typical_squared_length

ROUNDING = 1e-12
"""A spread that is this small a share of the largest number is a rounding error."""
FARTHER_THAN_ALL = np.iinfo(np.int64).max - 1
"""An even number of steps, as those of negatives are."""


@dataclass(frozen=True)
class RefittedRanking:
    """Ranks the treated wells of one treatment among each other and the control wells."""

    inner: Float[np.ndarray, "n n"]
    """Inner products of the wells, each minus the mean of its plate; wells are ordered by plate."""
    plate: Int[np.ndarray, "n"]
    """The number of the plate, from 0 without a gap."""
    plate_of_treated: Int[np.ndarray, "k"]
    share: Float[np.ndarray, "plates"]
    """1 / number of control wells of each plate."""
    similarity: Similarity
    all_plates: bool
    """Whether the control wells of all plates are negatives, or those of the same plate."""

    @classmethod
    def of(
        cls,
        x: Float[np.ndarray, "n d"],
        plate: Int[np.ndarray, "n"],
        treated: Int[np.ndarray, "k"],
        similarity: Similarity,
        all_plates: bool,
        scaled: bool = False,
    ) -> "RefittedRanking":
        """Return the ranking of wells ordered by plate, of which the rows `treated` (also ordered) are treated.

        If `scaled`, features are divided by their spread among all these wells.
        """
        wells, of_plate = np.bincount(plate), np.bincount(plate[treated], minlength=plate.max() + 1)
        starts = np.concatenate([[0], np.cumsum(wells)[:-1]])
        y = x.astype(np.float64)
        y -= (np.add.reduceat(y, starts, axis=0) / wells[:, None])[plate]
        if scaled:
            spread = y.std(axis=0)
            y /= np.where(spread > ROUNDING * np.abs(x).max(axis=0, initial=0), spread, np.inf)
        return cls(y @ y.T, plate, plate[treated], 1 / (wells - of_plate), similarity, all_plates)

    def average_precision(self, treated: Int[np.ndarray, "b k"]) -> Float[np.ndarray, "b k"]:
        """Return the average precision of every treated well, for `b` choices of treated wells.

        The positives are the other treated wells, the negatives are the control wells. Where a positive and a negative
        are equally near, the negative comes first.
        """
        to_centred = self._to_centred
        raw, centred = self._products(treated)
        squared = np.diagonal(centred, axis1=1, axis2=2)
        positives = self._steps(centred, squared[:, :, None], squared[:, None, :])
        scores = np.empty(treated.shape)
        for queries in self._queries():
            own = to_centred[np.ix_(queries, queries)]
            negatives = [
                self._negatives(treated, raw, own, queries, squared, number) for number in self._plates(queries)
            ]
            scores[:, queries] = precision_of_ranks(np.concatenate(negatives, axis=2), positives[:, queries], queries)
        return scores

    def agreement(self, treated: Int[np.ndarray, "b k"]) -> Float[np.ndarray, "b"]:
        """Return the mean inner product of two different treated wells, from the centre of the controls."""
        return mean_of_pairs(self._products(treated)[1])

    @property
    def _to_centred(self) -> Float[np.ndarray, "k k"]:
        """What turns profiles of treated wells minus the mean of their plate into those minus that of its controls."""
        same = self.plate_of_treated[:, None] == self.plate_of_treated
        return np.asarray(np.eye(len(same)) + same * self.share[self.plate_of_treated])

    def _products(
        self, treated: Int[np.ndarray, "b k"]
    ) -> tuple[Float[np.ndarray, "b k k"], Float[np.ndarray, "b k k"]]:
        """Return the inner products of treated wells, before and after they are centred on the controls."""
        raw = self.inner[treated[:, :, None], treated[:, None, :]]
        return raw, self._to_centred @ raw @ self._to_centred.T

    def _queries(self) -> Iterator[Int[np.ndarray, "q"]]:
        """Yield the numbers of the treated wells that have the same negatives."""
        if self.all_plates:
            yield np.arange(len(self.plate_of_treated))
            return
        for number in np.unique(self.plate_of_treated):
            yield np.flatnonzero(self.plate_of_treated == number)

    def _plates(self, queries: Int[np.ndarray, "q"]) -> list[int]:
        """Return the plates whose control wells are negatives."""
        return list(range(len(self.share))) if self.all_plates else [int(self.plate_of_treated[queries[0]])]

    def _negatives(
        self,
        treated: Int[np.ndarray, "b k"],
        raw: Float[np.ndarray, "b k k"],
        to_centred: Float[np.ndarray, "q q"],
        queries: Int[np.ndarray, "q"],
        squared: Float[np.ndarray, "b k"],
        number: int,
    ) -> Int[np.ndarray, "b q w"]:
        """Return how far the wells of one plate are from every query; treated wells are farther than all."""
        start, stop = np.searchsorted(self.plate, [number, number + 1])
        here = np.flatnonzero(self.plate_of_treated == number)
        share = self.share[number]
        rows = self.inner[:, start:stop][treated[:, queries]]
        inner = to_centred @ rows
        inner += share * (to_centred @ raw[:, queries][:, :, here].sum(axis=2)[:, :, None])
        with_sum = rows[:, np.isin(queries, here)].sum(axis=1)
        length_of_sum = raw[:, here][:, :, here].sum(axis=(1, 2))
        length = np.diagonal(self.inner)[start:stop] + 2 * share * with_sum + share**2 * length_of_sum[:, None]
        steps = 2 * self._steps(inner, squared[:, queries, None], length[:, None, :])
        hidden = np.broadcast_to(treated[:, None, here] - start, (*steps.shape[:2], len(here)))
        np.put_along_axis(steps, hidden, FARTHER_THAN_ALL, axis=2)
        return steps

    def _steps(
        self, inner: Float[np.ndarray, "*shape"], one: Float[np.ndarray, "..."], other: Float[np.ndarray, "..."]
    ) -> Int[np.ndarray, "*shape"]:
        typical = typical_squared_length(np.diagonal(self.inner))
        return distance_steps(inner, one, other, typical, self.similarity)


def mean_of_pairs(products: Float[np.ndarray, "b k k"]) -> Float[np.ndarray, "b"]:
    """Return the mean inner product of two different wells."""
    k = products.shape[1]
    own = np.trace(products, axis1=1, axis2=2)
    return np.asarray((products.sum(axis=(1, 2)) - own) / (k * (k - 1)))


def precision_of_ranks(
    negatives: Int[np.ndarray, "b q w"], positives: Int[np.ndarray, "b q k"], queries: Int[np.ndarray, "q"]
) -> Float[np.ndarray, "b q"]:
    """Return the average precision of queries from the distances of wells, which are even numbers for negatives.

    `positives` are the distances of all treated wells, that of the query itself among them, which does not count.
    """
    k = positives.shape[2]
    others = np.array([[slot for slot in range(k) if slot != query] for query in queries.tolist()])
    # the last bit says that a well is a positive, so that one sort ranks wells and puts negatives first among equals
    marked = 2 * np.take_along_axis(positives, others[None], axis=2) + 1
    ranked = np.sort(np.concatenate([negatives, marked], axis=2), axis=2)
    places = np.flatnonzero(ranked & 1).reshape(*marked.shape) % ranked.shape[2]
    found: np.ndarray = (np.arange(1, k) / (places + 1)).mean(axis=2)
    return found
