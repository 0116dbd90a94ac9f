"""grid: a recipe's arms and seeds in, the stages to make, in order, out; and the table that they end in."""

from __future__ import annotations

import json

from cellssl.artifacts.store import Artifact
from cellssl.cli.console import Console
from cellssl.cli.work import Worker

Cell = tuple[str, int, str]
"""Arm, seed and the last stage to make."""


def grid(worker: Worker, to: str) -> list[Cell]:
    """Every arm and seed up to a stage; a report needs clusters, and accuracies where the recipe has [evaluate]."""
    ends = [to]
    if to == "report":
        ends = ["cluster", *(["evaluate"] if worker.recipe.has("evaluate") else [])]
    return [(arm, seed, end) for arm in worker.arms() for seed in worker.seeds() for end in ends]


def show_table(console: Console, report: Artifact) -> None:
    """The table of the report, for a person."""
    table = json.loads(report.file("table.json").read_text(encoding="utf-8"))
    console.table(table["header"], table["rows"])
    console.say(f"page: {report.path / 'report.html'}")
