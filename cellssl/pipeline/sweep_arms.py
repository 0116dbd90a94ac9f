"""sweep_arms: a recipe with a `[sweep]` in, the recipe in which every point of the sweep is an arm out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cellssl.config.plugins import did_you_mean
from cellssl.config.recipe import CHAIN, Recipe
from cellssl.config.sweep import Point, Sweep, Value, with_value
from cellssl.errors import UsageError
from cellssl.pipeline.blocks import sources, with_block_arms
from cellssl.pipeline.effective import effective_settings

SCORED_PARTS = ("cluster", "evaluate")
"""Stages that score one part of the cells: val or test."""
SCORED = (*SCORED_PARTS, "hits")
"""Stages whose results are the scores of an arm."""


def expand_sweep(recipe: Recipe, only: str | None = None) -> Recipe:
    """Return the recipe in which the points of its sweep replace the arms that it varies.

    An arm in which the swept settings change nothing stays as it is: a baseline without a model is one line in a
    figure and not one line per value. Where `only` is given, no other arm is validated.

    Raises UsageError for a setting or value that does not exist.
    """
    if recipe.sweep is None:
        return recipe
    _check_sections(recipe.sweep, recipe.source)
    expanded, refused = recipe, []
    for arm in recipe.sweep.arms or recipe.arm_names():
        try:
            varied = _varied(recipe, arm, recipe.sweep)
            differ = _differ(varied)
        except UsageError as error:
            if recipe.sweep.arms:
                raise
            refused.append(error)
            continue
        if recipe.sweep.arms and not differ:
            raise UsageError(
                f"{recipe.source}: the settings of [sweep] change nothing in the arm {arm!r}",
                hint="leave it out of arms",
            )
        if differ:
            expanded = replace(expanded, arms=expanded.arms | varied.arms, points={**expanded.points, **varied.points})
    if not expanded.points:
        raise (
            refused[0]
            if refused
            else UsageError(
                f"{recipe.source}: the settings of [sweep] change nothing in any arm", hint="vary another setting"
            )
        )
    expanded.check(only)
    return expanded


def _varied(recipe: Recipe, arm: str, sweep: Sweep) -> Recipe:
    """Return the recipe with the points of one arm added to its arms."""
    arms: dict[str, dict[str, Any]] = {}
    points: dict[str, Point] = {}
    for number, values in enumerate(sweep.grid()):
        sections = _with_values(recipe, arm, sweep, values)
        # two paths to one setting give other sections in reversed order; two points are enough to see it
        if number < len(sweep.knobs) and sections != _with_values(recipe, arm, sweep, dict(reversed(values.items()))):
            raise UsageError(
                f"{recipe.source}: {' and '.join(sweep.knobs)} of [sweep] set the same thing",
                hint="vary another setting",
            )
        for point in (Point(arm, values), *([Point(arm, values, "val")] if sweep.choose else [])):
            if point.name in arms or point.name in (recipe.main_arm, *recipe.arms):
                raise UsageError(
                    f"{recipe.source}: two arms would be called {point.name!r}", hint="give the arm another name"
                )
            arms[point.name] = dict(sections) if point.part == "test" else _on_val(sections)
            points[point.name] = point
    return replace(recipe, arms=recipe.arms | arms, points=points)


def _with_values(recipe: Recipe, arm: str, sweep: Sweep, values: Mapping[str, Value]) -> Mapping[str, Any]:
    """Return the sections of an arm with every swept setting at its value, set one after the other."""
    sections: Mapping[str, Any] = recipe.merged(arm)
    for name, value in values.items():
        try:
            sections = with_value(sections, sweep.knobs[name].knob, value)
        except UsageError as error:
            raise UsageError(f"{recipe.source}, [sweep.{name}]: {error.message}", hint=error.hint) from error
    return sections


def _on_val(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections that score the same embeddings on the val part."""
    scored = {stage: {**sections.get(stage, {}), "part": "val"} for stage in SCORED_PARTS}
    return {**sections, **{stage: section for stage, section in scored.items() if stage in sections}} | {
        "cluster": scored["cluster"]
    }


def _differ(recipe: Recipe) -> bool:
    """Return whether the points of a recipe give different results."""
    identities = {_score_identity(recipe, name) for name, point in recipe.points.items() if point.part == "test"}
    return len(identities) > 1


def _score_identity(recipe: Recipe, arm: str) -> str:
    """Return everything that counts in the scores of an arm, as one text."""
    return json.dumps(
        _counted(recipe, arm, [stage for stage in SCORED if stage == "cluster" or recipe.has(stage, arm)]),
        sort_keys=True,
    )


def _counted(recipe: Recipe, arm: str, stages: Sequence[str]) -> dict[str, Any]:
    """Return what counts of these stages and of those that they depend on; of blocks, by their names."""
    found: dict[str, Any] = {}
    ahead = list(stages)
    while ahead:
        stage = ahead.pop()
        if stage not in found:
            settings = effective_settings(recipe, stage, arm)
            found[stage] = settings.fingerprint_values()
            ahead += settings.inputs()
    if "embed" in found and found["embed"].get("blocks"):
        with_blocks = with_block_arms(recipe, arm)
        found["blocks"] = {
            one.name: one.reference or _counted(with_blocks, one.arm, ["embed"]) for one in sources(recipe, arm)
        }
    return found


def _check_sections(sweep: Sweep, source: str) -> None:
    for name, knob in sweep.knobs.items():
        stage = knob.knob.partition(".")[0]
        if stage not in CHAIN[:-1]:
            raise UsageError(
                f"{source}, [sweep.{name}]: knob begins with {stage!r}, which is not a section of a result",
                hint=did_you_mean(stage, CHAIN[:-1]),
            )
        if knob.knob in [f"{scored}.part" for scored in SCORED_PARTS]:
            raise UsageError(
                f"{source}, [sweep.{name}]: {knob.knob} cannot be swept: the curves show one part",
                hint='choose = "ami" scores every point on val too',
            )
