"""classification: cells with labels and vectors in, what classifiers tell of each cell and how often that is right, out."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.errors import UsageError
from cellssl.events import Event, Progress
from cellssl.stages.evaluate.external_table import cure_column

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.classifiers import Classifier
    from cellssl.profiling.cluster_scores import Interval
    from cellssl.stages.evaluate.settings import Settings

CLASSIFIERS = ("knn", "linear")
ProgressNote = Callable[[str], Progress]
"""A word on how far the work is -> the event that says so."""
WHO = {"cell_id": "Metadata_cell_id", "plate": "Metadata_Plate", "well": "Metadata_Well"}
"""Columns that say which cell it is, where the cells have them."""


@dataclass(frozen=True)
class CVScheme:
    """Which rows of the cell table take part, and the fold in which each is told; those of fold -1 only teach."""

    rows: np.ndarray
    fold: np.ndarray
    group: str | None = None
    """What is left out."""


def one_split(cells: pd.DataFrame, settings: Settings) -> CVScheme:
    """The train part teaches, the part that is asked for is told."""
    from cellssl.profiling.folds import sample_rows

    known = _labelled(cells, settings.label)
    if "split" not in cells:
        raise UsageError("these vectors have no split", hint='leave embed.cells at "split"')
    train, told = (
        sample_rows(np.flatnonzero(known & (cells["split"] == part).to_numpy()), settings.max_cells, part)
        for part in ("train", settings.part)
    )
    for part, rows in (("train", train), (settings.part, told)):
        if not len(rows):
            raise UsageError(f"the part {part!r} has no labelled cell", hint="see split.shares and split.treated")
    rows = np.concatenate([train, told])
    return CVScheme(rows, np.repeat([-1, 0], [len(train), len(told)]))


def cross_validation(group: str, cells: pd.DataFrame, settings: Settings) -> CVScheme:
    """Every plate or well is told by the others; wells of the same name on two plates are two."""
    from cellssl.profiling.folds import leave_one_group_out, sample_rows

    known = _labelled(cells, settings.label)
    names = _groups(cells, group)
    if names is None:
        name, where = lacking(cells, ("plate", "well") if group == "well" else ("plate",))
        raise UsageError(f"not every cell has a {name}: {where}", hint=cure_column(settings.table, name))
    rows = sample_rows(np.flatnonzero(known), settings.max_cells, group)
    return CVScheme(rows, leave_one_group_out(names[rows], settings.max_folds), group)


def predictions(
    name: str, scheme: CVScheme, cells: pd.DataFrame, vectors: np.ndarray, settings: Settings, saying: ProgressNote
) -> Generator[Event, None, pd.DataFrame]:
    """A row a told cell: which it is, scheme, fold, label, and what each classifier told.

    The same again for labels that are shuffled over all cells, those that teach and those that are told:
    label_shuffled_0 and so on. The normaliser is fitted on the teaching cells of each fold.
    """
    from cellssl.profiling import normalise
    from cellssl.profiling.classifiers import knn, linear_probe
    from cellssl.profiling.folds import iter_folds, shuffle_labels

    x, labels = vectors[scheme.rows], _words(cells[settings.label].iloc[scheme.rows])
    table = cells.iloc[scheme.rows][[column for column in WHO if column in cells]].rename(columns=WHO)
    table = table.assign(scheme=name, fold=scheme.fold)
    classifiers: dict[str, Classifier] = {
        "knn": partial(knn, k=settings.neighbours),
        "linear": partial(linear_probe, C=settings.C),
    }
    truths = {
        "": labels,
        **{
            f"_shuffled_{deal}": shuffle_labels(labels, name, deal)
            for deal in range(n_label_shuffles(scheme, settings))
        },
    }
    told = {
        f"{classifier}{which}": np.full(len(x), None, dtype=object) for classifier in classifiers for which in truths
    }
    for done, side in enumerate(iter_folds(scheme.fold)):
        yield saying(f"{name.replace('_', ' ')}, fold {done + 1} of {scheme.fold.max() + 1}")
        fitted = normalise.fit(settings.normalise, x[side.train])
        teaching, asked = fitted.apply(x[side.train]), fitted.apply(x[side.test])
        for classifier, tell in classifiers.items():
            for which, truth in truths.items():
                told[f"{classifier}{which}"][side.test] = tell(teaching, truth[side.train], asked)
    asked_of = {f"label{which}": truth for which, truth in truths.items()}
    return table.assign(**asked_of, **told)[scheme.fold >= 0].reset_index(drop=True)


def n_label_shuffles(scheme: CVScheme, settings: Settings) -> int:
    """How often labels are shuffled; cross-validation, which tells each cell, does it once."""
    return 1 if scheme.group else settings.label_shuffles


def summary(table: pd.DataFrame, group: str | None, settings: Settings) -> dict[str, Any]:
    """How often each classifier is right, from the table of predictions alone; where plates are left out, on each."""
    wells = _groups(table.rename(columns={written: name for name, written in WHO.items()}), "well")
    found: dict[str, Any] = {"cells": len(table), "folds": int(table["fold"].max()) + 1}
    for classifier in CLASSIFIERS:
        found[classifier] = _numbers(table, classifier, wells, settings)
    if group is not None:
        found[f"classes_in_one_{group}_only"] = _never_taught(table)
    if group == "plate":
        found["plates"] = _by_plate(table)
    return found


def _never_taught(table: pd.DataFrame) -> list[str]:
    """Classes whose cells are all left out at a time, so that nobody could tell them; they count as missed."""
    folds = table.groupby("label")["fold"].nunique()
    return [str(name) for name in folds.index[folds == 1]]


def _numbers(table: pd.DataFrame, classifier: str, wells: np.ndarray | None, settings: Settings) -> dict[str, Any]:
    """Intervals are by well where every cell's is known, else by cell."""
    from cellssl.profiling.accuracy import accuracy, intervals

    truth, told = table["label"].tolist(), table[classifier].tolist()
    here = accuracy(truth, told)
    groups = [None] * len(table) if wells is None else wells.tolist()
    between = intervals(truth, told, groups, draws=settings.bootstrap_draws)
    dealt = table.filter(like="label_shuffled_")
    chance = [
        accuracy(dealt[column].tolist(), table[str(column).replace("label", classifier)].tolist()).balanced
        for column in dealt
    ]
    return {
        "accuracy": here.plain,
        "accuracy_interval": _pair(between.plain),
        "balanced_accuracy": here.balanced,
        "balanced_accuracy_interval": _pair(between.balanced),
        "per_class": here.per_class,
        "per_class_interval": {name: _pair(each) for name, each in between.per_class.items()},
        "resampled": "cells" if wells is None else "wells",
        "shuffled_balanced_accuracy": {
            "mean": float(np.mean(chance)),
            "sd": float(np.std(chance, ddof=1)) if len(chance) > 1 else None,
        },
        "classes": list(here.classes),
        "confusion": here.confusion.tolist(),
    }


