"""Robust Z' and SSMD equal their formulas, and a direction does not separate the wells that it is fitted on."""

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from cellssl.profiling.control_quality import control_quality
from cellssl.randomness import generator


def plates(count: int, dim: int, shift: float, seed: int = 0) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
    """Return plates with 8 positive and 16 negative control wells."""
    rng = generator("control quality", seed, count, dim)
    plate, is_positive = np.repeat(np.arange(count), 24), np.tile(np.arange(24) < 8, count)
    x = rng.normal(size=(24 * count, dim)) + shift * is_positive[:, None] + 20 * rng.normal(size=(count, dim))[plate]
    return x, [f"P{number}" for number in plate], is_positive, ~is_positive


def test_one_feature_has_the_published_formulas() -> None:
    x, labels, positive, negative = plates(3, 1, shift=12)
    found = control_quality(x, labels, positive, negative).set_index("plate")
    for name in ("P0", "P1", "P2"):
        here = np.array(labels) == name
        p, n = x[here & positive, 0], x[here & negative, 0]
        spread = [median_abs_deviation(each, scale=1 / 1.4826) for each in (p, n)]
        distance = np.median(p) - np.median(n)
        assert found.loc[name, "robust_z_prime"] == pytest.approx(1 - 3 * sum(spread) / distance)
        assert found.loc[name, "ssmd"] == pytest.approx(distance / np.hypot(*spread))


@pytest.mark.parametrize("count", [1, 4])
def test_equal_wells_are_not_separated_with_more_features_than_wells(count: int) -> None:
    found = [control_quality(*plates(count, 500, shift=0, seed=seed)) for seed in range(10)]
    assert all((table["robust_z_prime"] < 0).all() for table in found)
    assert abs(np.mean([table["ssmd"].mean() for table in found])) < 0.3


@pytest.mark.parametrize("count", [1, 4])
def test_wells_that_differ_are_separated(count: int) -> None:
    found = control_quality(*plates(count, 500, shift=1))
    assert (found["robust_z_prime"] > 0.5).all()
    assert (found["ssmd"] > 5).all()
    assert (found["remark"] == "").all()


def test_a_plate_with_fewer_than_two_wells_of_a_kind_says_so() -> None:
    x, labels, positive, negative = plates(3, 20, shift=3)
    positive[np.arange(len(positive)) // 24 == 1] = False
    positive[49:56] = False
    found = control_quality(x, labels, positive, negative)
    assert found["positive_controls"].tolist() == [8, 0, 1]
    assert found["ssmd"].isna().tolist() == [False, True, True]
    assert found["remark"][1] == "no positive control well; two of each are needed"
    assert found["remark"][2] == "1 positive control well; two of each are needed"


def test_wells_that_are_all_equal_have_no_number() -> None:
    x, labels, positive, negative = plates(2, 5, shift=0)
    found = control_quality(np.ones_like(x), labels, positive, negative)
    assert found[["robust_z_prime", "ssmd"]].isna().all(axis=None)
    assert (found["remark"] == "positive and negative controls do not differ").all()
