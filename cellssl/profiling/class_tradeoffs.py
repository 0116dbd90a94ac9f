"""class_tradeoffs: accuracies of classes along a swept setting -> opposite classes, and classes that gain or lose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float, Int

OPPOSITE = -0.3
"""Two classes are opposite where their correlation is below this (Bendidi et al. 2023, section 3.1) ..."""
ALPHA = 0.05
"""... and its p-value is below this."""
COEFFICIENTS = ("pearson", "kendall", "spearman")
FEWEST_POINTS = 5
"""With fewer points, chance alone puts many pairs in perfectly opposite orders, and p-values are imprecise."""

FEWEST_SEEDS = 3
"""Two seeds may agree by chance, and then show no spread."""

DECIMALS = 12
"""Accuracies that differ by less are equal: they are shares of the same cells, summed and rounded in another order."""


@dataclass(frozen=True)
class Correlation:
    """One correlation coefficient of two classes over the points of a sweep; NaN where a class never changes."""

    r: float
    p: float
    p_corrected: float
    """The p-value corrected by Benjamini and Hochberg over all pairs of the sweep and all three coefficients. Before
    the correction, a p-value below `permutation_probability` is raised to it."""

    def is_opposite(self, *, corrected: bool = False) -> bool:
        """Return whether r is below -0.3 with p < 0.05."""
        return self.r < OPPOSITE and (self.p_corrected if corrected else self.p) < ALPHA


@dataclass(frozen=True)
class Pair:
    """Two classes, and how their accuracies correlate."""

    first: str
    second: str
    by: dict[str, Correlation]
    """Pearson's, Kendall's and Spearman's coefficients, by name."""

    def is_opposite(self, *, corrected: bool = False) -> bool:
        """Return whether any of the three coefficients is opposite, as in the paper."""
        return any(one.is_opposite(corrected=corrected) for one in self.by.values())


@dataclass(frozen=True)
class Change:
    """The difference of a score between the two ends of a sweep, over the seeds that both ends have."""

    name: str
    before: float
    after: float
    by: float
    """The mean of `after` minus `before`."""
    low: float
    """Lower end of the 95 % interval of the difference, by Student's t over seeds, and no narrower than the number of
    cells allows; NaN for one seed, which has no spread."""
    high: float
    seeds: int

    @property
    def is_clear(self) -> bool:
        """Return whether the change exceeds what the spread over seeds explains; False for fewer than three seeds."""
        return self.seeds >= FEWEST_SEEDS and (self.low > 0 or self.high < 0)


def pairs(accuracies: Float[np.ndarray, "points classes"], names: Sequence[str]) -> list[Pair]:
    """Return every pair of classes with the correlations of their accuracies over the points, in the order of `names`.

    An accuracy is the mean over seeds, one per point. Points where either accuracy is missing are left out.
    """
    accuracies = np.round(accuracies, DECIMALS)  # otherwise ranks would see an order in rounding errors
    by_pair = {
        (one, other): _compared(accuracies[:, one], accuracies[:, other])
        for one, other in combinations(range(len(names)), 2)
    }
    corrected = _corrected([max(found[name][1], chance) for found, chance in by_pair.values() for name in COEFFICIENTS])
    by_place = iter(corrected)
    return [
        Pair(names[one], names[other], {name: Correlation(*found[name], next(by_place)) for name in COEFFICIENTS})
        for (one, other), (found, _) in by_pair.items()
    ]


def permutation_probability(one: Float[np.ndarray, "points"], other: Float[np.ndarray, "points"]) -> float:
    """Return the probability that a random permutation of one class's accuracies gives exactly the observed points.

    It is 1/n! without ties, and with ties the probability of a table with given margins (Fisher 1935). No permutation
    test of n points can give a smaller p-value, while Pearson's and Spearman's p-values can reach 0: two classes that
    both change at one of five points, and nowhere else, have r = -1 and p = 0, although one permutation in five looks
    like that.
    """
    table = np.unique(np.stack([one, other]), axis=1, return_counts=True)[1]
    ties = [np.unique(values, return_counts=True)[1] for values in (one, other)]
    return math.exp(sum(map(_log_orders, ties)) - _log_orders(table) - math.lgamma(len(one) + 1))


def share_with_an_opposite(found: Sequence[Pair], *, corrected: bool = False) -> float:
    """Return the share of classes that are opposite to at least one other class; NaN where there is no pair."""
    classes = {name for pair in found for name in (pair.first, pair.second)}
    against = {name for pair in found if pair.is_opposite(corrected=corrected) for name in (pair.first, pair.second)}
    return len(against) / len(classes) if classes else math.nan


def change(
    name: str, before: Float[np.ndarray, "seeds"], after: Float[np.ndarray, "seeds"], cells: int | None = None
) -> Change:
    """Compare the two ends of a sweep seed by seed (the same place is the same seed; NaN where a seed lacks one end).

    `cells` is the number of cells that a share refers to. A share can rise by d only if the predictions of a share d
    of the cells change; in another sample of n such cells that share has a standard deviation of at least the square
    root of d(1 - d)/n (a binomial). The interval is never narrower than this, because a few seeds may agree to the cell
    by chance.
    """
    from scipy.stats import norm, t

    both = ~np.isnan(before + after)
    differences = np.round((after - before)[both], DECIMALS)
    if not len(differences):
        return Change(name, math.nan, math.nan, math.nan, math.nan, math.nan, 0)
    middle = round(float(differences.mean()), DECIMALS)
    ends = float(before[both].mean()), float(after[both].mean())
    if len(differences) == 1:
        return Change(name, *ends, middle, math.nan, math.nan, 1)
    reach = float(t.ppf(0.975, len(differences) - 1)) * float(differences.std(ddof=1)) / math.sqrt(len(differences))
    if cells:
        reach = max(reach, float(norm.ppf(0.975)) * math.sqrt(abs(middle) * (1 - abs(middle)) / cells))
    return Change(name, *ends, middle, middle - reach, middle + reach, len(differences))


def _compared(
    one: Float[np.ndarray, "points"], other: Float[np.ndarray, "points"]
) -> tuple[dict[str, tuple[float, float]], float]:
    """Return the coefficients with their p-values, and the smallest p-value that this number of points can support."""
    from scipy.stats import kendalltau, pearsonr, spearmanr

    both = ~np.isnan(one + other)
    one, other = one[both], other[both]
    if len(one) < FEWEST_POINTS or not np.ptp(one) or not np.ptp(other):
        return dict.fromkeys(COEFFICIENTS, (math.nan, math.nan)), 0.0
    found = {"pearson": pearsonr(one, other), "kendall": kendalltau(one, other), "spearman": spearmanr(one, other)}
    numbers = {name: (float(each.statistic), float(each.pvalue)) for name, each in found.items()}
    return numbers, permutation_probability(one, other)


def _log_orders(counts: Int[np.ndarray, "_"]) -> float:
    """Return the logarithm of the number of ways to order equal values among themselves."""
    return sum(math.lgamma(count + 1) for count in counts)


def _corrected(p_values: Sequence[float]) -> list[float]:
    """Correct the p-values that are known by Benjamini and Hochberg's method."""
    from scipy.stats import false_discovery_control

    given = np.asarray(p_values, dtype=float)
    known = ~np.isnan(given)
    if known.any():
        given[known] = false_discovery_control(given[known])
    return [float(p) for p in given]
