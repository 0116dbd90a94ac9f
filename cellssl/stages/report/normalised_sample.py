"""normalised_sample: a run and some of its cells in; their vectors as its clusters were fitted to them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts import embeddings
from cellssl.artifacts.contents import not_as_written
from cellssl.artifacts.tables import OF_CELLS, explained, open_parquet, read_assignments, read_table
from cellssl.bounded import read_arrays
from cellssl.stages.cluster.normalised import frames_of_draw
from cellssl.stages.report.runs import Run
from cellssl.stages.shared.plate_layout import PlateLayout

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from cellssl.profiling.chain import FittedChain
    from cellssl.profiling.frames import Frames

COLUMNS = {
    "Metadata_cell_id": "cell_id",
    "Metadata_Plate": "plate",
    "Metadata_Well": "well",
    "Metadata_control": "control",
    "Metadata_drawn": "drawn",
    "Metadata_compound": "compound",
    "Metadata_dose_micromolar": "dose_micromolar",
    "Metadata_label": "label",
}
"""Columns of embeddings.parquet -> what they are called here; those that a table lacks are left out."""


def read_cells_of(run: Run) -> pd.DataFrame:
    """Return what is known of the embedded cells of a run, one row per vector; columns may be missing."""
    path = run.embed.file("embeddings.parquet")
    with explained(path), open_parquet(path) as file:
        there = set(file.schema_arrow.names)
    needed = {name: OF_CELLS[ours] for name, ours in COLUMNS.items() if name in there}
    return read_table(path, needed, only=True).rename(columns=COLUMNS)


def can_be_normalised(run: Run, cells: pd.DataFrame) -> bool:
    """Return whether the artifacts say how the vectors were normalised; those of earlier versions do not."""
    return "drawn" in cells and "centroids.npz" in run.cluster.card.files


def normalised_sample(run: Run, cells: pd.DataFrame, wanted: Sequence[str]) -> np.ndarray:
    """Return the normalised vectors of the wanted cells, in that order; `cells` is `read_cells_of(run)`.

    Read are their vectors, and those of the drawn controls where these fit a part of every plate: the vectors of all
    cells may be gigabytes.
    """
    from cellssl.profiling.chain import is_per_plate

    chain = _chain(run)
    row_of = dict(zip(cells["cell_id"], range(len(cells)), strict=True))
    rows = np.array([row_of[one] for one in wanted])
    frames = None
    if is_per_plate(chain.links):
        is_used = (cells["drawn"] | cells["cell_id"].isin(read_assignments(run.cluster)["cell_id"])).to_numpy(bool)
        used = np.flatnonzero(is_used)
        in_use = cells.iloc[used].reset_index(drop=True)
        all_frames = frames_of_draw(in_use, PlateLayout.of(in_use))
        fitting = np.concatenate([frame.fitting for frame in all_frames.frames])
        kept = np.union1d(np.searchsorted(used, rows), fitting)
        frames, read = _only(all_frames, kept), used[kept]
    else:
        read = np.unique(rows)
    x = embeddings.read_rows(run.embed.file("embeddings.parquet"), read)
    return chain.apply(x, frames)[np.searchsorted(read, rows)]


def _only(frames: Frames, kept: np.ndarray) -> Frames:
    """Return the frames of a table that has only these rows, in ascending order; all fitting rows are among them."""
    from cellssl.profiling.frames import Frame, Frames

    some = [
        Frame(
            one.plate,
            np.searchsorted(kept, one.rows[np.isin(one.rows, kept)]),
            np.searchsorted(kept, one.fitting),
        )
        for one in frames.frames
    ]
    return Frames(tuple(some), frames.folds, frames.by_cell)


def _chain(run: Run) -> FittedChain:
    from cellssl.profiling.chain import FittedChain

    path = run.cluster.file("centroids.npz")
    try:
        return FittedChain.from_arrays(read_arrays(path))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise not_as_written(run.cluster, path.name, str(error)) from error
