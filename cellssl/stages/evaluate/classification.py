"""classification: cells with labels and vectors in; a predicted label per cell, and accuracies, out."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.errors import UsageError
from cellssl.events import Event, Progress
from cellssl.profiling.block_columns import columns_of
from cellssl.profiling.blocks import Blocks
from cellssl.stages.evaluate.evaluated_cells import FITS_ONLY
from cellssl.stages.evaluate.fold_vectors import FoldNormaliser, FoldVectors
from cellssl.stages.evaluate.metrics import CLASSIFIERS, ClassifierAccuracy, PlateAccuracy, SchemeMetrics
from cellssl.stages.shared.block_gains import BlockGain, BlockGains
from cellssl.stages.shared.external_table import column_hint, controls_key
from cellssl.stages.shared.fitted_link import FittedLink

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.classifiers import Classifier
    from cellssl.profiling.cluster_scores import Interval
    from cellssl.stages.evaluate.settings import Settings

ProgressNote = Callable[[str], Progress]
"""Takes a note on the progress, and returns the event that shows it."""
ENOUGH_PLATES = 5
"""With fewer plates, what a block adds is resampled over wells: an interval over few plates would say little."""
CELL_COLUMNS = {"cell_id": "Metadata_cell_id", "plate": "Metadata_Plate", "well": "Metadata_Well"}
"""Columns that identify a cell, where the cells have them, and their names in predictions.parquet."""


@dataclass(frozen=True)
class CVScheme:
    """Which rows of the cell table are used, and the fold in which each is a test cell; rows of fold -1 only train."""

    rows: np.ndarray
    fold: np.ndarray
    group: str | None = None
    """What cross-validation leaves out, plate or well; None for one split."""


def one_split(cells: pd.DataFrame, settings: Settings) -> CVScheme:
    """Return the scheme that trains on the train part and predicts the part that the settings name.

    Raises UsageError where there is no split, or a part has no labelled cell.
    """
    from cellssl.profiling.folds import sample_rows

    known = _labelled(cells, settings.label)
    if "split" not in cells:
        raise UsageError("these vectors have no split", hint='leave embed.cells at "split"')
    train, test = (
        sample_rows(np.flatnonzero(known & (cells["split"] == part).to_numpy()), settings.max_cells, part)
        for part in ("train", settings.part)
    )
    for part, rows in (("train", train), (settings.part, test)):
        if not len(rows):
            raise UsageError(f"the part {part!r} has no labelled cell", hint="see split.shares and split.treated")
    rows = np.concatenate([train, test])
    return CVScheme(rows, np.repeat([-1, 0], [len(train), len(test)]))


def cross_validation(group: str, cells: pd.DataFrame, settings: Settings) -> CVScheme:
    """Return the scheme that leaves out each plate or each well; wells of the same name on two plates are two wells.

    Raises UsageError where a cell has no plate or no well, or where there is only one.
    """
    from cellssl.profiling.folds import leave_one_group_out, sample_rows

    known = _labelled(cells, settings.label)
    names = _groups(cells, group)
    if names is None:
        name, where = missing_column(cells, ("plate", "well") if group == "well" else ("plate",))
        raise UsageError(f"not every cell has a {name}: {where}", hint=column_hint(settings.table, name, "evaluate"))
    rows = sample_rows(np.flatnonzero(known), settings.max_cells, group)
    return CVScheme(rows, leave_one_group_out(names[rows], settings.max_folds), group)


@dataclass(frozen=True)
class Predictions:
    """The predictions of all classifiers under one scheme."""

    table: pd.DataFrame
    """One row per test cell: its id, plate, well, scheme, fold and label, whether it is a copy of a training cell, and
    the label by each classifier."""
    small: dict[str, int]
    """Classes with fewer training cells than kNN has neighbours -> number of training cells in the smallest fold."""
    fitted_by: tuple[FittedLink, ...]
    """Who fitted the normalisation of the first fold."""
    by_cell: tuple[str, ...]
    """Plates with one control well, whose cells were divided one by one."""
    untrained: tuple[str, ...]
    """Plates whose controls are all tested in one fold: where a cell of them is tested, none of them trains."""
    empty_blocks: tuple[str, ...]
    """Blocks that are 0 for all training cells of a fold."""


@dataclass(frozen=True)
class Vectors:
    """The vectors that are evaluated, row by row with their cells."""

    x: np.ndarray
    blocks: Blocks = ()
    """The blocks of joined vectors; each is normalised by itself."""


def predict(
    name: str,
    scheme: CVScheme,
    cells: pd.DataFrame,
    vectors: Vectors,
    settings: Settings,
    progress: ProgressNote,
    *,
    drop_blocks: bool = False,
) -> Generator[Event, None, Predictions]:
    """Return the predictions for every test cell, also with labels that are shuffled over all training and test cells:
    label_shuffled_0, knn_shuffled_0 and so on; with `drop_blocks` also those of the other blocks, knn_without:BLOCK,
    and of each block alone, knn_only:BLOCK.
    """
    from cellssl.profiling.copies import row_numbers
    from cellssl.profiling.folds import iter_folds, shuffle_labels

    _check_plates(settings, cells)
    key = controls_key(settings.table, "evaluate")
    normaliser = FoldNormaliser(settings.normalise, cells, vectors.x, scheme.rows, scheme.fold, key, vectors.blocks)
    labels = _as_text(cells[settings.label].iloc[scheme.rows])
    table = cells.iloc[scheme.rows][[column for column in CELL_COLUMNS if column in cells]].rename(columns=CELL_COLUMNS)
    table = table.assign(scheme=name, fold=scheme.fold)
    n_shuffles = n_label_shuffles(scheme, settings)
    truths = {
        "": labels,
        **{f"_shuffled_{number}": shuffle_labels(labels, name, number) for number in range(n_shuffles)},
    }
    predictions = {
        f"{classifier}{suffix}": np.full(len(labels), None, dtype=object)
        for classifier in CLASSIFIERS
        for suffix in (*truths, *(_parts_of_vectors(vectors.blocks) if drop_blocks else ()))
    }
    is_copy, same = np.zeros(len(labels), bool), row_numbers(vectors.x[scheme.rows])
    sizes = dict.fromkeys(sorted(set(labels)), len(labels))
    fitted_by: tuple[FittedLink, ...] = ()
    by_cell: set[str] = set()
    empty_blocks: set[str] = set()
    for done, fold in enumerate(iter_folds(scheme.fold)):
        yield progress(f"{name.replace('_', ' ')}, fold {done + 1} of {scheme.fold.max() + 1}")
        normal = normaliser.of_fold(fold)
        is_copy[fold.test] = np.isin(same[fold.test], same[normal.trains])
        sizes = {label: min(size, int((labels[normal.trains] == label).sum())) for label, size in sizes.items()}
        fitted_by = fitted_by or normal.fitted_by
        by_cell.update(normal.by_cell)
        empty_blocks.update(normal.empty_blocks)
        of_training = [truth[normal.trains] for truth in truths.values()]
        for classifier, fit_and_predict in _classifiers(settings, normal.blocks).items():
            for suffix, predicted in zip(truths, fit_and_predict(normal.train, of_training, normal.test), strict=True):
                predictions[f"{classifier}{suffix}"][fold.test] = predicted
        if drop_blocks:
            yield progress(f"{name.replace('_', ' ')}, fold {done + 1}, without each block")
            for column, predicted in _of_parts(normal, labels, settings).items():
                predictions[column][fold.test] = predicted
    labels_of = {f"label{suffix}": truth for suffix, truth in truths.items()}
    table = table.assign(copy_of_training_cell=is_copy, **labels_of, **predictions)
    small = {label: size for label, size in sizes.items() if size < settings.neighbours}
    tested = table[scheme.fold >= 0].reset_index(drop=True)
    empty = tuple(block.name for block in vectors.blocks if block.name in empty_blocks)
    return Predictions(tested, small, fitted_by, tuple(sorted(by_cell)), normaliser.untrained, empty)


def _classifiers(settings: Settings, blocks: Blocks) -> dict[str, Classifier]:
    """Return each of CLASSIFIERS for vectors with these blocks."""
    from cellssl.profiling.classifiers import knn_of_each, linear_probe_of_each

    return {
        "knn": partial(knn_of_each, k=settings.neighbours),
        "linear": partial(linear_probe_of_each, C=settings.C, blocks=blocks),
    }


def _parts_of_vectors(blocks: Blocks) -> dict[str, tuple[np.ndarray, Blocks]]:
    """Return the columns and the blocks of the vectors without each block, and of each block alone, by the suffix of
    their predictions.
    """
    columns = np.arange(sum(block.dim for block in blocks))
    parts = {}
    for block, own in zip(blocks, columns_of(blocks), strict=True):
        parts[f"_without:{block.name}"] = (np.delete(columns, own), tuple(one for one in blocks if one is not block))
        parts[f"_only:{block.name}"] = (columns[own], (block,))
    return parts


def _of_parts(normal: FoldVectors, labels: np.ndarray, settings: Settings) -> dict[str, list[str]]:
    """Return the predictions of a fold from parts of its vectors.

    The weights of the blocks that are left keep their proportions. Of two blocks, one alone is what is left without
    the other, which is computed once.
    """
    found: dict[str, list[str]] = {}
    known: dict[tuple[str, bytes], list[str]] = {}
    for suffix, (columns, blocks) in _parts_of_vectors(normal.blocks).items():
        for classifier, fit_and_predict in _classifiers(settings, blocks).items():
            key = (classifier, columns.tobytes())
            if key not in known:
                train, test = normal.train[:, columns], normal.test[:, columns]
                (known[key],) = fit_and_predict(train, [labels[normal.trains]], test)
            found[f"{classifier}{suffix}"] = known[key]
    return found


def _check_plates(settings: Settings, cells: pd.DataFrame) -> None:
    """Raise UsageError where a chain is fitted on the controls of every plate, and a cell has no plate."""
    from cellssl.profiling.chain import is_per_plate

    name, where = missing_column(cells, ("plate",))
    if name and is_per_plate(settings.normalise):
        raise UsageError(
            f"evaluate.normalise takes the location of every plate from its controls, but not every cell has a plate: "
            f"{where}",
            hint=column_hint(settings.table, name, "evaluate"),
        )


def n_label_shuffles(scheme: CVScheme, settings: Settings) -> int:
    """Return how often labels are shuffled: once in cross-validation, which predicts every cell."""
    return 1 if scheme.group else settings.label_shuffles


def accuracies(predictions: Predictions, group: str | None, settings: Settings, dropped: Blocks = ()) -> SchemeMetrics:
    """Return the accuracies of each classifier from its predictions; per plate too, where these are left out.

    `group` is what cross-validation leaves out, None for one split. `dropped` are the blocks that were left out.
    """
    table = predictions.table
    is_copy = table["copy_of_training_cell"].to_numpy(bool)
    places = table.rename(columns={written: name for name, written in CELL_COLUMNS.items()})
    wells = _groups(places, "well")
    return SchemeMetrics(
        cells=len(table),
        folds=int(table["fold"].max()) + 1,
        classifiers={classifier: _accuracy(table, classifier, wells, settings) for classifier in CLASSIFIERS},
        left_out=group,
        classes_in_one_group_only=() if group is None else _classes_in_one_fold(table),
        plates=_by_plate(table) if group == "plate" else None,
        copies=int(is_copy.sum()),
        without_copies=_without_copies(table[~is_copy]) if is_copy.any() else {},
        neighbours=settings.neighbours,
        small_classes=predictions.small,
        fitted_by=predictions.fitted_by,
        untrained_plates=predictions.untrained,
        empty_blocks=predictions.empty_blocks,
        block_gains=_block_gains(table, dropped, _groups(places, "plate"), wells, settings) if dropped else None,
    )


def _block_gains(
    table: pd.DataFrame, blocks: Blocks, plates: np.ndarray | None, wells: np.ndarray | None, settings: Settings
) -> BlockGains:
    """Return what each block adds; intervals resample plates where there are enough, else wells, else cells."""
    from cellssl.profiling.accuracy import accuracy, difference_interval

    resampled, groups = "cells", np.arange(len(table)).astype(object)
    if wells is not None:
        resampled, groups = "wells", wells
    if plates is not None and len(set(plates.tolist())) >= ENOUGH_PLATES:
        resampled, groups = "plates", plates
    truth = table["label"].tolist()

    def gain(classifier: str, block: str) -> BlockGain:
        whole, without, alone = (
            table[f"{classifier}{how}"].tolist() for how in ("", f"_without:{block}", f"_only:{block}")
        )
        of_whole, of_others, of_block = (accuracy(truth, each).balanced for each in (whole, without, alone))
        bounds = difference_interval(truth, whole, without, groups.tolist(), draws=settings.bootstrap_draws)
        return BlockGain(of_others, of_block, of_whole - of_others, _bounds(bounds))

    gains = {name: {block.name: gain(name, block.name) for block in blocks} for name in CLASSIFIERS}
    return BlockGains(resampled, len(set(groups.tolist())), gains)


def _without_copies(others: pd.DataFrame) -> dict[str, float | None]:
    """Return the balanced accuracies on the test cells that are no copies; None where there is no such cell."""
    from cellssl.profiling.accuracy import accuracy

    if others.empty:
        return dict.fromkeys(CLASSIFIERS)
    return {name: accuracy(others["label"].tolist(), others[name].tolist()).balanced for name in CLASSIFIERS}


def _classes_in_one_fold(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the classes whose cells are all in one fold: no training set has them, so they count as missed."""
    folds = table.groupby("label")["fold"].nunique()
    return tuple(str(name) for name in folds.index[folds == 1])


