"""grid: a recipe's arms and seeds in, the stages to make, in order, out; and the table that they end in."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cellssl.artifacts.card import Card
from cellssl.artifacts.store import Artifact
from cellssl.cli.console import Console
from cellssl.cli.work import Worker
from cellssl.config.recipe import CHAIN, Recipe
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
    evaluates = worker.recipe.has("evaluate", arm) and _is_told(worker.recipe, arm)
    from_elsewhere = evaluates and worker.recipe.settings("evaluate", arm).table and not worker.recipe.has("fetch", arm)
    return [*([] if from_elsewhere else ["cluster"]), *(["evaluate"] if evaluates else [])]


def _is_told(recipe: Recipe, arm: str) -> bool:
    """Whether accuracies are wanted: on the val part only where a point is chosen by them."""
    chooses = recipe.sweep.choose if recipe.sweep else None
    return arm not in recipe.points or recipe.points[arm].part == "test" or chooses in ("knn", "linear")


def filling(worker: Worker) -> tuple[list[str], list[list[str]]]:
    """How far a sweep is: a row a point, and of every stage that is not the same at all, how many seeds are done."""
    cards: dict[str, dict[str, dict[str, Card]]] = {arm: {} for arm in worker.arms() if arm in worker.recipe.points}
    for arm, seed, end in grid(worker, "report"):
        if arm in cards:
            planner = worker.planner(arm, seed)
            planner.plan(end)
            for planned in planner.stages.values():
                cards[arm].setdefault(planned.stage, {})[planned.fingerprint] = planned.card
    varied = [stage for stage in CHAIN if len({tuple(stages.get(stage, ())) for stages in cards.values()}) > 1]
    rows = [[arm, *(_counted(worker, stages.get(stage, {})) for stage in varied)] for arm, stages in cards.items()]
    return ["point", *varied], rows


def _counted(worker: Worker, cards: Mapping[str, Card]) -> str:
    """Such as `2 of 5, 1 partial`."""
    states = [worker.state(card).partition(" ")[0] for card in cards.values()]
    partial = states.count("partial")
    return f"{states.count('done')} of {len(states)}" + (f", {partial} partial" if partial else "") if states else ""


def show_table(console: Console, report: Artifact) -> None:
    """The table of the report, for a person."""
    table = json.loads(report.file("table.json").read_text(encoding="utf-8"))
    console.table(table["header"], table["rows"])
    console.say(f"page: {report.path / 'report.html'}")
