"""Intervals of few wells contain the true mean about as often as they say."""

import numpy as np
import pytest

from cellssl.profiling.well_intervals import interval, resampled
from cellssl.randomness import generator


def covered(wells: int, times: int = 400) -> float:
    rng = generator("coverage", wells)
    found = []
    for number in range(times):
        values = rng.normal(size=wells)
        low, high = interval(resampled(wells, 400, "test", number) @ values / wells, wells)
        found.append(low <= 0 <= high)
    return float(np.mean(found))


def test_intervals_of_six_and_twenty_wells_contain_the_mean() -> None:
    assert covered(6) > 0.93
    assert covered(20) == pytest.approx(0.95, abs=0.025)


def test_two_wells_give_the_range_between_them() -> None:
    values = np.array([1.0, 3.0])
    assert interval(resampled(2, 1000, "two") @ values / 2, 2) == (1.0, 3.0)


def test_many_wells_have_the_usual_percentiles() -> None:
    values = generator("percentiles").normal(size=10_000)
    assert interval(values, 100_000) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])), abs=1e-3)


def test_one_well_has_no_interval() -> None:
    assert np.isnan(interval(np.ones(100), 1)).all()
