"""mechanisms: real crops of 55 plates in; how well mechanisms are predicted on left-out plates, block by block, out.

The cells are those of the smaller set of crops: all of 36 compounds, and 60 each of taxol and cycloheximide, of which
there are 450. Every plate is predicted by a linear probe that is trained on the cells of all other plates.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cellssl.artifacts import embeddings
from cellssl.profiling.accuracy import accuracy, difference_interval
from cellssl.profiling.blocks import Block, Blocks
from cellssl.profiling.chain import fit_chain
from cellssl.profiling.classifiers import linear_probe
from cellssl.profiling.normaliser import chain
from cellssl.randomness import generator
from page_numbers import markdown, real_cells
from page_numbers.algorithms import Algorithms, of_recipe
from page_numbers.workplace import REPOSITORY, Workplace, benchmark, sets

RECIPE = REPOSITORY / "benchmarks" / "mechanisms.toml"
FREQUENT, OF_EACH = ("taxol", "cyclohexamide"), 60
"""Compounds with many cells (as the official table spells them), and how many of them are drawn."""
WEEKS = (("Week1", "Week2", "Week3"), ("Week4", "Week5", "Week6"), ("Week7", "Week8", "Week9", "Week10"))
"""`context` is trained three times, each time without the plates of some weeks, and predicts these."""
SEED, DRAWS = 0, 10_000
ROWS: tuple[tuple[str, ...], ...] = (
    ("intensities",),
    ("context",),
    ("context*",),
    ("features",),
    ("lite0",),
    ("context", "features"),
    ("lite0", "features"),
    ("context", "lite0", "features"),
    ("context*", "lite0", "features"),
)
"""Blocks of every row of the table; context* is trained on all cells."""
BASELINE = ("features",)
Predictions = Mapping[tuple[str, ...], list[str]]


@dataclass(frozen=True)
class Cells:
    """The cells that are predicted, and all vectors of every block."""

    plate: np.ndarray
    moa: np.ndarray
    group: np.ndarray
    """Number of the group of weeks of every cell."""
    vectors: Mapping[str, Sequence[np.ndarray]]
    """Block -> vectors of these cells: for each group of weeks, or the same for all."""

    @cached_property
    def plates(self) -> list[str]:
        """Every plate once."""
        return sorted(set(self.plate.tolist()))

    def joined(self, blocks: Sequence[str], plate: str) -> np.ndarray:
        """Return the vectors of all cells, from models that may predict this plate."""
        number = int(self.group[self.plate == plate][0])
        return np.hstack([self.vectors[name][number % len(self.vectors[name])] for name in blocks])

    def shapes(self, blocks: Sequence[str]) -> Blocks:
        """Return name and number of columns of every block; none where there is one."""
        return tuple(Block(name, self.vectors[name][0].shape[1]) for name in blocks) if len(blocks) > 1 else ()


def algorithms() -> Algorithms:
    """Return what the table stands on."""
    return of_recipe(RECIPE, to=("fetch", "segment", "split", "pretrain", "embed"))


def table(work: Workplace) -> str:
    """Return the accuracy of every row, and its difference from `features` with the interval over plates."""
    cells = _cells(work)
    predicted = {row: _kept(work, cells, row) for row in ROWS}
    body = []
    for row in ROWS:
        found = accuracy(cells.moa, predicted[row])
        beyond = "" if row == BASELINE else _beyond(cells, predicted[row], predicted[BASELINE])
        title = ", ".join(f"`{name.rstrip('*')}`{'*' * name.endswith('*')}" for name in row)
        body.append([title, f"{found.balanced:.3f}", f"{found.plain:.3f}", beyond])
    header = ["blocks", "balanced accuracy", "accuracy", "balanced accuracy less that of `features` (95 %)"]
    note = (
        f"{len(cells.moa)} cells of {len(set(cells.moa))} mechanisms on {len(cells.plates)} plates; the interval draws "
        "plates. `context` was trained without the tested plate and all others of its week and some further weeks, "
        "context* on all 1,908 crops; no training saw a label."
    )
    return "\n\n".join([markdown.table(header, body), markdown.paragraph(note)])


def _beyond(cells: Cells, predicted: list[str], baseline: list[str]) -> str:
    difference = accuracy(cells.moa, predicted).balanced - accuracy(cells.moa, baseline).balanced
    between = difference_interval(cells.moa, predicted, baseline, cells.plate, draws=DRAWS)
    assert between is not None, "there are several plates"
    return f"{difference:+.3f} ({between.low:+.3f} to {between.high:+.3f})"


def _kept(work: Workplace, cells: Cells, row: tuple[str, ...]) -> list[str]:
    found: list[str] = work.kept("-".join(row).replace("*", "-all"), lambda: left_out(cells, row))
    return found


def left_out(cells: Cells, blocks: Sequence[str]) -> list[str]:
    """Return the mechanism of every cell, predicted from the cells of all other plates."""
    predicted = np.empty(len(cells.moa), object)
    controls = np.zeros(len(cells.moa), bool)
    for plate in cells.plates:
        trains = cells.plate != plate
        x, shapes = cells.joined(blocks, plate), cells.shapes(blocks)
        fitted, x = fit_chain(chain("zscore"), x, trains, cells.plate, controls, None, blocks=shapes)
        labels = cells.moa[trains].tolist()
        predicted[~trains] = linear_probe(x[trains], labels, x[~trains], blocks=fitted.blocks_out)
    return [str(one) for one in predicted]


def _cells(work: Workplace) -> Cells:
    """Return the cells with the vectors of every block, after trainings that are missing."""
    write_stack(work.folder)
    recipe = str(work.folder / "recipe.toml")
    known = {arm: [_embedded(work, recipe, arm)] for arm in ("intensities", "features", "lite0")}
    known["context*"] = [_embedded(work, recipe, "context")]
    known["context"] = [_embedded(work, recipe, "context", _without(work.folder, weeks)) for weeks in WEEKS]
    described = known["features"][0][0]
    chosen = np.flatnonzero(_is_chosen(described["Metadata_compound"].to_numpy(object)))
    plate, moa = (described[f"Metadata_{name}"].to_numpy(object)[chosen] for name in ("Plate", "moa"))
    group = [number for one in plate for number, weeks in enumerate(WEEKS) if one.partition("_")[0] in weeks]
    vectors = {name: [x[chosen] for _, x in found] for name, found in known.items()}
    return Cells(plate, moa, np.array(group), vectors)


def write_stack(folder: Path) -> None:
    """Write the crops with their table, the published weights and the recipe."""
    if (folder / "recipe.toml").is_file():
        return
    made = benchmark("real_crops")
    rows = made.read_rows(real_cells.CROPS / "bbbc021_crops_small.csv")
    with np.load(real_cells.CROPS / "bbbc021_crops_small.npz") as arrays:
        np.save(folder / "stack.npy", arrays["images_div16"][[int(row["row"]) for row in rows]] << 4)
    rows = [{**row, "batch": _week(row["plate"]), "cell": f"cell-{int(row['row']):04d}"} for row in rows]
    made.write_rows(folder / "stack.csv", rows)
    real_cells.write_lite0(folder)
    (folder / "recipe.toml").write_text(RECIPE.read_text(encoding="utf-8"), encoding="utf-8")


def _week(plate: str) -> str:
    return plate.partition("_")[0]


def _without(folder: Path, weeks: Sequence[str]) -> Iterator[str]:
    """Yield the settings of a training without the plates of these weeks."""
    rows = benchmark("real_crops").read_rows(folder / "stack.csv")
    plates = sorted({row["plate"] for row in rows if row["batch"] in weeks})
    yield f"name=mechanisms-without-{weeks[0]}"
    yield "split.test_plates=[" + ", ".join(f'"{plate}"' for plate in plates) + "]"


def _embedded(work: Workplace, recipe: str, arm: str, settings: Iterator[str] | tuple[str, ...] = ()) -> Any:
    """Return metadata and vectors of all cells of an arm, in the order of their names."""
    flags = ("--to", "embed", "--arm", arm, "--seed", str(SEED))
    made = work.cellssl("run", recipe, *flags, *sets(*settings))
    described, x = embeddings.read(made / "embeddings.parquet")
    order = np.argsort(described["Metadata_cell_id"].to_numpy(str), kind="stable")
    return described.iloc[order].reset_index(drop=True), x[order].astype(np.float64)


def _is_chosen(compounds: np.ndarray) -> np.ndarray:
    """Return which cells are predicted: those of rare compounds, and as many of the frequent ones as are drawn."""
    chosen = ~np.isin(compounds, ("DMSO", *FREQUENT))
    for name in FREQUENT:
        rows = np.flatnonzero(compounds == name)
        chosen[generator("cells of twelve mechanisms", name).choice(rows, OF_EACH, replace=False)] = True
    return np.asarray(chosen)
