"""stage: a cell table in, a label and one of train / val / test for every chosen cell out; balanced, leakage said."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.tables import read_cells, write_table
from cellssl.config.doses import chosen_doses
from cellssl.config.plugins import did_you_mean
from cellssl.engine.build import Job, Metrics
from cellssl.errors import UsageError
from cellssl.events import Event, Note, Progress
from cellssl.randomness import hash64

if TYPE_CHECKING:
    import pandas as pd
from cellssl.stages.split.settings import Settings, Treated

PARTS = ("train", "val", "test")


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Label, divide, balance, and say what leaks."""
    settings: Settings = job.settings
    yield Progress(0, 1, "splits")
    cells = labelled(_of_plates(read_cells(job.inputs["segment"]), settings), settings)
    cells["split"] = divide(cells, settings)
    chosen = cells[kept(cells, settings)]
    _check_all_parts(chosen, settings)
    table = chosen[["cell_id", "field_id", "split", "label"]].reset_index(drop=True)
    write_table(table, job.draft.file("split.parquet"))
    leaks = leakage(chosen)
    if leaks["wells_in_train_and_test"] and chosen["compound"].notna().any():
        yield Note(
            f"{leaks['wells_in_train_and_test']} wells have cells in train and in test, "
            "so well effects are part of every score"
        )
    return {"counts": _counts(chosen), "leaks": leaks, "unused_cells": len(cells) - len(chosen)}


