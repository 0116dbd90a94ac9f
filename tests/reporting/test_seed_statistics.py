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
    score_table,
    separation,
)

NAN = math.nan
WHAT = "treated and untreated cells"


def rows(**arms: list[float]) -> list[dict[str, object]]:
    return [
        {"arm": arm, "seed": seed, "ami": value} for arm, values in arms.items() for seed, value in enumerate(values)
    ]


def test_a_spread_is_mean_and_sample_standard_deviation() -> None:
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
def test_a_spread_as_text(values: list[float], text: str) -> None:
    assert str(mean_sd(values)) == text


def test_arms_keep_their_order_and_missing_scores_do_not_count() -> None:
    scores = aggregate([*rows(sum=[0.5, 0.6], random=[0.1, NAN]), {"arm": "sum", "seed": 2}], ["ami"])
    header, table = score_table(scores, {"ami": "AMI"})
    assert header == ["arm", "AMI", "seeds"]
    assert table == [["sum", "0.55 ± 0.07", "2"], ["random", "0.10", "1"]]


def test_a_clear_separation_is_said_plainly() -> None:
    said = separation(WHAT, MeanSd(0.51, 0.02, 3), MeanSd(0.0, 0.001, 100), {"plates": MeanSd(0.01, 0.0, 3)})
    assert said == (
        "Treated and untreated cells separate: AMI 0.51 ± 0.02 over 3 seeds; shuffled labels 0.00 ± 0.00; "
        "plates 0.01 ± 0.00."
    )


@pytest.mark.parametrize(
    ("ami", "shuffled", "verdict"),
    [
        (MeanSd(0.51, 0.02, 3), None, "separate:"),
        (MeanSd(0.35, 0.02, 3), None, "separate in part:"),
        (MeanSd(0.12, 0.02, 3), None, "separate weakly:"),
        (MeanSd(0.30, 0.15, 3), None, "do not separate reliably"),
        (MeanSd(0.01, 0.0, 3), None, "do not separate (no better than shuffled labels)"),
        (MeanSd(0.08, 0.0, 3), MeanSd(0.01, 0.05, 100), "do not separate (no better than shuffled labels)"),
        (MeanSd(NAN, NAN, 0), None, "no score"),
    ],
)
def test_the_verdict_claims_no_more_than_the_spread_allows(ami: MeanSd, shuffled: MeanSd | None, verdict: str) -> None:
    assert verdict in separation(WHAT, ami, shuffled)


@pytest.mark.parametrize(
    ("plates", "warning"),
    [(0.01, ""), (0.3, "follow plates more than half as much"), (0.6, "follow plates at least as much")],
)
def test_clusters_that_follow_plates_are_warned_of(plates: float, warning: str) -> None:
    said = separation(
        WHAT, MeanSd(0.5, 0.01, 3), None, {"plates": MeanSd(plates, 0.01, 3), "wells": MeanSd(NAN, NAN, 0)}
    )
    assert ("Beware" in said) == bool(warning)
    assert warning in said


def test_one_seed_is_said_to_be_one() -> None:
    assert "AMI 0.51 on one seed" in separation(WHAT, mean_sd([0.51]))
    assert "does not show" in comparison("sum", {0: 0.5}, "random", {0: 0.1})


@pytest.mark.parametrize(
    ("others", "verdict"),
    [
        ([0.30, 0.32, 0.31], "“sum” is better than “context”"),
        ([0.80, 0.81, 0.82], "“sum” is worse than “context”"),
        ([0.41, 0.54, 0.46], "“sum” is not clearly different from “context”"),
    ],
)
def test_a_difference_counts_where_its_interval_leaves_zero_out(others: list[float], verdict: str) -> None:
    values = [0.52, 0.49, 0.55]
    assert comparison("sum", dict(enumerate(values)), "context", dict(enumerate(others))).startswith(verdict)
    assert ("not clearly" in verdict) == (ttest_rel(values, others).pvalue > 0.05)


def test_the_interval_is_that_of_the_paired_t_test() -> None:
    ours, theirs = [0.52, 0.49, 0.55, 0.50], [0.41, 0.46, 0.44, 0.49]
    interval = ttest_rel(ours, theirs).confidence_interval(0.95)
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    assert paired_interval(differences) == pytest.approx((interval.low, interval.high))


def test_only_seeds_that_both_have_are_compared() -> None:
    said = comparison("sum", {0: 0.5, 1: 0.6, 2: NAN}, "random", {1: 0.1, 2: 0.1, 3: 0.1})
    assert "scores +0.50 against “random” on one seed" in said
    assert "share no seed" in comparison("sum", {0: 0.5}, "random", {1: 0.1})


def test_the_best_arm_is_said_to_be_picked_after_the_fact() -> None:
    found = rows(centre=[0.3, 0.3], sum=[0.5, 0.52], random=[0.1, 0.1], intensities=[0.38, 0.38])
    said = best_against_baselines(found, ["random", "intensities"], "ami")
    assert "“sum” is the best of 2 trained arms, picked after the scores were seen." in said
    assert "“intensities”" in said


def test_a_best_arm_below_the_baselines_is_said_to_be_worse() -> None:
    found = rows(sum=[0.30, 0.31, 0.32], random=[0.5, 0.5, 0.5])
    assert best_against_baselines(found, ["random"], "ami").startswith("“sum” is worse than “random”: difference -0.19")


@pytest.mark.parametrize(("baselines", "missing"), [([], "no baseline"), (["sum"], "no trained arm")])
def test_nothing_to_compare_is_said(baselines: list[str], missing: str) -> None:
    assert missing in best_against_baselines(rows(sum=[0.5]), baselines, "ami")
