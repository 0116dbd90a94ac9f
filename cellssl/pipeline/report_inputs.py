"""report_inputs: what a report is made of, by recipe or by hand, in; the planned report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cellssl.artifacts.store import Artifact, Store
from cellssl.config.recipe import Recipe
from cellssl.engine.cards import card_for
from cellssl.pipeline.grid import ADDED
from cellssl.pipeline.planned import Planned
from cellssl.stages.report.runs import by_hand


def plan_report(
    recipe: Recipe, given: Mapping[str, Artifact], upstream: Mapping[str, Planned], command_line: str, arm: str
) -> Planned:
    """Plan the report on artifacts named by hand, or on planned ones; both are called ARM/SEED/STAGE."""
    settings = recipe.settings("report")
    inputs = {name: artifact.fingerprint for name, artifact in given.items()}
    inputs |= {name: planned.fingerprint for name, planned in upstream.items()}
    identity = {"recipe": recipe.name, "order": list(inputs), **_sweep_of(recipe, inputs)}
    card = card_for("report", settings.algorithm(), settings, inputs, {}, identity=identity)
    return Planned("report", command_line, arm, None, settings, inputs, card, given=given, upstream=upstream)


def named_results(store: Store, references: Sequence[str]) -> tuple[Store, dict[str, Artifact]]:
    """Return cluster artifacts, and evaluations and hits of their vectors, by arm, and a store that has all inputs."""
    found = [store.resolve(reference, ("cluster", *ADDED)) for reference in references]
    for artifact in found:
        store = store.with_store_of(artifact)
    return store, by_hand(found, store)


def _sweep_of(recipe: Recipe, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Return what the report needs of a sweep: its settings, and the point that each input belongs to."""
    reported_arms = {name.split("/")[0] for name in fingerprints}
    points = {name: asdict(point) for name, point in recipe.points.items() if name in reported_arms}
    if recipe.sweep is None or not points:
        return {}
    knobs = {name: {"knob": knob.knob, "values": list(knob.points())} for name, knob in recipe.sweep.knobs.items()}
    return {
        "sweep": {
            "knobs": knobs,
            "together": recipe.sweep.together,
            "choose": recipe.sweep.choose,
            "points": points,
        }
    }
