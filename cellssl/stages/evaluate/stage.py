"""stage: embeddings in; how well labels, replicates and mechanisms can be predicted from them, with tables, out."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts import embeddings
from cellssl.artifacts.tables import write_table
from cellssl.config.plugins import did_you_mean
from cellssl.engine.build import Job, Metrics
from cellssl.errors import UsageError
from cellssl.events import Event, Note, Progress
from cellssl.profiling.blocks import Blocks
from cellssl.stages.evaluate.classification import (
    CVScheme,
    ProgressNote,
    Vectors,
    accuracies,
    cross_validation,
    one_split,
    predict,
)
from cellssl.stages.evaluate.evaluated_cells import evaluated_cells
from cellssl.stages.evaluate.label_leaks import label_leaks
from cellssl.stages.evaluate.metrics import EvaluationMetrics, PartMetrics
from cellssl.stages.evaluate.profiles import ProfileEvaluation
from cellssl.stages.evaluate.settings import Settings
from cellssl.stages.shared import learned_labels
from cellssl.stages.shared.card_shapes import embed_blocks
from cellssl.stages.shared.cell_tables import read_all_embeddings
from cellssl.stages.shared.external_table import ExternalTable, read_external_table, table_blocks
from cellssl.stages.shared.plate_layout import split_by_cell

if TYPE_CHECKING:
    import pandas as pd

Part = Callable[[ProgressNote], Generator[Event, None, PartMetrics]]
"""One part of the evaluation: takes a function that makes progress events, and returns its metrics."""


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Compute every part that these cells allow, and say why the others are missing.

    Raises UsageError where no part can be computed.
    """
    settings: Settings = job.settings
    cells, all_vectors, names, blocks = _external(settings.table) if settings.table else _embedded(job)
    cells, kept = evaluated_cells(cells, all_vectors)
    vectors = Vectors(kept, blocks)
    _check_label(settings, cells)
    predictions: list[pd.DataFrame] = []
    by_cell: set[str] = set()
    parts = {
        **_classifications(settings, cells, vectors, predictions, by_cell),
        **_profile_parts(job, cells, vectors, names, by_cell),
    }
    found: dict[str, PartMetrics] = {}
    missing: dict[str, UsageError] = {}
    if _collapsed(vectors.x):
        missing["embeddings"] = UsageError("all embeddings are the same", hint="the encoder has collapsed")
        yield Note("all embeddings are the same: the encoder has collapsed, and the numbers below mean nothing")
    for number, (name, part) in enumerate(parts.items()):
        progress = partial(Progress, number, len(parts), "parts")
        yield progress(name.replace("_", " "))
        try:
            found[name] = yield from part(progress)
        except UsageError as error:  # what one part lacks does not stop the others
            missing[name] = error
    yield from map(Note, _reasons(missing))
    if not found:
        reason = missing["profiles"]  # they need least: profiles need neither labels nor mechanisms
        raise UsageError(f"nothing can be evaluated: {reason.message}", hint=reason.hint)
    if by_cell:
        yield Note(split_by_cell(sorted(by_cell)))
    if predictions:
        _write_predictions(job, predictions)
    not_computed = {name: f"{error.message}; {error.hint}" for name, error in missing.items()}
    learned = [] if settings.table else learned_labels.of_artifact(job.inputs["embed"])
    leaks = label_leaks(learned, cells, found, settings)
    yield from map(Note, [leak.sentence for leak in leaks])
    metrics = EvaluationMetrics.of_parts(found, not_computed, leaks)
    if "embeddings" not in missing:
        yield from map(Note, metrics.cautions())
    text = json.dumps(metrics.to_json(), indent=1, sort_keys=True, ensure_ascii=False)
    job.draft.file("evaluation.json").write_text(text + "\n", encoding="utf-8")
    return metrics.card_json()


def _reasons(missing: dict[str, UsageError]) -> list[str]:
    """Return one sentence per reason; parts that miss the same thing share it."""
    names: dict[str, list[str]] = {}
    for name, error in missing.items():
        if name != "embeddings":
            names.setdefault(f"{error.message}; {error.hint}", []).append(name.replace("_", " "))
    return [f"no {', '.join(parts)}: {reason}" for reason, parts in names.items()]


