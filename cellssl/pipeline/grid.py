"""grid: a recipe's arms and seeds in, the last stage to make of each, in order, out."""

from __future__ import annotations

from collections.abc import Sequence

from cellssl.config.recipe import Recipe

GridCell = tuple[str, int, str]
"""Arm, seed and the last stage to make."""


def grid(recipe: Recipe, arms: Sequence[str], seeds: Sequence[int], to: str) -> list[GridCell]:
    """Return every arm and seed up to a stage.

    A report needs clusters, and accuracies where the recipe has [evaluate].
    """
    return [
        (arm, seed, end)
        for arm in arms
        for seed in seeds
        for end in (_reported_stages(recipe, arm) if to == "report" else [to])
    ]


def has_clusters(recipe: Recipe, arms: Sequence[str]) -> bool:
    """Return whether a report has anything to show: an external table that is only evaluated has no clusters."""
    return any("cluster" in _reported_stages(recipe, arm) for arm in arms)


def _reported_stages(recipe: Recipe, arm: str) -> list[str]:
    """Return what a report shows of an arm; one that evaluates an external table without a data set has no clusters."""
    evaluates = recipe.has("evaluate", arm) and _is_evaluated(recipe, arm)
    external = evaluates and recipe.settings("evaluate", arm).table and not recipe.has("fetch", arm)
    return [*([] if external else ["cluster"]), *(["evaluate"] if evaluates else [])]


def _is_evaluated(recipe: Recipe, arm: str) -> bool:
    """Return whether accuracies are wanted: on the val part only where they choose the point of a sweep."""
    chooses = recipe.sweep.choose if recipe.sweep else None
    return arm not in recipe.points or recipe.points[arm].part == "test" or chooses in ("knn", "linear")
