"""retrieval: profiles and their groups -> average precision of each profile, mean average precision and p-values.

Average precision, its null distribution and its p-values are those of Kalinin et al. 2025,
doi:10.1038/s41467-025-60306-2, and of their package copairs 0.5, except for ties: here they lower the score of a
profile, there they raise it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.stats import false_discovery_control

from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.nsc import unit_length
from cellssl.randomness import generator

AT_ONCE = 5_000_000
"""How many random numbers are drawn at a time for a null distribution."""
ROUNDING = 1e-9
"""Means that differ by less are equal."""


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision of each profile as a query; NaN for a profile without positives or without negatives."""

    average_precision: Float[np.ndarray, "n"]
    positives: Int[np.ndarray, "n"]
    """Number of positives: profiles that should be ranked first."""
    pairs: Int[np.ndarray, "n"]
    """Number of positives and negatives together."""

    def of_rows(self, rows: Int[np.ndarray, "m"]) -> "AveragePrecision":
        """Return those of some profiles."""
        return AveragePrecision(self.average_precision[rows], self.positives[rows], self.pairs[rows])


Match = Callable[[int], Bool[np.ndarray, "n"]]
"""The row of a query -> which profiles match: its positives, or its negatives."""


def replicate_average_precision(
    x: Float[np.ndarray, "n d"],
    treatments: Labels,
    is_control: Bool[np.ndarray, "n"],
    plates: Labels,
    *,
    same_plate: bool = True,
) -> AveragePrecision:
    """Rank for each treated well the other wells of its treatment (positives) against the control wells (negatives).

    With `same_plate`, only control wells of the same plate are negatives. Control wells, and wells without a treatment,
    are not queries.
    """
    _, treatment = codes(treatments)
    _, plate = codes(plates)
    treatment[is_control] = -1

    def controls(row: int) -> Bool[np.ndarray, "n"]:
        return is_control & (plate == plate[row]) if same_plate else is_control.copy()

    return _ranked(x, np.flatnonzero(treatment >= 0), lambda row: treatment == treatment[row], controls)


def mean_of_halves(one: AveragePrecision, other: AveragePrecision) -> AveragePrecision:
    """Return the mean of two rankings of the same profiles, each against another half of the controls.

    A profile that has negatives in one ranking only has the score of that one. `pairs` are those of the ranking with
    fewer: the fewer negatives, the higher are scores by chance, so a p-value is rather too large than too small.
    """
    scores = np.stack([one.average_precision, other.average_precision])
    known = ~np.isnan(scores)
    total = np.where(known, scores, 0).sum(axis=0)
    mean = np.divide(total, known.sum(axis=0), out=np.full(total.shape, np.nan), where=known.any(axis=0))
    each_pairs = np.stack([one.pairs, other.pairs])
    pairs = np.where(known.any(axis=0), np.where(known, each_pairs, np.iinfo(np.int64).max), each_pairs).min(axis=0)
    return AveragePrecision(mean, one.positives, pairs)


def mechanism_average_precision(x: Float[np.ndarray, "n d"], mechanisms: Labels, compounds: Labels) -> AveragePrecision:
    """Rank for each treatment other compounds of its mechanism (positives) against compounds of other mechanisms."""
    _, mechanism = codes(mechanisms)
    _, compound = codes(compounds)

    def positives(row: int) -> Bool[np.ndarray, "n"]:
        found: np.ndarray = (mechanism == mechanism[row]) & (compound != compound[row])
        return found

    def negatives(row: int) -> Bool[np.ndarray, "n"]:
        found: np.ndarray = (mechanism >= 0) & (mechanism != mechanism[row]) & (compound != compound[row])
        return found

    return _ranked(x, np.flatnonzero(mechanism >= 0), positives, negatives)


def mean_average_precision(
    groups: pd.DataFrame, ranked: AveragePrecision, *, null_size: int = 10_000, seed: int = 0, alpha: float = 0.05
) -> pd.DataFrame:
    """Return one row per group: its columns, profiles, mean_average_precision, p_value, corrected_p_value and found.

    `groups` has one row per profile; profiles without an average precision do not count. A p-value is the share of
    random rankings, with the same numbers of positives and pairs, whose mean is equal or higher (copairs 0.5 counts
    only higher ones, so that a perfect score looks significant even where chance often reaches it; copairs 0.6 counts
    like this function). `corrected_p_value` is corrected by Benjamini and Hochberg, and `found` is whether it is below
    `alpha`.
    """
    counted = np.flatnonzero(~np.isnan(ranked.average_precision))
    counted_groups = groups.iloc[counted].reset_index(drop=True)
    rows = []
    # groups with the same numbers of positives and pairs share their draws
    null_of = cache(partial(random_average_precision, null_size, seed=seed))
    for _, members in counted_groups.groupby(list(groups.columns), sort=True, dropna=False):
        here = counted[members.index.to_numpy()]
        mean = float(ranked.average_precision[here].mean())
        settings = zip(ranked.positives[here].tolist(), ranked.pairs[here].tolist(), strict=True)
        null = np.mean([null_of(*each) for each in settings], axis=0)
        reached = int((null >= mean - ROUNDING).sum())
        rows.append((*members.iloc[0], len(here), mean, (reached + 1) / (null_size + 1)))
    names = [*groups.columns, "profiles", "mean_average_precision", "p_value"]
    table = pd.DataFrame(rows, columns=names)
    corrected = false_discovery_control(table["p_value"]) if len(table) else np.empty(0)
    return table.assign(corrected_p_value=corrected, found=corrected < alpha)


def random_average_precision(size: int, positives: int, pairs: int, seed: int = 0) -> Float[np.ndarray, "size"]:
    """Return the average precision of `size` rankings in which `positives` of `pairs` ranks are drawn at random."""
    rng = generator("random ranking", seed, positives, pairs)
    found = []
    for begin in range(0, size, step := max(1, AT_ONCE // pairs)):
        draws = rng.random((min(step, size - begin), pairs))
        places = np.argpartition(draws, positives - 1, axis=1)[:, :positives]
        found.append((np.arange(1, positives + 1) / (np.sort(places, axis=1) + 1)).mean(axis=1))
    return np.concatenate(found)


def _ranked(
    x: Float[np.ndarray, "n d"], query: Int[np.ndarray, "q"], positives: Match, negatives: Match
) -> AveragePrecision:
    """Rank the positives and negatives of each query by cosine."""
    unit = unit_length(x)
    scores = np.full(len(x), np.nan)
    n_positives, n_pairs = np.zeros((2, len(x)), dtype=np.int64)
    for row in query.tolist():
        is_positive, is_negative = positives(row), negatives(row)
        is_positive[row] = is_negative[row] = False
        compared = np.flatnonzero(is_positive | is_negative)
        n_positives[row], n_pairs[row] = is_positive.sum(), len(compared)
        if is_positive.any() and is_negative.any():
            scores[row] = _average_precision(unit[compared] @ unit[row], is_positive[compared])
    return AveragePrecision(scores, n_positives, n_pairs)


def _average_precision(cosine: Float[np.ndarray, "m"], is_positive: Bool[np.ndarray, "m"]) -> float:
    """Return the mean over the positives of the precision at their ranks.

    Where a positive and a negative are equally near, the negative comes first: a model that gives all cells the same
    vector has the lowest score. (copairs puts the positive first, and such a model scores 1.)
    """
    ranks = np.flatnonzero(is_positive[np.lexsort((is_positive, -cosine))]) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).mean())