def _accuracy(table: pd.DataFrame, classifier: str, wells: np.ndarray | None, settings: Settings) -> ClassifierAccuracy:
    """Return the accuracies of one classifier; intervals resample wells where every cell has one, else cells."""
    from cellssl.profiling.accuracy import accuracy, intervals

    truth, predicted = table["label"].tolist(), table[classifier].tolist()
    found = accuracy(truth, predicted)
    groups = [None] * len(table) if wells is None else wells.tolist()
    bounds = intervals(truth, predicted, groups, draws=settings.bootstrap_draws)
    shuffled = table.filter(like="label_shuffled_")
    chance = [
        accuracy(shuffled[column].tolist(), table[str(column).replace("label", classifier)].tolist()).balanced
        for column in shuffled
    ]
    return ClassifierAccuracy(
        accuracy=found.plain,
        accuracy_interval=_bounds(bounds.plain),
        balanced_accuracy=found.balanced,
        balanced_accuracy_interval=_bounds(bounds.balanced),
        per_class=found.per_class,
        per_class_interval={name: _bounds(each) for name, each in bounds.per_class.items()},
        resampled="cells" if wells is None else "wells",
        shuffled_mean=float(np.mean(chance)),
        shuffled_sd=float(np.std(chance, ddof=1)) if len(chance) > 1 else None,
        classes=tuple(found.classes),
        confusion=tuple(tuple(row) for row in found.confusion.tolist()),
    )


