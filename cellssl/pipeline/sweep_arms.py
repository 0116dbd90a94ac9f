"""sweep_arms: a recipe with a `[sweep]` in, the recipe in which every point of the sweep is an arm out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cellssl.config.plugins import did_you_mean
from cellssl.config.recipe import CHAIN, Recipe
from cellssl.config.sweep import Point, Sweep, Value, laid_on
from cellssl.errors import UsageError
from cellssl.pipeline.plan import effective_settings

SCORED_PARTS = ("cluster", "evaluate")
"""Stages whose scores are of one part of the cells."""


def expand_sweep(recipe: Recipe) -> Recipe:
    """Put the points of the sweep in the place of the arms that it varies; a recipe without one stays as it is.

    Arms in which the knobs change nothing stay as they are, too: a baseline that reads no model is one line in a
    figure, and not a line a value. Raises UsageError, with the cure, where a knob or a value is none.
    """
    if recipe.sweep is None:
        return recipe
    _check_sections(recipe.sweep, recipe.source)
    spread, refused = recipe, []
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
                f"{recipe.source}: the knobs of [sweep] change nothing in the arm {arm!r}", hint="leave it out of arms"
            )
        if differ:
            spread = replace(spread, arms=spread.arms | varied.arms, points={**spread.points, **varied.points})
    if not spread.points:
        raise (
            refused[0]
            if refused
            else UsageError(
                f"{recipe.source}: the knobs of [sweep] change nothing in any arm", hint="turn another knob"
            )
        )
    spread.check()
    return spread


def _varied(recipe: Recipe, arm: str, sweep: Sweep) -> Recipe:
    """The recipe with the points of one arm beside its arms."""
    arms: dict[str, dict[str, Any]] = {}
    points: dict[str, Point] = {}
    for number, values in enumerate(sweep.grid()):
        sections = _turned(recipe, arm, sweep, values)
        # of two values of a knob one at least is not that of the other knob, so two points tell
        if number < len(sweep.knobs) and sections != _turned(recipe, arm, sweep, dict(reversed(values.items()))):
            raise UsageError(
                f"{recipe.source}: {' and '.join(sweep.knobs)} of [sweep] turn the same thing", hint="turn another knob"
            )
        for point in (Point(arm, values), *([Point(arm, values, "val")] if sweep.choose else [])):
            if point.name in arms or point.name in (recipe.main_arm, *recipe.arms):
                raise UsageError(
                    f"{recipe.source}: two arms would be called {point.name!r}", hint="give the arm another name"
                )
            arms[point.name] = dict(sections) if point.part == "test" else _on_val(sections)
            points[point.name] = point
    return replace(recipe, arms=recipe.arms | arms, points=points)


def _turned(recipe: Recipe, arm: str, sweep: Sweep, values: Mapping[str, Value]) -> Mapping[str, Any]:
    """The sections of an arm with every knob at its value, one after the other."""
    sections: Mapping[str, Any] = recipe.merged(arm)
    for name, value in values.items():
        try:
            sections = laid_on(sections, sweep.knobs[name].knob, value)
        except UsageError as error:
            raise UsageError(f"{recipe.source}, [sweep.{name}]: {error.message}", hint=error.hint) from error
    return sections


def _on_val(sections: Mapping[str, Any]) -> dict[str, Any]:
    """The same embeddings, scored on the val part."""
    scored = {stage: {**sections.get(stage, {}), "part": "val"} for stage in SCORED_PARTS}
    return {**sections, **{stage: section for stage, section in scored.items() if stage in sections}} | {
        "cluster": scored["cluster"]
    }


def _differ(recipe: Recipe) -> bool:
    """Whether the points of a recipe ask for different results."""
    asked = {_asked(recipe, name) for name, point in recipe.points.items() if point.part == "test"}
    return len(asked) > 1


def _asked(recipe: Recipe, arm: str) -> str:
    """All that counts in an arm's scores, as one text."""
    found: dict[str, Any] = {}
    ahead = [stage for stage in SCORED_PARTS if stage == "cluster" or recipe.has(stage, arm)]
    while ahead:
        stage = ahead.pop()
        if stage not in found:
            settings = effective_settings(recipe, stage, arm)
            found[stage] = settings.fingerprint_values()
            ahead += settings.inputs()
    return json.dumps(found, sort_keys=True)


def _check_sections(sweep: Sweep, source: str) -> None:
    for name, knob in sweep.knobs.items():
        stage = knob.knob.partition(".")[0]
        if stage not in CHAIN[:-1]:
            raise UsageError(
                f"{source}, [sweep.{name}]: knob begins with {stage!r}, which is no section that a result stands on",
                hint=did_you_mean(stage, CHAIN[:-1]),
            )
        if knob.knob in [f"{scored}.part" for scored in SCORED_PARTS]:
            raise UsageError(
                f"{source}, [sweep.{name}]: {knob.knob} is no knob to turn: the curves are those of one part",
                hint='choose = "ami" scores every point on val too',
            )
