"""stage: a cell table in, a label and one of train / val / test per selected cell out, balanced by class."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.tables import label_text, read_cells, write_table
from cellssl.config.doses import chosen_doses
from cellssl.config.plugins import did_you_mean
from cellssl.engine.build import Job, Metrics
from cellssl.errors import UsageError
from cellssl.events import Event, Note, Progress
from cellssl.randomness import hash64
from cellssl.stages.shared.spelling import alike

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.split.settings import Settings, Treated

PARTS = ("train", "val", "test")


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Label, divide and balance the cells; note the wells that are in train and in test."""
    settings: Settings = job.settings
    yield Progress(0, 1, "splits")
    of_plates = _of_plates(read_cells(job.inputs["segment"]), settings)
    cells = add_labels(of_plates, settings)
    without_class = len(of_plates) - len(cells) if settings.classes else 0
    yield from map(Note, _contradictions(cells, settings, without_class))
    cells["split"] = assign_parts(cells, settings)
    if settings.balance:
        _check_classes_in_parts(cells, settings)
    selected = cells[select_balanced(cells, settings)]
    _check_all_parts(selected, settings)
    if not settings.balance:
        yield from map(Note, _classes_without_training(selected))
    table = selected[["cell_id", "field_id", "split", "label"]].reset_index(drop=True)
    write_table(table, job.draft.file("split.parquet"))
    leaks = leakage(selected)
    if leaks["wells_in_train_and_test"] and selected["compound"].notna().any():
        yield Note(
            f"{leaks['wells_in_train_and_test']} wells have cells in train and in test, "
            "so every score includes well effects"
        )
    metrics = {"counts": _counts(selected), "leaks": leaks, "unused_cells": len(cells) - len(selected)}
    return {**metrics, "without_class": without_class} if without_class else metrics