def _collapsed(vectors: np.ndarray) -> bool:
    """Return whether no feature varies by more than rounding."""
    ranges = np.ptp(vectors, axis=0)
    return len(vectors) > 1 and bool((ranges <= 1e-6 * np.abs(vectors).max(axis=0)).all())


def _check_label(settings: Settings, cells: pd.DataFrame) -> None:
    """Raise UsageError where the recipe names a label column that does not exist; cells without labels are allowed."""
    if settings.label not in cells and settings.label != Settings.model_fields["label"].default:
        columns = tuple(map(str, cells.columns))
        raise UsageError(f"there is no column {settings.label!r}", hint=did_you_mean(settings.label, columns))


def _embedded(job: Job) -> tuple[pd.DataFrame, np.ndarray, list[str], Blocks]:
    """Return metadata, vectors, names of features and blocks of the embeddings."""
    embed = job.inputs["embed"]
    cells, vectors = read_all_embeddings(embed)
    return cells, vectors, embeddings.read_names(embed.file("embeddings.parquet")), embed_blocks(embed)


def _external(table: ExternalTable) -> tuple[pd.DataFrame, np.ndarray, list[str], Blocks]:
    """Return the same of an external table."""
    cells, vectors, names = read_external_table(table, "evaluate")
    return cells, vectors, names, table_blocks(table, names, "evaluate")


def _classifications(
    settings: Settings, cells: pd.DataFrame, vectors: Vectors, predictions: list[pd.DataFrame], by_cell: set[str]
) -> dict[str, Part]:
    """Return the classification parts by the name of the scheme; each appends its table to `predictions`, and to
    `by_cell` the plates with one control well, whose cells it divides one by one.
    """

    def classify(
        name: str, make_scheme: Callable[[], CVScheme], progress: ProgressNote
    ) -> Generator[Event, None, PartMetrics]:
        scheme = make_scheme()
        dropped = vectors.blocks if name in dropping else ()
        predicted = yield from predict(name, scheme, cells, vectors, settings, progress, drop_blocks=bool(dropped))
        predictions.append(predicted.table)
        by_cell.update(predicted.by_cell)
        return accuracies(predicted, scheme.group, settings, dropped)

    dropping = _schemes_that_drop_blocks(settings, cells, vectors.blocks)
    schemes: dict[str, Callable[[], CVScheme]] = {"split": partial(one_split, cells, settings)}
    for group in settings.leave_out:
        schemes[f"leave_one_{group}_out"] = partial(cross_validation, group, cells, settings)
    return {name: partial(classify, name, make_scheme) for name, make_scheme in schemes.items()}


def _schemes_that_drop_blocks(settings: Settings, cells: pd.DataFrame, blocks: Blocks) -> tuple[str, ...]:
    """Return the schemes that say what each block adds: that with new plates, else those that there are."""
    if len(blocks) < 2 or not settings.drop_blocks:
        return ()
    if "plate" in settings.leave_out:
        with suppress(UsageError):
            cross_validation("plate", cells, settings)
            return ("leave_one_plate_out",)
    return ("split", "leave_one_well_out")


def _profile_parts(
    job: Job, cells: pd.DataFrame, vectors: Vectors, names: list[str], by_cell: set[str]
) -> dict[str, Part]:
    """Return the parts that compare profiles of wells and treatments; `by_cell` as in `_classifications`."""
    profiles = ProfileEvaluation(job.settings, cells, vectors, names, job.draft, by_cell)
    parts: dict[str, Callable[[], PartMetrics]] = {
        "profiles": profiles.write,
        "nsc": partial(profiles.mechanisms, "nsc"),
        "nscb": partial(profiles.mechanisms, "nscb"),
        "map_replicates": partial(profiles.retrieval, "replicates"),
        "map_mechanism": partial(profiles.retrieval, "mechanism"),
    }
    return {name: partial(_without_events, compute) for name, compute in parts.items()}


def _without_events(compute: Callable[[], PartMetrics], progress: ProgressNote) -> Generator[Event, None, PartMetrics]:
    """Run a part that is quick and yields no events."""
    yield from ()
    return compute()


def _write_predictions(job: Job, predictions: list[pd.DataFrame]) -> None:
    import pandas as pd

    write_table(pd.concat(predictions, ignore_index=True), job.draft.file("predictions.parquet"))
