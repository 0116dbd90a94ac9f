"""stage: embeddings in, how well labels, replicates and mechanisms are told from them, with what shows it, out."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.tables import write_table
from cellssl.config.plugins import did_you_mean
from cellssl.engine.build import Job, Metrics
from cellssl.errors import UsageError
from cellssl.events import Event, Note, Progress
from cellssl.stages.evaluate.classification import (
    CVScheme,
    ProgressNote,
    cross_validation,
    one_split,
    predictions,
    summary,
)
from cellssl.stages.evaluate.external_table import read_given
from cellssl.stages.evaluate.profiles import Profiled
from cellssl.stages.shared.cell_tables import read_embeddings

if TYPE_CHECKING:
    import pandas as pd
from cellssl.stages.evaluate.settings import Settings

Part = Callable[[ProgressNote], Generator[Event, None, Metrics]]
"""One of the questions: says how far it is by what it is given, and returns its numbers."""


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Every part that these cells allow; of the others, why not."""
    settings: Settings = job.settings
    cells, vectors, names = read_given(settings.table) if settings.table else _embedded(job)
    _check_label(settings, cells)
    told: list[pd.DataFrame] = []
    parts = {**_classified(settings, cells, vectors, told), **_profiled(job, cells, vectors, names)}
    found: Metrics = {}
    missing: dict[str, UsageError] = {}
    if _collapsed(vectors):
        missing["embeddings"] = UsageError("all embeddings are the same", hint="the encoder has collapsed")
        yield Note("all embeddings are the same: the encoder has collapsed, and no number below means anything")
    for number, (name, part) in enumerate(parts.items()):
        saying = partial(Progress, number, len(parts), "parts of the work")
        yield saying(name.replace("_", " "))
        try:
            found[name] = yield from part(saying)
        except UsageError as error:  # what one part lacks leaves the others alone
            missing[name] = error
    yield from map(Note, _why_missing(missing))
    if not found:
        reason = missing["profiles"]  # asks for least: without labels and mechanisms there would still be profiles
        raise UsageError(f"nothing can be evaluated: {reason.message}", hint=reason.hint)
    if told:
        _write_predictions(job, told)
    found["not_computed"] = {name: f"{error.message}; {error.hint}" for name, error in missing.items()}
    text = json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False)
    job.draft.file("evaluation.json").write_text(text + "\n", encoding="utf-8")
    return {**found, **found.get("split", {})}


def _why_missing(missing: dict[str, UsageError]) -> list[str]:
    """A sentence a reason; what lacks the same thing shares it."""
    names: dict[str, list[str]] = {}
    for name, error in missing.items():
        if name != "embeddings":
            names.setdefault(f"{error.message}; {error.hint}", []).append(name.replace("_", " "))
    return [f"no {', '.join(lacking)}: {reason}" for reason, lacking in names.items()]


def _collapsed(vectors: np.ndarray) -> bool:
    """Whether no feature varies by more than rounding."""
    spread = np.ptp(vectors, axis=0)
    return len(vectors) > 1 and bool((spread <= 1e-6 * np.abs(vectors).max(axis=0)).all())


def _check_label(settings: Settings, cells: pd.DataFrame) -> None:
    """A label that is asked for by name and is not there is a slip; cells without any labels are not."""
    if settings.label not in cells and settings.label != Settings.model_fields["label"].default:
        there = tuple(map(str, cells.columns))
        raise UsageError(f"there is no column {settings.label!r}", hint=did_you_mean(settings.label, there))


def _embedded(job: Job) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    cells, vectors = read_embeddings(job.inputs["embed"])
    return cells, vectors, [f"emb_{number:04d}" for number in range(vectors.shape[1])]


def _classified(
    settings: Settings, cells: pd.DataFrame, vectors: np.ndarray, told: list[pd.DataFrame]
) -> dict[str, Part]:
    """What classifiers tell, by the name of the scheme; what they told is added to `told`."""

    def tell(name: str, scheme: Callable[[], CVScheme], saying: ProgressNote) -> Generator[Event, None, Metrics]:
        made = scheme()
        table = yield from predictions(name, made, cells, vectors, settings, saying)
        told.append(table)
        return summary(table, made.group, settings)

    schemes: dict[str, Callable[[], CVScheme]] = {"split": partial(one_split, cells, settings)}
    for group in settings.leave_out:
        schemes[f"leave_one_{group}_out"] = partial(cross_validation, group, cells, settings)
    return {name: partial(tell, name, scheme) for name, scheme in schemes.items()}


def _profiled(job: Job, cells: pd.DataFrame, vectors: np.ndarray, names: list[str]) -> dict[str, Part]:
    """What profiles of wells and treatments tell."""
    profiled = Profiled(job.settings, cells, vectors, names, job.draft)
    asked: dict[str, Callable[[], Metrics]] = {
        "profiles": profiled.write,
        "nsc": partial(profiled.mechanisms, "nsc"),
        "nscb": partial(profiled.mechanisms, "nscb"),
        "map_replicates": partial(profiled.retrieval, "replicates"),
        "map_mechanism": partial(profiled.retrieval, "mechanism"),
    }
    return {name: partial(_at_once, question) for name, question in asked.items()}


def _at_once(question: Callable[[], Metrics], saying: ProgressNote) -> Generator[Event, None, Metrics]:
    """A question that is soon answered, and says nothing meanwhile."""
    yield from ()
    return question()


def _write_predictions(job: Job, told: list[pd.DataFrame]) -> None:
    import pandas as pd

    write_table(pd.concat(told, ignore_index=True), job.draft.file("predictions.parquet"))
