"""score_tables: scores of runs in; the table of scores by arm with the best in bold, and tables of single runs, out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import takewhile

from cellssl.reporting.html import Block, Bullets, Folded, Rich, Strong, Table, Value
from cellssl.reporting.paired_tests import paired_test
from cellssl.reporting.seed_statistics import MeanSd, mean_sd, number
from cellssl.stages.cluster.metrics import AGREEMENT_SCORES
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.runs import Run
from cellssl.stages.report.scores import Score, labels_per_run, summary_heads
from cellssl.stages.report.tables_common import CELL_COUNT, by_arm, interval_text, mean_sd_text

AGREEMENT_LABELS = {"ami": "AMI", "ami_max": "AMI max", "nmi": "NMI", "ari": "ARI", "homogeneity": "homogeneity"}
"""Each of AGREEMENT_SCORES, as a table head."""
COLUMNS = {
    "control_well": "well, controls only",
    "density": "cell density",
    "nucleus_size": "size of the nucleus",
    "field_position": "position in the field",
    "dose_micromolar": "dose",
    "moa": "mechanism",
    "true_phenotype": "simulated phenotype",
}
"""Column that clusters are compared with -> what the page calls it; others are called by their names."""
ACTIVE, TESTED = "hits_active", "hits_tested"
TRAINED, BASELINE = "trained", "baseline"
"""Kinds of rows."""


def result_table(scores: ScoresByArm, paper: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """Return header and one row per arm of the few scores that a terminal shows: mean and standard deviation over
    seeds, and the paper's number if it has one.

    Scores that no run has are left out.
    """
    shown = {name: head for name, head in summary_heads().items() if scores.has(name)}
    header = ["arm", *shown.values(), *(["AMI in the paper"] if paper else []), "seeds"]
    table = [
        [
            arm,
            *(score_text(scores, arm, name).replace(" of ", "/") for name in shown),
            *([paper.get(arm, "–")] if paper else []),
            str(len(scores.rows_of(arm))),
        ]
        for arm in scores.arms
    ]
    return header, table


def score_blocks(scores: ScoresByArm, cell_count: Mapping[str, str]) -> list[Block]:
    """Return the table of scores, one row per arm, baselines after the trained arms; `cell_count` is score -> what the
    number of cells of a well finds alone."""
    shown = scores.shown()
    if not shown:
        return []
    best = {score.name: best_arms(scores, score) for score in shown}
    rows = [
        [arm, kind, *(_cell(scores, arm, score.name, best) for score in shown), len(scores.rows_of(arm))]
        for kind, arms in ((TRAINED, scores.trained), (BASELINE, scores.baselines))
        for arm in arms
    ]
    if any(score.name in cell_count for score in shown):
        rows.append([CELL_COUNT, BASELINE, *(cell_count.get(score.name, "–") for score in shown), None])
    table = Table(["arm", "kind", *(score.label for score in shown), "seeds"], rows, _caption(scores, best))
    explained = list(dict.fromkeys(score.caption for score in shown if score.caption))
    return [table, *([Folded("How to read this table", [Bullets(explained)])] if explained else [])]


def best_arms(scores: ScoresByArm, score: Score) -> frozenset[str]:
    """Return the arms with the best mean of a score, and the next ones as long as they may be as good: the same number
    as shown, or an interval of the paired difference over seeds that includes 0. None where all may be as good.

    An arm below one that is worse than the best is not taken, however far its own seeds spread.
    """
    means = scores.means(score.name)
    if len(means) < 2 or score.higher_is_better is None:
        return frozenset()
    best_first = sorted(means, key=means.__getitem__, reverse=not score.lower_is_better)
    best = best_first[0]
    tied = list(
        takewhile(
            lambda arm: number(means[arm]) == number(means[best]) or _may_be_equal(scores, arm, best, score), best_first
        )
    )
    return frozenset(tied if len(tied) < len(means) else ())


def _may_be_equal(scores: ScoresByArm, arm: str, best: str, score: Score) -> bool:
    """Return whether the interval of the difference over the common seeds includes 0; False where there is none."""
    tested = paired_test(scores.differences(best, arm, score.name))
    return tested.is_tested and tested.may_be_zero


def score_text(scores: ScoresByArm, arm: str, name: str) -> str:
    """Return a score of an arm over its seeds as text; active treatments with the number of those tested."""
    score = scores.over_seeds(arm).get(name) or mean_sd([])
    if name != ACTIVE or not score.n:
        return str(score)
    tested = scores.over_seeds(arm)[TESTED]
    return f"{count_text(score)} of {count_text(tested)}"


def count_text(score: MeanSd) -> str:
    """Return a count over seeds as text, without decimals that it does not need."""
    return f"{score.mean:,.0f}" if math.isnan(score.sd) or score.sd == 0 else f"{score.mean:,.1f} ± {score.sd:.1f}"


def _cell(scores: ScoresByArm, arm: str, name: str, best: Mapping[str, frozenset[str]]) -> Value | Rich:
    text = score_text(scores, arm, name)
    return Strong(text) if arm in best[name] else text


def _caption(scores: ScoresByArm, best: Mapping[str, frozenset[str]]) -> str:
    """Return what the table shows, what is bold, and over how many seeds and cells."""
    seeds = sorted({len(scores.rows_of(arm)) for arm in scores.arms})
    several = seeds[-1] > 1
    spread = (
        "Scores of every arm: mean ± standard deviation over seeds."
        if several
        else "Scores of every arm, one seed: how far seeds differ is not known."
    )
    bold = ""
    if any(best.values()):
        tie = " or a paired difference over seeds that may be 0 (95 % interval)" if several else ""
        bold = f"Bold: the best row, and the next ones as long as they have the same number{tie}."
    cells = sorted({int(row["cells"]) for row in scores.rows if row.get("cells") is not None})
    over = f"Clusters of {' or '.join(f'{count:,}' for count in cells[:3])} cells." if 0 < len(cells) <= 3 else ""
    return " ".join(filter(None, [spread, bold, over]))


def run_table(scores: ScoresByArm) -> Block:
    """Return the folded table of single runs."""
    heads = {"arm": "arm", "seed": "seed"}
    heads |= {name: label for name, label in labels_per_run().items() if scores.has(name)}
    runs = Table(
        list(heads.values()),
        [[row.get(name) for name in heads] for row in scores.rows],
        "scores.csv has these and all other scores, with all digits.",
    )
    return Folded("Scores of every run", [runs])


def paper_table(scores: ScoresByArm, paper: Mapping[str, str]) -> Table:
    """Return the AMI here beside that of the paper; with the arms that only one of the two has."""
    here = {arm: scores.over_seeds(arm)["ami"] for arm in scores.arms}
    table: list[list[Value]] = [
        [
            arm,
            str(here[arm]) if arm in here else "not run",
            paper.get(arm, "not given"),
            here[arm].n if arm in here else 0,
        ]
        for arm in dict.fromkeys([*here, *paper])
    ]
    caption = (
        "AMI with the label beside the paper's (mean ± standard deviation; the paper ran 5 seeds, k = 2). The paper "
        "does not say how it scaled intensities, which layer it clustered, or which cells it sampled: the numbers need "
        "not be equal."
    )
    return Table(["arm", "AMI here", "AMI in the paper", "seeds here"], table, caption)


def agreement_tables(runs: list[Run]) -> list[Block]:
    """Return the agreement of the clusters with every column: all scores, shuffled labels, and an interval."""
    table: list[list[Value]] = []
    for arm, arm_runs in by_arm(runs).items():
        compared = [run.clusters.scores.against for run in arm_runs]
        for column in compared[0]:
            each = [against[column] for against in compared if column in against]
            first = each[0]
            bounds = None if math.isnan(first.ami_low) else (first.ami_low, first.ami_high)
            table.append(
                [
                    arm,
                    COLUMNS.get(column, column.replace("_", " ")),
                    *(
                        mean_sd_text(column_agreement.agreement[score] for column_agreement in each)
                        for score in AGREEMENT_SCORES
                    ),
                    interval_text(bounds),
                    mean_sd_text(column_agreement.shuffled_mean for column_agreement in each),
                    first.classes,
                    first.cells,
                ]
            )
    header = ["arm", "agreement with", *(AGREEMENT_LABELS[score] for score in AGREEMENT_SCORES)]
    header += ["95 % interval of AMI", "AMI shuffled", "classes", "cells"]
    caption = (
        "Mean ± standard deviation over seeds; interval (bootstrap over cells), classes and cells: first seed. "
        "Clusters "
        "should not follow plate, well and cell density. A well also has its treatment, so “well, controls only” "
        "leaves out treated cells. AMI is normalised by the mean of both entropies, AMI max by the larger one."
    )
    return [Folded("Agreement of clusters with all that is known of the cells", [Table(header, table, caption)])]
