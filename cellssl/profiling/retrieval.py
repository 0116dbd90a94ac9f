"""retrieval: profiles, and which belong together -> average precision of each, its mean in groups, and its p-value.

Average precision, its null and its p-values are those of Kalinin et al. 2025, doi:10.1038/s41467-025-60306-2, and of
their package copairs 0.5, but for ties: they count against a profile here, and for it there.
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
"""Random numbers that a null draws at a time."""
ROUNDING = 1e-9
"""Means closer than this are equal."""


@dataclass(frozen=True)
class AveragePrecision:
    """How well each profile finds its like; NaN where it has no like, or nothing else to tell it from."""

    average_precision: Float[np.ndarray, "n"]
    positives: Int[np.ndarray, "n"]
    """Profiles that should be found."""
    pairs: Int[np.ndarray, "n"]
    """Those, and the ones that they are to be told from."""


Match = Callable[[int], Bool[np.ndarray, "n"]]


def replicates(
    x: Float[np.ndarray, "n d"],
    treatments: Labels,
    is_control: Bool[np.ndarray, "n"],
    plates: Labels,
    *,
    same_plate: bool = True,
) -> AveragePrecision:
    """Whether a treated well finds the other wells of its treatment before the control wells.

    `same_plate` takes the control wells of its own plate only. Control wells, and wells without a treatment, are not
    asked about.
    """
    _, treatment = codes(treatments)
    _, plate = codes(plates)
    treatment[is_control] = -1

    def controls(row: int) -> Bool[np.ndarray, "n"]:
        return is_control & (plate == plate[row]) if same_plate else is_control.copy()

    return _ranked(x, np.flatnonzero(treatment >= 0), lambda row: treatment == treatment[row], controls)


def same_mechanism(x: Float[np.ndarray, "n d"], mechanisms: Labels, compounds: Labels) -> AveragePrecision:
    """Whether a treatment finds other compounds of its mechanism before compounds of other mechanisms."""
    _, mechanism = codes(mechanisms)
    _, compound = codes(compounds)

    def alike(row: int) -> Bool[np.ndarray, "n"]:
        found: np.ndarray = (mechanism == mechanism[row]) & (compound != compound[row])
        return found

    def others(row: int) -> Bool[np.ndarray, "n"]:
        found: np.ndarray = (mechanism >= 0) & (mechanism != mechanism[row]) & (compound != compound[row])
        return found

    return _ranked(x, np.flatnonzero(mechanism >= 0), alike, others)


def means(
    groups: pd.DataFrame, ranked: AveragePrecision, *, null_size: int = 10_000, seed: int = 0, alpha: float = 0.05
) -> pd.DataFrame:
    """One row a group: its columns, profiles, mean_average_precision, p_value, corrected_p_value and found.

    `groups` has a row a profile; profiles without an average precision do not count. A p-value is the share of random
    rankings, with as many positives among as many pairs, whose mean is as high or higher (copairs 0.5 counts those that
    are higher, by which a perfect score looks certain even where chance reaches it often; 0.6 counts as this does).
    Corrected by Benjamini and Hochberg; `found` is whether that is below `alpha`.
    """
    counted = np.flatnonzero(~np.isnan(ranked.average_precision))
    of = groups.iloc[counted].reset_index(drop=True)
    rows = []
    null_of = cache(partial(random_average_precision, null_size, seed=seed))  # equal settings share their draws
    for _, members in of.groupby(list(groups.columns), sort=True, dropna=False):
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
    """The average precision of `size` rankings in which `positives` of `pairs` places are drawn at random."""
    chance = generator("random ranking", seed, positives, pairs)
    found = []
    for begin in range(0, size, step := max(1, AT_ONCE // pairs)):
        draws = chance.random((min(step, size - begin), pairs))
        places = np.argpartition(draws, positives - 1, axis=1)[:, :positives]
        found.append((np.arange(1, positives + 1) / (np.sort(places, axis=1) + 1)).mean(axis=1))
    return np.concatenate(found)


def _ranked(x: Float[np.ndarray, "n d"], asked: Int[np.ndarray, "q"], alike: Match, others: Match) -> AveragePrecision:
    unit = unit_length(x)
    scores = np.full(len(x), np.nan)
    positives, pairs = np.zeros((2, len(x)), dtype=np.int64)
    for row in asked.tolist():
        is_like, is_other = alike(row), others(row)
        is_like[row] = is_other[row] = False
        near = np.flatnonzero(is_like | is_other)
        positives[row], pairs[row] = is_like.sum(), len(near)
        if is_like.any() and is_other.any():
            scores[row] = _average_precision(unit[near] @ unit[row], is_like[near])
    return AveragePrecision(scores, positives, pairs)


def _average_precision(cosine: Float[np.ndarray, "m"], is_like: Bool[np.ndarray, "m"]) -> float:
    """Mean over the positives of the precision at their ranks.

    Where a positive and a negative are equally near, the negative comes first: a model to which all cells look the same
    scores lowest. (copairs puts the positive first, and such a model scores 1.)
    """
    ranks = np.flatnonzero(is_like[np.lexsort((is_like, -cosine))]) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).mean())