def add_labels(cells: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return the cells that have a label, with it; all cells, without labels, where the recipe asks for none."""
    if settings.classes is None and settings.treated is None:
        return cells.assign(label=treatment_labels(cells, None))
    labels = class_labels(cells, settings.classes) if settings.classes else treatment_labels(cells, settings.treated)
    return cells.assign(label=labels)[labels.notna().to_numpy()]


def treatment_labels(cells: pd.DataFrame, treated: Treated | None) -> pd.Series[str]:
    """Return `treated` for the given compounds and doses, `control` for control wells, missing for other cells.

    Raises UsageError where a compound or dose does not occur, or one of the two classes has no cell.
    """
    import pandas as pd

    labels = pd.Series(pd.NA, index=cells.index, dtype="string")
    if treated is None:
        return labels
    known = tuple(sorted(cells["compound"].dropna().unique()))
    for compound in treated.compounds:
        if compound not in known:
            raise UsageError(f"no cell was treated with {compound!r}", hint=did_you_mean(compound, known))
        of_compound = (cells["compound"] == compound).fillna(False).to_numpy(bool)
        if treated.doses != "all":  # "all" works where doses are not known, too
            doses = cells.loc[of_compound, "dose_micromolar"].dropna().unique()
            of_compound &= cells["dose_micromolar"].isin(chosen_doses(doses, treated.doses, compound)).to_numpy()
        labels[of_compound] = "treated"
    labels[cells["control"].to_numpy(bool)] = "control"
    for name in ("treated", "control"):
        if not (labels == name).any():
            raise UsageError(f"there is no {name} cell", hint="check split.treated and fetch.controls")
    return labels


def class_labels(cells: pd.DataFrame, column: str) -> pd.Series[str]:
    """Return the values of a column as text, missing where it is empty; UsageError where there are no two classes."""
    _check_column(cells, column, "classes")
    labels = label_text(cells[column])
    if labels.nunique() < 2:
        raise UsageError(f"the column {column!r} has {labels.nunique()} classes", hint="name one that has two or more")
    return labels


def _check_column(cells: pd.DataFrame, column: str, setting: str) -> None:
    if column not in cells:
        columns = tuple(str(name) for name in cells.columns)
        raise UsageError(f"split.{setting}: the cells have no column {column!r}", hint=did_you_mean(column, columns))


def assign_parts(cells: pd.DataFrame, settings: Settings) -> np.ndarray:
    """Return train, val or test for every cell; groups stay together, and every class has the same shares."""
    group = _groups(cells, settings.group_by)
    part = (
        _column_parts(cells, settings.split_column) if settings.split_column else np.full(len(cells), "", dtype="<U5")
    )
    part[cells["plate"].isin(settings.test_plates).to_numpy()] = "test"
    assigned = part != ""
    shares = _without_test(settings.shares) if settings.test_plates or settings.split_column else settings.shares
    classes = _classes_to_divide(cells, group, settings.group_by)
    for name in np.unique(classes[~assigned]):
        rows = np.flatnonzero(~assigned & (classes == name))
        part[rows] = _divide_groups(group[rows], shares, settings.seed)
    return part


def _classes_to_divide(cells: pd.DataFrame, group: np.ndarray, group_by: str) -> np.ndarray:
    """Return the class of every cell; each is divided by itself. Plates are divided whole, and so are compounds."""
    match group_by:
        case "plate":
            return np.full(len(cells), "")
        case "compound":
            of_compound = cells["label"].groupby(group).transform("first").fillna("")
            return (of_compound + cells["control"].map({True: "/control", False: ""})).to_numpy(str)
        case _:
            return cells["label"].fillna("").to_numpy(str)


def _column_parts(cells: pd.DataFrame, column: str) -> np.ndarray:
    """Return the parts that a column holds; empty for cells of train that may still become val."""
    _check_column(cells, column, "split_column")
    part = label_text(cells[column]).fillna("").to_numpy(str)
    wrong = [str(value) for value in part if value not in PARTS]
    if wrong:
        held = f"holds {wrong[0]!r}" if wrong[0] else "is empty"
        raise UsageError(
            f"the column {column!r} {held} for {len(wrong):,} of {len(part):,} cells, the first of them "
            f"{cells['cell_id'].iloc[[value not in PARTS for value in part].index(True)]}",
            hint="it must hold train, val or test for every cell",
        )
    return np.where((part == "train") & ("val" not in part), "", part).astype("<U5")


def select_balanced(cells: pd.DataFrame, settings: Settings) -> np.ndarray:
    """Select cells so that every part has equally many per class, evenly from doses and plates."""
    if cells["label"].isna().any():
        return np.ones(len(cells), bool)
    selected = np.zeros(len(cells), bool)
    part, labels = cells["split"].to_numpy(str), cells["label"].to_numpy(str)
    quota = dict.fromkeys(PARTS, len(cells))
    if settings.cells_per_class is not None:
        quota = _quota(part, settings.cells_per_class)
    for name in PARTS:
        classes = [np.flatnonzero((part == name) & (labels == label)) for label in np.unique(labels)]
        fewest = min(map(len, classes)) if settings.balance else len(cells)
        for rows in classes:
            size = min(quota[name], fewest, len(rows))
            selected[rows[_stratified_sample(cells.iloc[rows], size, settings.seed)]] = True
    return selected


def leakage(cells: pd.DataFrame) -> dict[str, int]:
    """Count the fields, wells, plates and compounds that have cells in train and in test; controls are no compounds."""
    keys = {"fields": ["field_id"], "wells": ["plate", "well"], "plates": ["plate"]}
    treated = cells[~cells["control"].to_numpy(bool) & cells["compound"].notna().to_numpy(bool)]
    return {
        **{f"{name}_in_train_and_test": _shared(cells, columns) for name, columns in keys.items()},
        "compounds_in_train_and_test": _shared(treated, ["compound"]),
    }


def _shared(cells: pd.DataFrame, columns: list[str]) -> int:
    """Count the values of columns that occur in train and in test."""
    train, test = (cells.loc[cells["split"] == part, columns].drop_duplicates() for part in ("train", "test"))
    return len(train.merge(test, on=columns))


def _of_plates(cells: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    known = tuple(sorted(cells["plate"].unique()))
    for plate in (*settings.plates, *settings.test_plates):
        if plate not in known:
            raise UsageError(f"there is no plate {plate!r}", hint=did_you_mean(plate, known))
    return cells[cells["plate"].isin(settings.plates)].copy() if settings.plates else cells


def _groups(cells: pd.DataFrame, by: str) -> np.ndarray:
    match by:
        case "cell":
            return cells["cell_id"].to_numpy(str)
        case "well":
            return (cells["plate"] + "/" + cells["well"]).to_numpy(str)
        case "compound":
            wells = cells["plate"] + "/" + cells["well"]
            by_well = cells["control"].to_numpy(bool) | cells["compound"].isna().to_numpy(bool)
            return cells["compound"].where(~by_well, wells).to_numpy(str)
        case _:
            return cells["plate"].to_numpy(str)


def _divide_groups(groups: np.ndarray, shares: tuple[float, float, float], seed: int) -> np.ndarray:
    """Assign whole groups in the order of their hash until every part has its share of them (rounded, test first)."""
    names = sorted(np.unique(groups), key=lambda name: hash64("split", seed, str(name)))
    test, val = round(shares[2] * len(names)), round(shares[1] * len(names))
    parts = ["test"] * test + ["val"] * val + ["train"] * (len(names) - test - val)
    part_of = dict(zip(names, parts, strict=True))
    return np.array([part_of[group] for group in groups])


def _without_test(shares: tuple[float, float, float]) -> tuple[float, float, float]:
    train, val, _ = shares
    return train / (train + val), val / (train + val), 0.0


def _quota(part: np.ndarray, cells_per_class: int) -> dict[str, int]:
    """Return the number of cells per class of every part; train takes the rounding error."""
    val, test = (round(cells_per_class * float((part == name).mean())) for name in ("val", "test"))
    return {"train": cells_per_class - val - test, "val": val, "test": test}


def _stratified_sample(cells: pd.DataFrame, size: int, seed: int) -> np.ndarray:
    """Return `size` rows, taken in turn from every dose on every plate, each in the order of the cells' hashes."""
    order = np.argsort([hash64("balance", seed, cell_id) for cell_id in cells["cell_id"]], kind="stable")
    names = cells[["plate", "compound", "dose_micromolar"]].astype("string").fillna("")
    strata = names["plate"] + "/" + names["compound"] + "/" + names["dose_micromolar"]
    round_ = np.empty(len(cells), np.int64)
    round_[order] = strata.iloc[order].groupby(strata.iloc[order], sort=False).cumcount().to_numpy()
    rank = np.empty(len(cells), np.int64)
    rank[order] = np.arange(len(cells))
    by_round: np.ndarray = np.lexsort((rank, round_))
    return by_round[:size]


def _check_all_parts(cells: pd.DataFrame, settings: Settings) -> None:
    wanted = [name for name, share in zip(PARTS, settings.shares, strict=True) if share > 0]
    if settings.split_column:
        wanted = ["train", "test"]
    if settings.test_plates:
        wanted = ["train", "test", *(["val"] if settings.shares[1] > 0 and settings.group_by != "plate" else [])]
    for name in wanted:
        if not (cells["split"] == name).any():
            raise UsageError(
                f"the part {name} of the split has no cells",
                hint=f"split.group_by divides {_count(cells, settings.group_by)}; use a smaller unit, or other shares",
            )


def _contradictions(cells: pd.DataFrame, settings: Settings, without_class: int) -> Iterator[str]:
    """Yield what looks wrong about the classes: cells that have none, and classes that differ in spelling only."""
    if without_class:
        yield (
            f"{without_class:,} of {without_class + len(cells):,} cells have nothing in the column "
            f"{settings.classes!r}, so they have no class and are left out"
        )
    for names in alike(cells["label"].dropna().unique()):
        yield f"the classes {' and '.join(map(repr, names))} differ in spelling only, and are counted as {len(names)}"


def _check_classes_in_parts(cells: pd.DataFrame, settings: Settings) -> None:
    """Raise UsageError where a class has no cell in one of the parts, so that balancing would leave that part empty."""
    if cells["label"].isna().any():
        return
    sizes = cells.groupby(["label", "split"]).size().unstack(fill_value=0)
    parts = [name for name in PARTS if name in sizes]
    for label, row in sizes.iterrows():
        missing = [name for name in parts if not row[name]]
        if not missing:
            continue
        found = " and ".join(f"{row[name]:,} in {name}" for name in parts if row[name])
        by = f"the column {settings.split_column!r}" if settings.split_column else f"groups by {settings.group_by}"
        raise UsageError(
            f"the class {label!r} has no cell in {' and '.join(missing)}, only {found} (divided by {by}), so no "
            "part can have equally many cells of every class",
            hint="correct the column or the shares, leave the class out (fetch.dataset.compounds, or an empty cell in "
            "the column of the classes), or set split.balance = false",
        )


def _classes_without_training(cells: pd.DataFrame) -> Iterator[str]:
    """Yield which classes have test cells but no training cell: no classifier can predict them."""
    labels = {part: set(cells["label"][cells["split"] == part].dropna()) for part in PARTS}
    if unknown := sorted(labels["test"] - labels["train"]):
        named = ", ".join(map(repr, unknown[:5]))
        yield f"classes with test cells but no training cell, which cannot be predicted: {len(unknown)} ({named})"


def _count(cells: pd.DataFrame, by: str) -> str:
    return f"{len(np.unique(_groups(cells, by)))} {by}s"


def _counts(cells: pd.DataFrame) -> dict[str, Any]:
    sizes = cells.assign(label=cells["label"].fillna("unlabelled")).groupby(["split", "label"]).size()
    return {f"{part}/{label}": int(sizes[part, label]) for part, label in sizes.index}