def labelled(cells: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The cells that have a label, with it; where none is asked for, all cells with none."""
    if settings.classes is None and settings.treated is None:
        return cells.assign(label=label(cells, None))
    words = classes_of(cells, settings.classes) if settings.classes else label(cells, settings.treated)
    return cells.assign(label=words)[words.notna().to_numpy()]


def label(cells: pd.DataFrame, treated: Treated | None) -> pd.Series[str]:
    """`treated` for the chosen compounds and doses, `control` for control wells, missing for the others."""
    import pandas as pd

    labels = pd.Series(pd.NA, index=cells.index, dtype="string")
    if treated is None:
        return labels
    known = tuple(sorted(cells["compound"].dropna().unique()))
    for compound in treated.compounds:
        if compound not in known:
            raise UsageError(f"no cell was treated with {compound!r}", hint=did_you_mean(compound, known))
        of_compound = (cells["compound"] == compound).fillna(False).to_numpy(bool)
        if treated.doses != "all":  # where doses are not known, all of them can still be meant
            there = cells.loc[of_compound, "dose_micromolar"].dropna().unique()
            of_compound &= cells["dose_micromolar"].isin(chosen_doses(there, treated.doses, compound)).to_numpy()
        labels[of_compound] = "treated"
    labels[cells["control"].to_numpy(bool)] = "control"
    for word in ("treated", "control"):
        if not (labels == word).any():
            raise UsageError(f"there is no {word} cell", hint="check split.treated and fetch.controls")
    return labels


def classes_of(cells: pd.DataFrame, column: str) -> pd.Series[str]:
    """The values of a column as words, missing where there is none; UsageError where there are no two classes."""
    _check_column(cells, column, "classes")
    labels = cells[column].astype("string").replace("", None)
    if labels.nunique() < 2:
        raise UsageError(f"the column {column!r} has {labels.nunique()} classes", hint="name one that has two or more")
    return labels


def _check_column(cells: pd.DataFrame, column: str, knob: str) -> None:
    if column not in cells:
        there = tuple(str(name) for name in cells.columns)
        raise UsageError(f"split.{knob}: the cells have no column {column!r}", hint=did_you_mean(column, there))


def divide(cells: pd.DataFrame, settings: Settings) -> np.ndarray:
    """Train, val or test for every cell; groups stay together, and every class is divided alike."""
    group = _groups(cells, settings.group_by)
    part = _given(cells, settings.split_column) if settings.split_column else np.full(len(cells), "", dtype="<U5")
    part[cells["plate"].isin(settings.test_plates).to_numpy()] = "test"
    settled = part != ""
    shares = _without_test(settings.shares) if settings.test_plates or settings.split_column else settings.shares
    classes = cells["label"].fillna("").to_numpy(str) if settings.group_by != "plate" else np.full(len(cells), "")
    for word in np.unique(classes[~settled]):
        here = np.flatnonzero(~settled & (classes == word))
        part[here] = _allot(group[here], shares, settings.seed)
    return part


def _given(cells: pd.DataFrame, column: str) -> np.ndarray:
    """The parts that a column gives; empty for cells of train that may still become val."""
    _check_column(cells, column, "split_column")
    part = cells[column].fillna("").to_numpy(str)
    odd = next((str(word) for word in part if word not in PARTS), None)
    if odd is not None:
        raise UsageError(f"the column {column!r} says {odd!r} of a cell", hint="it must say train, val or test of each")
    return np.where((part == "train") & ("val" not in part), "", part).astype("<U5")


def kept(cells: pd.DataFrame, settings: Settings) -> np.ndarray:
    """Which cells to keep, so that each part has of every class what is asked for, evenly from doses and plates."""
    if cells["label"].isna().any():
        return np.ones(len(cells), bool)
    keep = np.zeros(len(cells), bool)
    part, labels = cells["split"].to_numpy(str), cells["label"].to_numpy(str)
    quota = dict.fromkeys(PARTS, len(cells))
    if settings.cells_per_class is not None:
        quota = _quota(part, settings.cells_per_class)
    for name in PARTS:
        here = [np.flatnonzero((part == name) & (labels == word)) for word in np.unique(labels)]
        fewest = min(map(len, here)) if settings.balance else len(cells)
        for rows in here:
            keep[rows[_evenly(cells.iloc[rows], min(quota[name], fewest, len(rows)), settings.seed)]] = True
    return keep


def leakage(cells: pd.DataFrame) -> dict[str, int]:
    """How many fields, wells and plates have cells both in train and in test."""
    keys = {"fields": ["field_id"], "wells": ["plate", "well"], "plates": ["plate"]}
    sides = {part: cells[cells["split"] == part] for part in ("train", "test")}
    return {
        f"{name}_in_train_and_test": len(
            sides["train"][columns].drop_duplicates().merge(sides["test"][columns].drop_duplicates(), on=columns)
        )
        for name, columns in keys.items()
    }


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
        case _:
            return cells["plate"].to_numpy(str)


def _allot(groups: np.ndarray, shares: tuple[float, float, float], seed: int) -> np.ndarray:
    """Whole groups, in the order of their hash, until each part has its share of them (rounded, test first)."""
    names = sorted(np.unique(groups), key=lambda name: hash64("split", seed, str(name)))
    test, val = round(shares[2] * len(names)), round(shares[1] * len(names))
    parts = ["test"] * test + ["val"] * val + ["train"] * (len(names) - test - val)
    part_of = dict(zip(names, parts, strict=True))
    return np.array([part_of[group] for group in groups])


def _without_test(shares: tuple[float, float, float]) -> tuple[float, float, float]:
    train, val, _ = shares
    return train / (train + val), val / (train + val), 0.0


def _quota(part: np.ndarray, cells_per_class: int) -> dict[str, int]:
    """Cells a class of every part; what rounding takes or leaves is train's."""
    val, test = (round(cells_per_class * float((part == name).mean())) for name in ("val", "test"))
    return {"train": cells_per_class - val - test, "val": val, "test": test}


def _evenly(cells: pd.DataFrame, size: int, seed: int) -> np.ndarray:
    """`size` rows, dealt in turn from every dose on every plate, each in the order of the cells' hashes."""
    order = np.argsort([hash64("balance", seed, cell_id) for cell_id in cells["cell_id"]], kind="stable")
    known = cells[["plate", "compound", "dose_micromolar"]].astype("string").fillna("")
    strata = known["plate"] + "/" + known["compound"] + "/" + known["dose_micromolar"]
    turn = np.empty(len(cells), np.int64)
    turn[order] = strata.iloc[order].groupby(strata.iloc[order], sort=False).cumcount().to_numpy()
    rank = np.empty(len(cells), np.int64)
    rank[order] = np.arange(len(cells))
    order_of_turns: np.ndarray = np.lexsort((rank, turn))
    return order_of_turns[:size]


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
                hint=f"split.group_by divides {_count(cells, settings.group_by)}; choose a finer one, or other shares",
            )


def _count(cells: pd.DataFrame, by: str) -> str:
    return f"{len(np.unique(_groups(cells, by)))} {by}s"


def _counts(cells: pd.DataFrame) -> dict[str, Any]:
    counted = cells.assign(label=cells["label"].fillna("unlabelled")).groupby(["split", "label"]).size()
    return {f"{part}/{word}": int(counted[part, word]) for part, word in counted.index}
