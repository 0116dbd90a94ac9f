"""paired_tests: differences of pairs, as of two arms seed by seed -> mean, 95 % interval and corrected p-values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cellssl.reporting.seed_statistics import mean_sd

LEVEL = 0.95


@dataclass(frozen=True)
class PairedTest:
    """A paired t-test: whether the mean of differences could be 0."""

    mean: float
    n: int
    low: float = math.nan
    high: float = math.nan
    """Ends of the interval; NaN where there is one pair, or all differences are the same, so that nothing spreads."""
    p_value: float = math.nan
    corrected_p_value: float = math.nan

    @property
    def is_tested(self) -> bool:
        """Whether there is an interval."""
        return not math.isnan(self.low)

    @property
    def may_be_zero(self) -> bool:
        """Whether the interval includes 0; without an interval, whether the difference is 0."""
        return self.low <= 0 <= self.high if self.is_tested else self.mean == 0


def paired_test(differences: Sequence[float], comparisons: int = 1) -> PairedTest:
    """Return the mean of the differences that are known, and its interval by Student's t.

    The interval is widened for the number of comparisons (Bonferroni), so that all of them hold together with 95 %.
    """
    known = [one for one in differences if not math.isnan(one)]
    found = mean_sd(known)
    if found.n < 2 or _is_constant(known):
        return PairedTest(found.mean, found.n)
    from scipy.stats import ttest_1samp

    tested = ttest_1samp(known, 0.0)
    interval = tested.confidence_interval(1 - (1 - LEVEL) / max(1, comparisons))
    return PairedTest(found.mean, found.n, float(interval.low), float(interval.high), float(tested.pvalue))


def _is_constant(differences: Sequence[float]) -> bool:
    """Return whether differences differ by rounding only."""
    return math.isclose(min(differences), max(differences), rel_tol=1e-9, abs_tol=1e-12)


def paired_tests(each: Sequence[Sequence[float]]) -> list[PairedTest]:
    """Return the test of several comparisons, with intervals and p-values corrected for those that can be tested."""
    count = sum(paired_test(differences).is_tested for differences in each)
    tests = [paired_test(differences, count) for differences in each]
    corrected = iter(holm([one.p_value for one in tests if one.is_tested]))
    return [
        PairedTest(one.mean, one.n, one.low, one.high, one.p_value, next(corrected)) if one.is_tested else one
        for one in tests
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, step by step from the smallest one (Holm 1979, jstor:4615733)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, largest = [math.nan] * len(p_values), 0.0
    for step, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - step) * p_values[place]))
        corrected[place] = largest
    return corrected
