"""The spread of a feature among many control wells is theirs, and among few that of all wells, as far as they know."""

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from cellssl.profiling.well_scale import feature_scale
from cellssl.randomness import generator

PLATE = np.repeat([0, 1], 500)


def profiles() -> np.ndarray:
    """Return 1,000 wells on two plates with spreads from 0.01 to 100."""
    rng = generator("well scale")
    return rng.normal(size=(1000, 5)) * 10.0 ** np.arange(-2, 3) + 1000 * PLATE[:, None]


def test_many_control_wells_have_their_own_spread() -> None:
    x, is_control = profiles(), np.arange(1000) % 500 < 400
    x[~is_control] *= 50
    own = [median_abs_deviation(x[is_control & (plate == PLATE)], scale="normal") for plate in (0, 1)]
    np.testing.assert_allclose(feature_scale(x, PLATE, is_control), np.mean(own, axis=0), rtol=0.1)


def test_few_control_wells_have_nearly_the_relative_spreads_of_all_wells() -> None:
    x, is_control = profiles(), np.arange(1000) % 500 < 2
    relative = feature_scale(x, PLATE, is_control) / 10.0 ** np.arange(-2, 3)
    assert relative.max() / relative.min() < 1.6


def test_one_control_well_per_plate_has_the_spread_of_all_wells() -> None:
    found = feature_scale(profiles(), PLATE, np.arange(1000) % 500 == 0)
    assert found == pytest.approx(10.0 ** np.arange(-2, 3), rel=0.1)


def test_a_feature_that_does_not_vary_has_an_infinite_spread() -> None:
    x = profiles()
    x[:, 2] = 7
    assert np.isinf(feature_scale(x, PLATE, np.arange(1000) % 2 == 0)).tolist() == [False, False, True, False, False]
