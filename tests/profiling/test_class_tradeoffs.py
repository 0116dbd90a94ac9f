"""Correlations equal scipy's, the correction is checked by hand, and a made-up sweep gives what was put into it."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from cellssl.profiling.class_tradeoffs import change, pairs, permutation_probability, share_with_an_opposite
from cellssl.randomness import generator

UP = np.linspace(0.5, 0.9, 8)


def test_two_classes_are_opposite_where_one_falls_as_the_other_rises() -> None:
    found = pairs(np.stack([UP, UP[::-1], UP**2], axis=1), ["a", "b", "c"])
    assert [(one.first, one.second) for one in found if one.is_opposite()] == [("a", "b"), ("b", "c")]
    assert share_with_an_opposite(found) == 1
    assert share_with_an_opposite(found[1:2]) == 0


def test_each_coefficient_equals_scipys() -> None:
    one, other = generator("test", "trends").normal(size=(2, 9))
    [pair] = pairs(np.stack([one, other], axis=1), ["a", "b"])
    for name, expected in {
        "pearson": stats.pearsonr(one, other),
        "kendall": stats.kendalltau(one, other),
        "spearman": stats.spearmanr(one, other),
    }.items():
        assert (pair.by[name].r, pair.by[name].p) == pytest.approx(tuple(expected))


def test_the_correction_is_by_benjamini_and_hochberg_over_all_pairs_and_coefficients() -> None:
    found = pairs(generator("test", "trends").normal(size=(12, 6)), list("abcdef"))
    given = sorted((one.p, one.p_corrected) for pair in found for one in pair.by.values())
    assert given[0][0] > 1 / math.factorial(12)
    smallest, by_hand = 1.0, []
    for rank in range(len(given), 0, -1):
        smallest = min(smallest, given[rank - 1][0] * len(given) / rank)
        by_hand.append(smallest)
    assert [corrected for _, corrected in given] == pytest.approx(by_hand[::-1])


def test_the_correction_removes_opposites_that_arise_by_chance() -> None:
    found = pairs(generator("test", "chance").normal(size=(10, 40)), [str(number) for number in range(40)])
    assert share_with_an_opposite(found) > 0.5
    assert share_with_an_opposite(found, corrected=True) < 0.1


def test_few_points_and_coarse_shares_give_no_opposites_after_correction() -> None:
    right = generator("test", "coarse").binomial(18, 0.5, size=(5, 60)) // 3 * 3  # 18 cells per class, many ties
    found = pairs(right / 18, [str(number) for number in range(60)])
    assert min(one.p for pair in found for one in pair.by.values()) == 0
    assert share_with_an_opposite(found) > 0.5
    assert share_with_an_opposite(found, corrected=True) == 0


@pytest.mark.parametrize("values", [(1, 2, 3, 4, 5), (1, 1, 1, 1, 2), (1, 1, 2, 2, 3)])
def test_the_permutation_probability_equals_a_count_over_all_permutations(values: tuple[int, ...]) -> None:
    one, other = np.array(values), np.array(values[::-1])
    permuted = [sorted(zip(one, order, strict=True)) for order in permutations(other)]
    observed = sorted(zip(one, other, strict=True))
    assert permutation_probability(one.astype(float), other.astype(float)) == pytest.approx(
        permuted.count(observed) / len(permuted)
    )


def test_a_class_that_never_changes_has_no_opposite() -> None:
    [pair] = pairs(np.stack([UP, np.ones(8)], axis=1), ["a", "b"])
    assert math.isnan(pair.by["pearson"].r)
    assert not pair.is_opposite() and not pair.is_opposite(corrected=True)


def test_accuracies_that_differ_only_by_rounding_are_tied() -> None:
    seeds = np.array([[5, 5, 5], [4, 5, 6], [1, 7, 7], [3, 3, 3], [6, 6, 6]]) / 53  # 15 right of 159 at three points
    added = np.array([sum(row) / 3 for row in seeds.tolist()])
    assert len(set(added[:3])) > 1
    right = np.array([3, 1, 2, 5, 4]) / 10
    [pair] = pairs(np.stack([added, right], axis=1), ["a", "b"])
    exact = [15, 15, 15, 9, 18]
    for name, expected in {
        "kendall": stats.kendalltau(exact, right),
        "spearman": stats.spearmanr(exact, right),
    }.items():
        assert (pair.by[name].r, pair.by[name].p) == pytest.approx(tuple(expected))


def test_the_same_scores_in_another_order_of_seeds_are_no_change() -> None:
    before, after = np.array([0.1, 0.2, 0.3]), np.array([0.2, 0.3, 0.1])
    assert before.mean() != after.mean()
    assert change("a", before, after).by == 0.0


def test_three_points_are_too_few_for_opposites() -> None:
    [pair] = pairs(np.stack([UP[:3], UP[2::-1]], axis=1), ["a", "b"])
    assert not pair.is_opposite()


def test_a_change_is_paired_by_seed() -> None:
    before, after = np.array([0.5, 0.7, 0.9]), np.array([0.6, 0.81, 0.99])
    found = change("a", before, after)
    low, high = stats.ttest_rel(after, before).confidence_interval()
    assert (found.by, found.low, found.high) == pytest.approx((0.1, low, high))
    assert found.is_clear
    assert not change("a", before, before[[2, 1, 0]]).is_clear


def test_seeds_that_agree_to_the_cell_give_an_interval_no_narrower_than_the_cells_allow() -> None:
    before = np.array([30, 31, 35]) / 55
    assert change("a", before, before + 1 / 55).is_clear
    assert not change("a", before, before + 1 / 55, cells=55).is_clear
    assert change("a", before, before + 10 / 55, cells=55).is_clear
    assert change("a", np.zeros(3), np.ones(3), cells=55).is_clear


def test_the_interval_is_students_but_no_narrower_than_the_binomial() -> None:
    before, after = np.array([0.5, 0.7, 0.9]), np.array([0.6, 0.81, 0.99])
    assert change("a", before, after, cells=10_000_000) == change("a", before, after)
    found, spread = change("a", before, after, cells=20), stats.binom(20, 0.1).std() / 20
    assert (found.low, found.high) == pytest.approx((0.1 - 1.959964 * spread, 0.1 + 1.959964 * spread))


def test_one_seed_shows_no_clear_change() -> None:
    found = change("a", np.array([0.1, np.nan]), np.array([0.9, 0.5]))
    assert (found.seeds, found.by) == (1, pytest.approx(0.8))
    assert not found.is_clear
