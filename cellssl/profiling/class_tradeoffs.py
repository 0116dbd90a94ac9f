"""class_tradeoffs: accuracies of classes along a knob in; which classes go against each other, and which gain or lose, out."""

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
"""Below this correlation two classes go against each other (Bendidi et al. 2023, section 3.1) ..."""
ALPHA = 0.05
"""... where its p-value is below this."""
COEFFICIENTS = ("pearson", "kendall", "spearman")
FEWEST_POINTS = 5
"""Of fewer points even chance puts many pairs in perfectly opposite orders, and p-values are rough."""

FEWEST_SEEDS = 3
"""Two may agree by chance, and have no spread then."""

DECIMALS = 12
"""Accuracies that differ by less are equal: shares of the same cells, their sums rounded in another order."""


@dataclass(frozen=True)
class Correlation:
    """One coefficient of two classes over the points of a sweep; NaN where a class never changes."""

    r: float
    p: float
    p_corrected: float
    """By Benjamini and Hochberg, over all pairs of the sweep and all three coefficients; of p-values that are not below
    what `chance_of_order` gives."""

    def is_opposite(self, *, corrected: bool = False) -> bool:
        """Whether it is below -0.3 with p < 0.05."""
        return self.r < OPPOSITE and (self.p_corrected if corrected else self.p) < ALPHA


@dataclass(frozen=True)
class Pair:
    """Two classes, and how their accuracies go along."""

    first: str
    second: str
    by: dict[str, Correlation]
    """Pearson's, Kendall's and Spearman's coefficient, by name."""

    def is_opposite(self, *, corrected: bool = False) -> bool:
        """Whether any of the three says so, as the paper has it."""
        return any(one.is_opposite(corrected=corrected) for one in self.by.values())


@dataclass(frozen=True)
class Change:
    """A score at one end of a sweep less that at the other, by the seeds that both have."""

    name: str
    before: float
    after: float
    by: float
    """How much it rose."""
    low: float
    """95 % interval of the difference by Student's t over seeds, and no narrower than the number of cells allows; NaN
    for one seed, which has no spread."""
    high: float
    seeds: int

    @property
    def is_clear(self) -> bool:
        """Whether it rose or fell by more than the spread over seeds explains; of two seeds that cannot be said."""
        return self.seeds >= FEWEST_SEEDS and (self.low > 0 or self.high < 0)


def pairs(accuracies: Float[np.ndarray, "points classes"], names: Sequence[str]) -> list[Pair]:
    """Every pair of classes with the correlations of their accuracies over the points, in the order of the names.

    Accuracies are means over seeds, one a point; points at which either is missing are left out.
    """
    accuracies = np.round(accuracies, DECIMALS)  # ranks would see an order in what rounding has left
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


def chance_of_order(one: Float[np.ndarray, "points"], other: Float[np.ndarray, "points"]) -> float:
    """How often points come to lie just as they do when one class's accuracies are dealt out anew.

    1/n! without ties; with ties the probability of a table with given margins (Fisher 1935). No test that rests on the
    order of n points can give less, while Pearson's and Spearman's p-values go to 0: two classes that both change at
    one of five points, and nowhere else, have r = -1 and p = 0, though one deal in five looks like that.
    """
    table = np.unique(np.stack([one, other]), axis=1, return_counts=True)[1]
    sides = [np.unique(side, return_counts=True)[1] for side in (one, other)]
    return math.exp(sum(map(_log_orders, sides)) - _log_orders(table) - math.lgamma(len(one) + 1))


def share_with_an_opposite(found: Sequence[Pair], *, corrected: bool = False) -> float:
    """Share of the classes that go against at least one other; NaN where there is no pair."""
    classes = {name for pair in found for name in (pair.first, pair.second)}
    against = {name for pair in found if pair.is_opposite(corrected=corrected) for name in (pair.first, pair.second)}
    return len(against) / len(classes) if classes else math.nan


def change(
    name: str, before: Float[np.ndarray, "seeds"], after: Float[np.ndarray, "seeds"], cells: int | None = None
) -> Change:
    """From one end to the other, seed by seed (the same place is the same seed); NaN where a seed lacks one of them.

    `cells` is how many cells a share is of. A share cannot rise by d unless d of them are told otherwise, and among
    other such cells that number strays by the square root of d(1 - d)/n at least (a binomial). Seeds that agree to the
    cell, as few seeds do by chance, say no more than that.
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
    """Coefficients with their p-values, and below what none of these can be believed."""
    from scipy.stats import kendalltau, pearsonr, spearmanr

    both = ~np.isnan(one + other)
    one, other = one[both], other[both]
    if len(one) < FEWEST_POINTS or not np.ptp(one) or not np.ptp(other):
        return dict.fromkeys(COEFFICIENTS, (math.nan, math.nan)), 0.0
    found = {"pearson": pearsonr(one, other), "kendall": kendalltau(one, other), "spearman": spearmanr(one, other)}
    numbers = {name: (float(each.statistic), float(each.pvalue)) for name, each in found.items()}
    return numbers, chance_of_order(one, other)


def _log_orders(counts: Int[np.ndarray, "_"]) -> float:
    """Of the number of ways to order equals among themselves."""
    return sum(math.lgamma(count + 1) for count in counts)


def _corrected(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's, of those that are known."""
    from scipy.stats import false_discovery_control

    given = np.asarray(p_values, dtype=float)
    known = ~np.isnan(given)
    if known.any():
        given[known] = false_discovery_control(given[known])
    return [float(p) for p in given]