def _by_plate(table: pd.DataFrame) -> dict[str, Any]:
    """Balanced accuracy of each plate, told by the others."""
    from cellssl.profiling.accuracy import accuracy

    return {
        str(plate): {
            "cells": len(of_plate),
            **{one: accuracy(of_plate["label"].tolist(), of_plate[one].tolist()).balanced for one in CLASSIFIERS},
        }
        for plate, of_plate in table.groupby(WHO["plate"], sort=True)
    }


def lacking(cells: pd.DataFrame, names: tuple[str, ...]) -> tuple[str, str]:
    """The first of the columns that is not there or has a gap, and what is wrong there; rows count from 1."""
    for name in names:
        if name not in cells:
            return name, "there is no such column"
        if cells[name].isna().any():
            return name, f"row {int(cells[name].isna().to_numpy().argmax()) + 1} has none"
    return "", ""


def _labelled(cells: pd.DataFrame, label: str) -> np.ndarray:
    if label not in cells or not cells[label].notna().any():
        raise UsageError(
            f"no cell has a label in the column {label!r}",
            hint="set split.treated, or evaluate.label to a column that there is",
        )
    return np.asarray(cells[label].notna())


def _groups(cells: pd.DataFrame, group: str) -> np.ndarray | None:
    """The plate of each cell, or its plate and well; None where one is not known."""
    names = ("plate", "well") if group == "well" else ("plate",)
    if any(name not in cells or cells[name].isna().any() for name in names):
        return None
    joined = cells["plate"].astype(str) + (" " + cells["well"].astype(str) if group == "well" else "")
    return np.asarray(joined, dtype=object)


def _words(column: pd.Series[Any]) -> np.ndarray:
    """Labels as text, so that what is told compares with what is asked."""
    return np.array([str(value) for value in column], dtype=object)


def _pair(between: Interval | None) -> list[float] | None:
    return None if between is None else [between.low, between.high]
