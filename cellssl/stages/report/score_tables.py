"""score_tables: scores of runs in, the tables of results by arm and by run out."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cellssl.reporting.html import Block, Folded, Table, Value
from cellssl.reporting.seed_statistics import score_table
from cellssl.stages.cluster.metrics import AGREEMENT_SCORES
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.runs import Run
from cellssl.stages.report.scores import captions, labels_per_arm, labels_per_run
from cellssl.stages.report.tables_common import by_arm, interval_text, mean_sd_text

AGREEMENT_LABELS = {"ami": "AMI", "ami_max": "AMI max", "nmi": "NMI", "ari": "ARI", "homogeneity": "homogeneity"}
"""Each of AGREEMENT_SCORES, as a table head."""


def result_table(scores: ScoresByArm, paper: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """Return header and one row per arm: mean and standard deviation over seeds, and the paper's number if it has one.

    Scores that no run has are left out.
    """
    shown = {name: label for name, label in labels_per_arm().items() if _is_known(scores, name)}
    header, table = score_table(list(scores.arms.values()), shown)
    if paper:
        header = [*header, "AMI in the paper"]
        table = [[*row, paper.get(row[0], "–")] for row in table]
    return header, table


def result_blocks(scores: ScoresByArm, paper: Mapping[str, str]) -> list[Block]:
    """Return the table of arms, the comparison with the paper, and the table of single runs."""
    header, table = result_table(scores, {})
    explained = [text for text, names in captions().items() if any(_is_known(scores, name) for name in names)]
    caption = " ".join(["Mean ± standard deviation over seeds.", *explained])
    blocks: list[Block] = [Table(header, table, caption)]
    if paper:
        blocks.append(_paper_table(scores, paper))
    heads = {"arm": "arm", "seed": "seed"}
    heads |= {name: label for name, label in labels_per_run().items() if _is_known(scores, name)}
    runs = Table(
        list(heads.values()),
        [[row.get(name) for name in heads] for row in scores.rows],
        "scores.csv has these and all other scores, with all digits.",
    )
    return [*blocks, Folded("Scores of every run", [runs])]


def _is_known(scores: ScoresByArm, name: str) -> bool:
    return any(row.get(name) is not None for row in scores.rows)


def _paper_table(scores: ScoresByArm, paper: Mapping[str, str]) -> Table:
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
                    column,
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
    header = ["arm", "column", *(AGREEMENT_LABELS[score] for score in AGREEMENT_SCORES)]
    header += ["95 % interval of AMI", "AMI shuffled", "classes", "cells"]
    caption = (
        "AMI is normalised by the arithmetic mean, AMI max by the maximum. Mean ± standard deviation over seeds; the "
        "interval (bootstrap over cells), the classes and the cells are those of the first seed. The clusters should "
        "not follow the columns plate, well and density. A well also contains its treatment, so control_well has the "
        "wells of control cells only."
    )
    return [Folded("Agreement of clusters with every column", [Table(header, table, caption)])]