def _by_plate(table: pd.DataFrame) -> dict[str, PlateAccuracy]:
    """Return the balanced accuracies of each plate, predicted by classifiers that are trained on the others."""
    from cellssl.profiling.accuracy import accuracy

    return {
        str(plate): PlateAccuracy(
            cells=len(of_plate),
            balanced_accuracy={
                name: accuracy(of_plate["label"].tolist(), of_plate[name].tolist()).balanced for name in CLASSIFIERS
            },
        )
        for plate, of_plate in table.groupby(CELL_COLUMNS["plate"], sort=True)
    }


def missing_column(cells: pd.DataFrame, names: tuple[str, ...]) -> tuple[str, str]:
    """Return the first of the columns that does not exist or has a gap, and what is wrong; rows count from 1."""
    for name in names:
        if name not in cells:
            return name, "there is no such column"
        if cells[name].isna().any():
            return name, f"row {int(cells[name].isna().to_numpy().argmax()) + 1} has none"
    return "", ""


def _labelled(cells: pd.DataFrame, label: str) -> np.ndarray:
    """Return which cells to score have a label; raise UsageError where none has."""
    if label not in cells or not cells[label].notna().any():
        raise UsageError(
            f"no cell has a label in the column {label!r}",
            hint="set split.treated, or set evaluate.label to a column that the cells have",
        )
    return np.asarray(cells[label].notna() & ~cells[FITS_ONLY])


def _groups(cells: pd.DataFrame, group: str) -> np.ndarray | None:
    """Return the plate of each cell, or its plate and well; None where a cell has none."""
    names = ("plate", "well") if group == "well" else ("plate",)
    if any(name not in cells or cells[name].isna().any() for name in names):
        return None
    joined = cells["plate"].astype(str) + (" " + cells["well"].astype(str) if group == "well" else "")
    return np.asarray(joined, dtype=object)


def _as_text(column: pd.Series[Any]) -> np.ndarray:
    """Return labels as text, so that predictions and labels can be compared."""
    return np.array([str(value) for value in column], dtype=object)


def _bounds(interval: Interval | None) -> tuple[float, float] | None:
    return None if interval is None else (interval.low, interval.high)
