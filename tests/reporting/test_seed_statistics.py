"""Statistics over seeds, and sentences that claim no more than these statistics allow."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from cellssl.reporting.seed_statistics import (
    MeanSd,
    aggregate,
    best_against_baselines,
    comparison,
    mean_sd,
    paired_interval,
    separation,
)

NAN = math.nan
WHAT = "treated and untreated cells"


def rows(**arms: list[float]) -> list[dict[str, object]]:
    return [
        {"arm": arm, "seed": seed, "ami": value} for arm, values in arms.items() for seed, value in enumerate(values)
    ]


def test_mean_and_sample_standard_deviation_ignore_nan() -> None:
    found = mean_sd([0.49, 0.51, 0.56, NAN])
    assert (found.mean, found.sd, found.n) == pytest.approx((0.52, np.std([0.49, 0.51, 0.56], ddof=1), 3))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0.49, 0.51, 0.53], "0.51 ± 0.02"),
        ([0.384], "0.38"),
        ([], "–"),
        ([NAN], "–"),
        ([-0.001, -0.001], "0.00 ± 0.00"),
    ],
)
def test_mean_and_standard_deviation_as_text(values: list[float], text: str) -> None:
    assert str(mean_sd(values)) == text


def test_arms_keep_their_order_and_missing_scores_do_not_count() -> None:
    scores = aggregate([*rows(sum=[0.5, 0.6], random=[0.1, NAN]), {"arm": "sum", "seed": 2}], ["ami"])
    found = [(each.arm, str(each.by_metric["ami"]), each.by_metric["ami"].n) for each in scores]
    assert found == [("sum", "0.55 ± 0.07", 2), ("random", "0.10", 1)]


def test_a_clear_separation_is_stated_with_its_scores() -> None:
    sentence = separation(WHAT, MeanSd(0.51, 0.02, 3), MeanSd(0.0, 0.001, 100), {"plates": MeanSd(0.01, 0.0, 3)})
    assert sentence == (
        "Treated and untreated cells separate (AMI of 0.5 or more): AMI 0.51 ± 0.02 over 3 seeds; shuffled labels "
        "0.00 ± 0.00; plates 0.01 ± 0.00."
    )


@pytest.mark.parametrize(
    ("ami", "shuffled", "degree"),
    [
        (MeanSd(0.51, 0.02, 3), None, "separate (AMI of 0.5 or more):"),
        (MeanSd(0.35, 0.02, 3), None, "separate in part (AMI from 0.2 to 0.5):"),
        (MeanSd(0.12, 0.02, 3), None, "separate weakly (AMI below 0.2):"),
        (MeanSd(0.30, 0.15, 3), None, "do not separate reliably"),
        (MeanSd(0.01, 0.0, 3), None, "do not separate (no better than shuffled labels: an AMI up to 0.02 counts as"),
        (MeanSd(0.08, 0.0, 3), MeanSd(0.01, 0.05, 100), "(no better than shuffled labels: an AMI up to 0.11 counts"),
        (MeanSd(NAN, NAN, 0), None, "no score"),
    ],
)
def test_the_degree_of_separation_depends_on_the_spread_over_seeds(
    ami: MeanSd, shuffled: MeanSd | None, degree: str
) -> None:
    assert degree in separation(WHAT, ami, shuffled)


@pytest.mark.parametrize(
    ("plates", "warning"),
    [(0.01, ""), (0.3, "follow plates more than half as much"), (0.6, "follow plates at least as much")],
)
def test_a_warning_says_where_clusters_follow_plates(plates: float, warning: str) -> None:
    sentence = separation(
        WHAT, MeanSd(0.5, 0.01, 3), None, {"plates": MeanSd(plates, 0.01, 3), "wells": MeanSd(NAN, NAN, 0)}
    )
    assert ("Caution" in sentence) == bool(warning)
    assert warning in sentence


def test_the_sentence_says_where_there_is_only_one_seed() -> None:
    assert "AMI 0.51 on one seed" in separation(WHAT, mean_sd([0.51]))
    assert "does not show" in comparison("sum", {0: 0.5}, "random", {0: 0.1})


@pytest.mark.parametrize(
    ("others", "beginning"),
    [
        ([0.30, 0.32, 0.31], "“sum” is better than “context”"),
        ([0.80, 0.81, 0.82], "“sum” is worse than “context”"),
        ([0.41, 0.54, 0.46], "“sum” is not clearly different from “context”"),
    ],
)
def test_a_difference_is_clear_where_its_interval_excludes_zero(others: list[float], beginning: str) -> None:
    values = [0.52, 0.49, 0.55]
    assert comparison("sum", dict(enumerate(values)), "context", dict(enumerate(others))).startswith(beginning)
    assert ("not clearly" in beginning) == (ttest_rel(values, others).pvalue > 0.05)


def test_the_interval_equals_that_of_the_paired_t_test() -> None:
    ours, theirs = [0.52, 0.49, 0.55, 0.50], [0.41, 0.46, 0.44, 0.49]
    interval = ttest_rel(ours, theirs).confidence_interval(0.95)
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    assert paired_interval(differences) == pytest.approx((interval.low, interval.high))


def test_only_seeds_that_both_arms_have_are_compared() -> None:
    sentence = comparison("sum", {0: 0.5, 1: 0.6, 2: NAN}, "random", {1: 0.1, 2: 0.1, 3: 0.1})
    assert "“sum” minus “random” is +0.50 on one seed" in sentence
    assert "have no seed in common" in comparison("sum", {0: 0.5}, "random", {1: 0.1})


def test_the_sentence_says_that_the_best_arm_was_chosen_afterwards() -> None:
    found = rows(centre=[0.3, 0.3], sum=[0.5, 0.52], random=[0.1, 0.1], intensities=[0.38, 0.38])
    sentence = best_against_baselines(found, ["random", "intensities"], "ami")
    assert "“sum” was picked because it scored best of 2 trained arms, so its score flatters it." in sentence
    assert "“intensities”" in sentence


def test_a_best_arm_below_the_baselines_is_worse() -> None:
    found = rows(sum=[0.30, 0.31, 0.32], random=[0.5, 0.5, 0.5])
    assert best_against_baselines(found, ["random"], "ami").startswith("“sum” is worse than “random”: difference -0.19")


@pytest.mark.parametrize(("baselines", "missing"), [([], "no baseline"), (["sum"], "no trained arm")])
def test_a_missing_arm_or_baseline_is_named(baselines: list[str], missing: str) -> None:
    assert missing in best_against_baselines(rows(sum=[0.5]), baselines, "ami")
