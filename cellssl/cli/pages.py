"""pages: arms and seeds, or artifacts given by hand, in; the planned report and what it stands on out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.store import Artifact
from cellssl.config.recipe import Recipe
from cellssl.engine.cards import card_for
from cellssl.pipeline.plan import Planned

if TYPE_CHECKING:
    from cellssl.cli.work import Worker


def plan_report(worker: Worker, references: list[str] | None) -> tuple[Planned, dict[str, Artifact]]:
    """The report's plan; inputs are called ARM/SEED/STAGE.

    Raises UsageError for a recipe that makes no clusters.
    """
    given = _by_hand(worker, references) if references else {}
    fingerprints = {name: artifact.fingerprint for name, artifact in given.items()} or _of_recipe(worker)
    settings = worker.recipe.settings("report")
    identity = {"recipe": worker.recipe.name, "order": list(fingerprints), **_sweep_of(worker.recipe, fingerprints)}
    card = card_for("report", settings.algorithm(), settings, fingerprints, {}, identity=identity)
    return Planned("report", worker.named(), worker.common.arm or "all", None, settings, fingerprints, card), given


def _sweep_of(recipe: Recipe, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """What the report has to know of a sweep: its knobs, and which of the inputs is which point."""
    there = {name.split("/")[0] for name in fingerprints}
    points = {name: asdict(point) for name, point in recipe.points.items() if name in there}
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


def _of_recipe(worker: Worker) -> dict[str, str]:
    from cellssl.cli.grid import check_clusters, grid

    check_clusters(worker)
    return {
        f"{arm}/{seed}/{stage}": worker.planner(arm, seed).plan(stage).fingerprint
        for arm, seed, stage in grid(worker, "report")
    }


def _by_hand(worker: Worker, references: list[str]) -> dict[str, Artifact]:
    """Cluster artifacts, and evaluations of the same vectors, by the name of their arm."""
    from cellssl.stages.report.runs import by_hand

    found = [worker.store.resolve(reference, ("cluster", "evaluate")) for reference in references]
    for artifact in found:
        worker.store = worker.store.beside(artifact)
    return by_hand(found, worker.store)
