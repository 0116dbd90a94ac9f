"""pages: arms and seeds, or artifacts given by hand, in; the planned report and what it stands on out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellssl.artifacts.store import Artifact
from cellssl.stages import report
from cellssl.stages._plan import Planned, card_for

if TYPE_CHECKING:
    from cellssl.cli.work import Worker


def plan_report(worker: Worker, references: list[str] | None) -> tuple[Planned, dict[str, Artifact]]:
    """The report's plan; inputs are called ARM/SEED/STAGE.

    Raises UsageError for a recipe that makes no clusters.
    """
    given = _by_hand(worker, references) if references else {}
    fingerprints = {name: artifact.fingerprint for name, artifact in given.items()} or _of_recipe(worker)
    settings = worker.recipe.settings("report")
    identity = {"recipe": worker.recipe.name, "order": list(fingerprints)}
    card = card_for("report", report.ALGORITHM, settings, fingerprints, {}, identity=identity)
    return Planned("report", worker.named(), worker.common.arm or "all", None, settings, fingerprints, card), given


def _of_recipe(worker: Worker) -> dict[str, str]:
    from cellssl.cli.grid import check_clusters, grid

    check_clusters(worker)
    return {
        f"{arm}/{seed}/{stage}": worker.planner(arm, seed).plan(stage).fingerprint
        for arm, seed, stage in grid(worker, "report")
    }


def _by_hand(worker: Worker, references: list[str]) -> dict[str, Artifact]:
    """Cluster artifacts, and evaluations of the same vectors, by the name of their arm."""
    from cellssl.stages._runs import by_hand

    found = [worker.store.resolve(reference, ("cluster", "evaluate")) for reference in references]
    for artifact in found:
        worker.store = worker.store.beside(artifact)
    return by_hand(found, worker.store)
