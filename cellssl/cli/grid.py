"""grid: a recipe's arms and seeds in, the stages to make, in order, out; and the table that they end in."""

from __future__ import annotations

import json

from cellssl.artifacts.store import Artifact
from cellssl.cli.console import Console
from cellssl.cli.work import Worker
from cellssl.recipe import Recipe

Cell = tuple[str, int, str]
"""Arm, seed and the last stage to make."""


def grid(worker: Worker, to: str) -> list[Cell]:
    """Every arm and seed up to a stage; a report needs clusters, and accuracies where the recipe has [evaluate]."""
    recipe = worker.recipe
    jobs = []
    for arm in worker.arms():
        ends = [to]
        if to == "report":
            ends = ["cluster", *(["evaluate"] if recipe.has("evaluate", arm) and _is_told(recipe, arm) else [])]
        jobs += [(arm, seed, end) for seed in worker.seeds() for end in ends]
    return jobs


def _is_told(recipe: Recipe, arm: str) -> bool:
    """Whether accuracies are wanted: on the val part only where a point is chosen by them."""
    chooses = recipe.sweep.choose if recipe.sweep else None
    return arm not in recipe.points or recipe.points[arm].part == "test" or chooses in ("knn", "linear")


def show_table(console: Console, report: Artifact) -> None:
    """The table of the report, for a person."""
    table = json.loads(report.file("table.json").read_text(encoding="utf-8"))
    console.table(table["header"], table["rows"])
    console.say(f"page: {report.path / 'report.html'}")
