"""arm_neighbours: the first run of every arm in; the nearest cells of the same few cells in each, as a figure, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.tables import read_cells, read_table
from cellssl.engine.build import Job
from cellssl.reporting import theme
from cellssl.reporting.html import Block, Heading, Paragraph
from cellssl.reporting.natural_sort import natural_key
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.figure_files import write_figure
from cellssl.stages.report.normalised_sample import can_be_normalised, normalised_sample, read_cells_of
from cellssl.stages.report.runs import Run
from cellssl.stages.shared.scaled_crops import scaled_crops

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

ARMS, CELLS, NEIGHBOURS = 6, 8, 5
"""The largest numbers of arms and of cells that are shown, and of neighbours of each."""
TILES = 20
"""Number of tiles side by side; with many arms, each shows fewer neighbours."""
FEWEST_CELLS = 20
"""Fewer cells in common than this are too few to look for neighbours among them."""
SHARED = 0.5
"""Share of the cells that an arm must have in common with the leading arm; arms of other cells are left out."""
OTHER, SAME = "#BDBDBD", "#1a1a1a"
"""Frames of cells of another label and of the same one, where there are no treatments."""


@dataclass(frozen=True)
class Sample:
    """The cells among which neighbours are looked for, and the arms that have all of them."""

    runs: list[Run]
    cells: pd.DataFrame
    """One row per cell: cell_id, plate, well, control, and its treatment and label where these are known."""
    vectors: dict[str, np.ndarray]
    """Arm -> unit vectors, row for row with `cells`."""
    left_out: list[str]


def neighbour_blocks(job: Job, runs: list[Run], scores: ScoresByArm) -> list[Block]:
    """Return the figure of the nearest cells of the same cells under every arm; nothing for too few cells."""
    sample = _sample(_in_order(runs, scores))
    if sample is None:
        return []
    rows, names = chosen(sample)
    count = max(3, min(NEIGHBOURS, (TILES - 1) // len(sample.runs)))
    groups = _wells(sample.cells)
    near = {arm: nearest(vectors, rows, groups, count) for arm, vectors in sample.vectors.items()}
    if min(len(each) for of_arm in near.values() for each, _ in of_arm) == 0:
        return []
    figure = _figure(job, sample, rows, names, near)
    title = "Nearest neighbours of the same cells under every arm"
    drawn = _drawn(sample, rows, near)
    picture = write_figure(job, "neighbours", figure, _caption(sample, len(rows), count), theme.photo, drawn)
    note = f"Not shown: {', '.join(sample.left_out)}." if sample.left_out else ""
    return [Heading(title), picture, *([Paragraph(note)] if note else [])]


def _in_order(runs: list[Run], scores: ScoresByArm) -> list[Run]:
    """Return the leading arm first, then the other trained ones, then baselines."""
    return sorted(runs, key=lambda run: (run.arm != scores.leading, run.is_baseline))


def _sample(runs: list[Run]) -> Sample | None:
    """Return cells of the map of the first arm that all shown arms have; None where these are too few."""
    shown: list[tuple[Run, pd.DataFrame]] = []
    common: set[str] = set()
    left_out: list[str] = []
    for run in runs:
        cells = read_cells_of(run) if len(shown) < ARMS and "map.parquet" in run.cluster.card.files else None
        if cells is None or not can_be_normalised(run, cells):
            left_out.append(run.arm)
            continue
        here = set(read_table(run.cluster.file("map.parquet"))["cell_id"]) & set(cells["cell_id"])
        if shown and len(here & common) < SHARED * len(common):
            left_out.append(run.arm)
            continue
        common = here & common if shown else here
        shown.append((run, cells))
    if len(common) < FEWEST_CELLS:
        return None
    first = shown[0][1]
    cells = first[first["cell_id"].isin(common)].sort_values("cell_id", kind="stable").reset_index(drop=True)
    ids = cells["cell_id"].tolist()
    vectors = {run.arm: _unit(normalised_sample(run, of_run, ids)) for run, of_run in shown}
    return Sample([run for run, _ in shown], cells, vectors, left_out)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length == 0, 1, length))


def nearest(
    unit: np.ndarray, rows: Sequence[int], groups: np.ndarray, count: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return for every chosen row the nearest rows of other groups (wells) by cosine, and their cosines."""
    found = []
    for row in rows:
        cosine = unit @ unit[row]
        allowed = np.flatnonzero(groups != groups[row])
        order = allowed[np.argsort(-cosine[allowed], kind="stable")[:count]]
        found.append((order, cosine[order]))
    return found


