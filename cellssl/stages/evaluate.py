"""evaluate: embeddings in, how well labels, replicates and mechanisms are told from them, with what shows it, out."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from cellssl.artifacts.tables import write_table
from cellssl.errors import UsageError
from cellssl.events import Event, Note, Progress
from cellssl.rooms import did_you_mean
from cellssl.settings import Strict
from cellssl.stages._given import GivenTable, read_given
from cellssl.stages._make import Job, Metrics
from cellssl.stages._profiles import OnControls, Profiled
from cellssl.stages._told import Saying, Scheme, cross_validation, one_split, predictions, summary
from cellssl.stages.embed import read_embeddings

if TYPE_CHECKING:
    import pandas as pd

ALGORITHM = 3
"""3: given tables are read as text, a collapse is said.
2: intervals, cross-validation, profiles, mechanisms and retrieval beside one split; missing labels fail no more."""


class Profiles(Strict):
    """Profiles of wells and treatments, and the mechanism of the nearest treatment."""

    normalise: OnControls = "percentile"
    """What every plate is measured by before cells become wells: `robust_z` is median and MAD of its control cells,
    `percentile` their 1st to 99th percentile, `sphering` whitens after that by all controls. nsc.csv has them all."""
    aggregate: Literal["median", "mean"] = "median"
    """From cells to a well, and from wells to a treatment."""


class Retrieval(Strict):
    """Mean average precision of well and treatment profiles."""

    controls: Literal["plate", "all"] = "plate"
    """The control wells that a well's replicates are to be told from: those of its own plate, or of all plates."""
    null_size: int = Field(10_000, ge=100)
    """Random rankings that a p-value is taken from; it cannot be below one in so many."""
    alpha: float = Field(0.05, gt=0, lt=1)
    """A treatment or mechanism is found where its corrected p-value is below this."""


class Settings(Strict):
    """Let simple classifiers learn from some cells and tell others, and compare profiles of wells and treatments."""

    label: str = "label"
    """Which column is told: `label`, or `compound`, `moa`, `plate` …"""
    neighbours: int = Field(20, ge=1)
    """Neighbours that vote."""
    strength: float = Field(1.0, gt=0)
    """Inverse of the linear probe's regularisation; scikit-learn's C."""
    normalise: Literal["none", "zscore", "l2", "pca_whiten"] = "zscore"
    """What is done to the embeddings before the classifiers, fitted on the cells that they learn from."""
    part: Literal["val", "test"] = "test"
    """Which part is told; what is tuned is tuned on val."""
    leave_out: tuple[Literal["plate", "well"], ...] = ("plate", "well")
    """Cross-validation over all labelled cells: each plate, each well is told by the others."""
    max_folds: int = Field(20, ge=2)
    """Where there are more plates or wells, several are left out at a time, so that it is done so often at most."""
    max_cells: int = Field(20_000, ge=2)
    """Cells that classifiers learn from, and cells that they tell; of more, so many are drawn."""
    shuffles: int = Field(5, ge=1)
    """So often all labels are shuffled and the part is told again, which is what chance gives; in cross-validation
    once."""
    rounds: int = Field(1000, ge=100)
    """Draws of the bootstrap that intervals are taken from."""
    profiles: Profiles = Profiles()
    """How cells become profiles of wells and treatments."""
    retrieval: Retrieval = Retrieval()
    """How mean average precision is taken of the profiles."""
    table: GivenTable | None = None
    """Vectors from elsewhere in place of this recipe's embeddings: a CSV or parquet file of cells or wells."""


EXPLAINED = {"profiles": Profiles, "retrieval": Retrieval, "table": GivenTable}
"""Tables within the section that `explain` lists too."""


def inputs(settings: Settings) -> tuple[str, ...]:
    """Embeddings, unless a table is given."""
    return () if settings.table else ("embed",)


def seeded(settings: Settings) -> bool:
    """Draws depend on nothing but what they are for."""
    return False


def outside(settings: Settings) -> list[Path]:
    """The table from elsewhere."""
    return [settings.table.path] if settings.table else []


Part = Callable[[Saying], Generator[Event, None, Metrics]]
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

    def tell(name: str, scheme: Callable[[], Scheme], saying: Saying) -> Generator[Event, None, Metrics]:
        made = scheme()
        table = yield from predictions(name, made, cells, vectors, settings, saying)
        told.append(table)
        return summary(table, made.group, settings)

    schemes: dict[str, Callable[[], Scheme]] = {"split": partial(one_split, cells, settings)}
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


def _at_once(question: Callable[[], Metrics], saying: Saying) -> Generator[Event, None, Metrics]:
    """A question that is soon answered, and says nothing meanwhile."""
    yield from ()
    return question()


def _write_predictions(job: Job, told: list[pd.DataFrame]) -> None:
    import pandas as pd

    write_table(pd.concat(told, ignore_index=True), job.draft.file("predictions.parquet"))
