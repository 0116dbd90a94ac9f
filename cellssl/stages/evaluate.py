"""evaluate: embeddings of a split in, how well a simple classifier tells the labels of test cells, out."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from cellssl.errors import UsageError
from cellssl.events import Event, Progress
from cellssl.settings import Strict
from cellssl.stages._make import Job, Metrics
from cellssl.stages.embed import read_embeddings

if TYPE_CHECKING:
    from cellssl.profiling.neighbours import Accuracy

ALGORITHM = 1


class Settings(Strict):
    """Let neighbours and a linear probe learn from the train part, and tell the test part."""

    label: str = "label"
    """Which column is told: `label`, or `compound`, `moa`, `plate` …"""
    neighbours: int = Field(20, ge=1)
    """Neighbours that vote."""
    strength: float = Field(1.0, gt=0)
    """Inverse of the linear probe's regularisation; scikit-learn's C."""
    normalise: Literal["none", "zscore", "l2", "pca_whiten"] = "zscore"
    """What is done to the embeddings first, fitted on the train part."""
    part: Literal["val", "test"] = "test"
    """Which part is told; what is tuned is tuned on val."""


def inputs(settings: Settings) -> tuple[str, ...]:
    """Embeddings."""
    return ("embed",)


def seeded(settings: Settings) -> bool:
    """Nothing here is left to chance."""
    return False


def outside(settings: Settings) -> list[Path]:
    """No files of the user."""
    return []


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Accuracy of both, plain, balanced and per class."""
    from cellssl.profiling import normalise
    from cellssl.profiling.neighbours import knn_accuracy, linear_probe

    settings = job.settings
    yield Progress(0, 2, "classifiers")
    cells, vectors = read_embeddings(job.inputs["embed"])
    if "split" not in cells or settings.label not in cells or cells[settings.label].isna().all():
        raise UsageError(
            f"these embeddings have no split with the column {settings.label!r}",
            hint="evaluate needs labels: set split.treated, or evaluate.label to a column that there is",
        )
    train, told = (cells["split"] == "train").to_numpy(), (cells["split"] == settings.part).to_numpy()
    labels = cells[settings.label].astype(object).to_numpy()
    normal = normalise.fit(settings.normalise, vectors[train]).apply(vectors)
    sides = (normal[train], labels[train], normal[told], labels[told])
    found = {"knn": _numbers(knn_accuracy(*sides, k=settings.neighbours))}
    yield Progress(1, 2, "classifiers")
    found["linear"] = _numbers(linear_probe(*sides, strength=settings.strength))
    job.draft.file("accuracy.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return found


def _numbers(accuracy: Accuracy) -> dict[str, Any]:
    return {
        "accuracy": accuracy.plain,
        "balanced_accuracy": accuracy.balanced,
        "per_class": accuracy.per_class,
        "classes": list(accuracy.classes),
        "confusion": accuracy.confusion.tolist(),
    }
