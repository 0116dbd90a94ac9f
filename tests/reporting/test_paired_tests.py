"""paired_tests: against scipy, against Holm's procedure by hand, and where nothing can be tested."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from cellssl.reporting.paired_tests import holm, paired_test, paired_tests

ONE, OTHER = np.array([0.41, 0.38, 0.45, 0.40]), np.array([0.35, 0.36, 0.37, 0.39])


@pytest.mark.parametrize("comparisons", (1, 4))
def test_interval_and_p_value_are_those_of_a_paired_t_test(comparisons: int) -> None:
    expected = ttest_rel(ONE, OTHER)
    interval = expected.confidence_interval(1 - 0.05 / comparisons)
    found = paired_test((ONE - OTHER).tolist(), comparisons)
    assert (found.low, found.high, found.p_value) == pytest.approx((interval.low, interval.high, expected.pvalue))
    assert (found.mean, found.n) == (pytest.approx((ONE - OTHER).mean()), 4)


def test_holm_multiplies_the_smallest_by_all_and_never_falls() -> None:
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0] and holm([]) == []


def test_holm_agrees_with_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = np.random.default_rng(0).uniform(size=12) ** 3
    assert holm(p_values.tolist()) == pytest.approx(multitest.multipletests(p_values, method="holm")[1])


def test_one_pair_and_equal_differences_have_no_interval_and_count_for_no_correction() -> None:
    alone, constant, tested = paired_tests([[0.1], [0.2, 0.2, 0.2], [0.1, 0.2, 0.4]])
    assert not alone.is_tested and not constant.is_tested and constant.mean == pytest.approx(0.2)
    assert tested.corrected_p_value == tested.p_value, "one comparison is left"
    assert paired_test([]).n == 0 and math.isnan(paired_test([]).mean)
