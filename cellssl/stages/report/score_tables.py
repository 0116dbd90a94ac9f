"""score_tables: scores of runs in, the tables of results by arm out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cellssl.reporting.html import Block, Folded, Table, Value
from cellssl.reporting.seed_statistics import aggregate, number, score_table
from cellssl.stages.report.runs import Row, Run

if TYPE_CHECKING:
    pass
from cellssl.stages.report.tables_common import by_arm, seed_range

COLUMNS = {
    "ami": "AMI label",
    "shuffled": "AMI shuffled",
    "ami_plate": "AMI plate",
    "ami_density": "AMI density",
    "ami_phenotype": "AMI phenotype",
    "silhouette": "silhouette",
    "knn": "kNN accuracy",
    "linear": "linear accuracy",
}
"""Scores of the first table, by their names in scores.csv."""


OF_A_RUN = {
    "cells": "cells",
    "ami": "AMI label",
    "ami_low": "95 % from",
    "ami_high": "to",
    "ami_max": "AMI max",
    "shuffled": "shuffled",
    "ami_plate": "AMI plate",
    "ami_well_in_controls": "AMI well, controls",
    "ami_density": "AMI density",
    "silhouette": "silhouette",
    "knn": "kNN",
    "linear": "linear",
}
"""Scores of single runs, by their names in scores.csv."""


def result_table(rows: list[Row], paper: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """A row an arm: mean and standard deviation over seeds; the paper's number where it gives one."""
    shown = {name: head for name, head in COLUMNS.items() if _known(rows, name)}
    header, table = score_table(aggregate(rows, list(shown)), shown)
    if paper:
        header = [*header, "AMI in the paper"]
        table = [[*row, paper.get(row[0], "–")] for row in table]
    return header, table


def _known(rows: list[Row], name: str) -> bool:
    return any(row.get(name) is not None for row in rows)


def results(rows: list[Row], paper: Mapping[str, str]) -> list[Block]:
    """Every arm, and every run."""
    header, table = result_table(rows, {})
    said = {
        ("ami",): "AMI label: clusters against the label: treated or not, or the class.",
        ("ami_plate", "ami_density"): "AMI plate, density: against what clusters should not follow.",
        ("knn", "linear"): "Accuracies are balanced, so chance is 1 over the number of classes.",
    }
    there = [words for names, words in said.items() if any(_known(rows, name) for name in names)]
    caption = " ".join(["Every arm: mean ± standard deviation over seeds.", *there])
    blocks: list[Block] = [Table(header, table, caption)]
    if paper:
        blocks.append(_beside_the_paper(rows, paper))
    names = {"arm": "arm", "seed": "seed", **{name: head for name, head in OF_A_RUN.items() if _known(rows, name)}}
    each = [[row.get(name) for name in names] for row in rows]
    runs = Table(list(names.values()), each, "scores.csv has these and all others, in full.")
    return [*blocks, Folded("Every run, number by number", [runs])]


def _beside_the_paper(rows: list[Row], paper: Mapping[str, str]) -> Table:
    """Ours beside the paper's; arms that only one of the two has are there too."""
    ours = {each.arm: each.by_metric["ami"] for each in aggregate(rows, ["ami"])}
    table: list[list[Value]] = [
        [
            arm,
            str(ours[arm]) if arm in ours else "not run",
            paper.get(arm, "not given"),
            ours[arm].n if arm in ours else 0,
        ]
        for arm in dict.fromkeys([*ours, *paper])
    ]
    caption = (
        "AMI of the label beside the paper's (mean ± standard deviation; the paper ran 5 seeds, k = 2). The paper "
        "does not say how it scaled intensities, which layer it clustered, nor which cells it drew: expect no equal "
        "numbers."
    )
    return Table(["arm", "AMI here", "AMI in the paper", "seeds here"], table, caption)


def agreements(runs: list[Run]) -> list[Block]:
    """Clusters against every column: all scores, what shuffled labels give, and an interval."""
    table = []
    for arm, mine in by_arm(runs).items():
        found = [one.cluster.card.metrics["against"] for one in mine]
        for column in found[0]:
            each = [against[column] for against in found if column in against]
            low, high = each[0]["ami_interval"]
            table.append(
                [
                    arm,
                    column,
                    *(
                        seed_range(one[score] for one in each)
                        for score in ("ami", "ami_max", "nmi", "ari", "homogeneity")
                    ),
                    f"{number(low)} to {number(high)}" if low is not None else "–",
                    seed_range(one["shuffled_ami"]["mean"] for one in each),
                    each[0]["classes"],
                    each[0]["cells"],
                ]
            )
    header = ["arm", "column", "AMI", "AMI max", "NMI", "ARI", "homogeneity", "95 % interval of AMI", "AMI shuffled"]
    caption = (
        "AMI: arithmetic mean; AMI max: maximum as normaliser. Mean ± standard deviation over seeds; the interval "
        "(bootstrap over cells), the classes and the cells are those of the first seed. The columns plate, well and "
        "density are what clusters should not follow; a well also holds its treatment, so control_well has the wells "
        "of control cells alone."
    )
    return [Folded("Clusters against every column", [Table([*header, "classes", "cells"], table, caption)])]
