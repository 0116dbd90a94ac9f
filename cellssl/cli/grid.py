"""grid: a recipe's arms and seeds in, the stages to make, in order, out; and the table that they end in."""

from __future__ import annotations

import json

from cellssl.artifacts.store import Artifact
from cellssl.cli.console import Console
from cellssl.cli.work import Worker
from cellssl.errors import UsageError

Cell = tuple[str, int, str]
"""Arm, seed and the last stage to make."""


def grid(worker: Worker, to: str) -> list[Cell]:
    """Every arm and seed up to a stage; a report needs clusters, and accuracies where the recipe has [evaluate]."""
    return [
        (arm, seed, end)
        for arm in worker.arms()
        for seed in worker.seeds()
        for end in (_reported(worker, arm) if to == "report" else [to])
    ]


def has_clusters(worker: Worker) -> bool:
    """Whether there is something to report on: a table from elsewhere that is evaluated has none."""
    return any(end == "cluster" for _, _, end in grid(worker, "report"))


def check_clusters(worker: Worker) -> None:
    """Raise UsageError for a recipe that has nothing to report on."""
    if not has_clusters(worker):
        raise UsageError(
            f"{worker.recipe.source} makes no clusters, which a report is of",
            hint=f"cellssl evaluate {worker.named()} makes all that it asks for",
        )


def _reported(worker: Worker, arm: str) -> list[str]:
    """What a report shows of an arm; one that evaluates a given table, and has no data set, makes nothing else."""
    evaluates = worker.recipe.has("evaluate")
    from_elsewhere = evaluates and worker.recipe.settings("evaluate", arm).table and not worker.recipe.has("fetch", arm)
    return [*([] if from_elsewhere else ["cluster"]), *(["evaluate"] if evaluates else [])]


def show_table(console: Console, report: Artifact) -> None:
    """The table of the report, for a person."""
    table = json.loads(report.file("table.json").read_text(encoding="utf-8"))
    console.table(table["header"], table["rows"])
    console.say(f"page: {report.path / 'report.html'}")