def _wells(cells: pd.DataFrame) -> np.ndarray:
    """Return the number of the well of every cell; a cell whose well is not known is alone in one."""
    known = cells["plate"].notna() & cells["well"].notna()
    number = cells.groupby(["plate", "well"], dropna=False, sort=False).ngroup().to_numpy()
    alone = number.max() + 1 + np.arange(len(cells))
    return np.where(known, number, alone)


def chosen(sample: Sample) -> tuple[list[int], list[str]]:
    """Return the rows of the cells that are shown, and what they are called.

    Of controls and of treatments half each: cells near the middle of their treatment in the leading arm, one of each
    treatment (the highest doses first) and then of other wells. Without treatments, cells of every label.
    """
    unit = sample.vectors[sample.runs[0].arm]
    halves = [half for half in _groups(sample.cells) if half]
    found = [one for half in halves for one in _of_half(unit, half, sample.cells, CELLS // len(halves))]
    return [row for row, _ in found], [name for _, name in found]


def _of_half(unit: np.ndarray, groups: dict[str, list[int]], cells: pd.DataFrame, wanted: int) -> list[tuple[int, str]]:
    """Return so many cells with their groups: one of each group in turn, of groups spread over all."""
    places = np.linspace(0, len(groups) - 1, min(wanted, len(groups))).round().astype(int)
    names = [list(groups)[place] for place in places]
    ordered = [_near_middle(unit, groups[name], cells) for name in names]
    in_turn = [(turn, place) for turn in range(wanted) for place, rows in enumerate(ordered) if turn < len(rows)]
    return [(ordered[place][turn], names[place]) for place, turn in sorted((p, t) for t, p in in_turn[:wanted])]


def _groups(cells: pd.DataFrame) -> list[dict[str, list[int]]]:
    """Return controls and treatments, name -> rows; without treatments, the labels; without these, all cells."""
    control = cells["control"].fillna(False).to_numpy(bool)
    if control.any() and not control.all():
        return [{"control": np.flatnonzero(control).tolist()}, _treatments(cells[~control])]
    if "label" in cells and cells["label"].nunique() > 1:
        labels = cells["label"].astype(str).to_numpy()
        return [{name: np.flatnonzero(labels == name).tolist() for name in sorted(set(labels), key=natural_key)}]
    return [{"cell": list(range(len(cells)))}]


def _treatments(cells: pd.DataFrame) -> dict[str, list[int]]:
    """Return treatment -> its rows; the highest dose of every compound first, then the next one."""
    import pandas as pd

    doses = cells["dose_micromolar"] if "dose_micromolar" in cells else pd.Series(np.nan, cells.index)
    compounds = cells["compound"] if "compound" in cells else pd.Series(None, cells.index, dtype=object)
    members: dict[str, dict[float, list[int]]] = {}
    for row, compound, dose in zip(cells.index, compounds, doses.astype(float), strict=True):
        name = "treated" if pd.isna(compound) else str(compound)
        members.setdefault(name, {}).setdefault(-1.0 if pd.isna(dose) else dose, []).append(int(row))
    ranked = [
        (rank, natural_key(name), name, dose)
        for name, of_doses in members.items()
        for rank, dose in enumerate(sorted(of_doses, reverse=True))
    ]
    highest = [one for one in ranked if one[0] == 0]
    shown = sorted(highest if len(highest) >= CELLS // 2 else ranked, key=lambda one: one[:2])
    return {f"{name}\n{dose:.3g} µM" if dose >= 0 else name: members[name][dose] for _, _, name, dose in shown}


def _near_middle(unit: np.ndarray, members: list[int], cells: pd.DataFrame) -> list[int]:
    """Return the cells of a group, those nearest to its mean first, and of every well one before a second one."""
    similar = unit[members] @ unit[members].mean(axis=0)
    order = [members[place] for place in np.argsort(-similar, kind="stable")]
    seen: dict[tuple[Any, Any], int] = {}
    turns = []
    for row in order:
        well = (cells["plate"].iat[row], cells["well"].iat[row])
        seen[well] = seen.get(well, 0) + 1
        turns.append(seen[well])
    return [row for _, row in sorted(zip(turns, order, strict=True), key=lambda one: one[0])]


def _figure(job: Job, sample: Sample, rows: list[int], names: list[str], near: Any) -> Any:
    from cellssl.imaging.colour import named_colours, to_rgb
    from cellssl.reporting.figures.neighbours import neighbours

    wanted = sorted({*rows, *(int(row) for of_arm in near.values() for each, _ in of_arm for row in each)})
    ids = sample.cells["cell_id"].iloc[wanted].tolist()
    segment = sample.runs[0].segment
    cells = read_cells(segment)
    cells = cells[cells["cell_id"].isin(ids)].set_index("cell_id").loc[ids].reset_index()
    crops = scaled_crops(segment, job.context.store, cells)
    tiles = dict(zip(wanted, to_rgb(crops.read(np.arange(len(crops))), named_colours(crops.channels)), strict=True))
    frames = _frames(sample.cells)
    count = min(len(each) for of_arm in near.values() for each, _ in of_arm)
    shown = {arm: [each[:count].tolist() for each, _ in of_arm] for arm, of_arm in near.items()}
    return neighbours(
        names,
        np.stack([tiles[row] for row in rows]),
        [frames(row, row) for row in rows],
        {arm: np.stack([np.stack([tiles[one] for one in each]) for each in of_arm]) for arm, of_arm in shown.items()},
        {
            arm: [[frames(one, row) for one in each] for row, each in zip(rows, of_arm, strict=True)]
            for arm, of_arm in shown.items()
        },
    )


def _frames(cells: pd.DataFrame) -> Any:
    """Return a function of a cell and the one whose neighbour it is: the colour of its frame, if it has one."""
    control = cells["control"].fillna(False).to_numpy(bool)
    if control.any() and not control.all():
        return lambda row, of: theme.CONTROL if control[row] else theme.TREATED
    if "label" in cells and cells["label"].nunique() > 1:
        label = cells["label"].astype(str).to_numpy()
        return lambda row, of: SAME if label[row] == label[of] else OTHER
    return lambda row, of: None


def _drawn(sample: Sample, rows: list[int], near: Any) -> pd.DataFrame:
    """Return one row per cell, arm and neighbour: what the figure shows."""
    import pandas as pd

    ids = sample.cells["cell_id"].to_numpy()
    control = sample.cells["control"].fillna(False).to_numpy(bool)
    table = [
        (ids[row], arm, rank, ids[other], control[row], control[other], float(cosine))
        for arm, of_arm in near.items()
        for row, (others, cosines) in zip(rows, of_arm, strict=True)
        for rank, (other, cosine) in enumerate(zip(others, cosines, strict=True), 1)
    ]
    names = ["cell_id", "arm", "rank", "neighbour", "control", "neighbour_control", "similarity"]
    return pd.DataFrame(table, columns=names)


def _caption(sample: Sample, rows: int, count: int) -> str:
    """Return what is shown, how it was computed, and n."""
    control = sample.cells["control"].fillna(False).to_numpy(bool)
    known = sample.cells["well"].notna().all()
    frames = ""
    if control.any() and not control.all():
        frames = f" Frame: grey, control ({control.sum():,} cells); purple, treated ({(~control).sum():,})."
    elif "label" in sample.cells and sample.cells["label"].nunique() > 1:
        frames = " Frame: black, the label of the cell at the left; light grey, another label."
    where = "of other wells" if known else "of other wells, or of any place where the well is not known"
    return (
        f"Each row is one cell, the same for all arms, and its {count} nearest cells {where}, the nearest first "
        "(cosine "
        f"of vectors as clustered, first seed; n = {len(sample.cells):,} cells of the map that all these arms have)."
        f"{frames} The {rows} cells lie near the middle of their treatment in “{sample.runs[0].arm}”."
    )
