"""grid: a recipe's arms and seeds in, the last stage to make of each, in order, out."""

from __future__ import annotations

from collections.abc import Sequence

from cellssl.config.recipe import Recipe

GridCell = tuple[str, int, str]
"""Arm, seed and the last stage to make."""
ADDED = ("evaluate", "hits")
"""Stages that a report shows beside the clusters, where the recipe has their sections."""


def grid(recipe: Recipe, arms: Sequence[str], seeds: Sequence[int], to: str) -> list[GridCell]:
    """Return every arm and seed up to a stage.

    A report needs clusters, accuracies where the recipe has [evaluate], and hits where it has [hits].
    """
    return [
        (arm, seed, end)
        for arm in arms
        for seed in seeds
        for end in (_reported_stages(recipe, arm) if to == "report" else [to])
    ]


def has_clusters(recipe: Recipe, arms: Sequence[str]) -> bool:
    """Return whether a report has anything to show: of an external table alone there are no clusters."""
    return any("cluster" in _reported_stages(recipe, arm) for arm in arms)


def _reported_stages(recipe: Recipe, arm: str) -> list[str]:
    """Return what a report shows of an arm; one with an external table and without a data set has no clusters."""
    added = [stage for stage in ADDED if recipe.has(stage, arm) and _is_wanted(recipe, arm, stage)]
    external = not recipe.has("fetch", arm) and any(recipe.settings(stage, arm).table for stage in added)
    return [*([] if external else ["cluster"]), *added]


def _is_wanted(recipe: Recipe, arm: str, stage: str) -> bool:
    """Return whether an arm is evaluated or searched for hits.

    Accuracies on the val part are wanted only where they choose the point of a sweep; hits are of all parts.
    """
    chooses = recipe.sweep.choose if recipe.sweep else None
    is_whole = arm not in recipe.points or recipe.points[arm].part == "test"
    return is_whole or (stage == "evaluate" and chooses in ("knn", "linear"))
