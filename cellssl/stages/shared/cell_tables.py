"""cell_tables: segment, split and embed artifacts in, their cell tables and vectors out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts import embeddings
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import OF_CELLS, check_columns, explained, read_cells, read_split
from cellssl.errors import IntegrityError

if TYPE_CHECKING:
    import pandas as pd


def chosen_cells(source: Artifact, segment: Artifact) -> pd.DataFrame:
    """Return the cell table of a split or segment artifact, with `split` and `label` where there is a split."""
    cells = read_cells(segment)
    if source.card.kind == "segment":
        return cells
    split = read_split(source).drop(columns="field_id")
    check_cells_known(split["cell_id"], cells["cell_id"], source, segment)
    return split.merge(cells, on="cell_id", how="left", validate="one_to_one")


def check_cells_known(chosen: pd.Series[str], known: pd.Series[str], source: Artifact, segment: Artifact) -> None:
    """Raise IntegrityError where cells are chosen that the segment artifact does not have."""
    unknown = chosen[~chosen.isin(known)]
    if len(unknown):
        raise IntegrityError(
            f"{source.path} has {len(unknown):,} cells that {segment.path} lacks; first: {unknown.iloc[0]!r}",
            hint="make both again: cellssl run RECIPE --force",
        )


PYCYTOMINER_NAMES = {"plate": "Plate", "well": "Well", "site": "Site"}
"""Name in the cell table -> name in pycytominer and DeepProfiler."""


NOT_METADATA = ("part", "crop_row", "row_px", "column_px", "nucleus_label")


def metadata(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the Metadata_* columns, then the position of the nucleus in its field."""
    kept = cells.drop(columns=[name for name in NOT_METADATA if name in cells])
    table = kept.rename(columns={name: f"Metadata_{PYCYTOMINER_NAMES.get(name, name)}" for name in kept.columns})
    if "row_px" in cells:
        table["Nuclei_Location_Center_X"] = cells["column_px"].to_numpy()
        table["Nuclei_Location_Center_Y"] = cells["row_px"].to_numpy()
    return table


def read_embeddings(artifact: Artifact) -> tuple[pd.DataFrame, np.ndarray]:
    """Return metadata and vectors of the cells that may be fitted and scored: those of the split, where there is one.

    Cells that are in the table only for the draw per well are left out.
    """
    table, vectors = read_all_embeddings(artifact)
    if "split" not in table or table["split"].notna().all():
        return table, vectors
    in_split = table["split"].notna().to_numpy()
    n_in_split = int(in_split.sum())
    if in_split[:n_in_split].all():  # they come first: a view takes no memory
        return table.iloc[:n_in_split], vectors[:n_in_split]
    return table[in_split].reset_index(drop=True), vectors[in_split]


def read_all_embeddings(artifact: Artifact) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the metadata, under the cell table's own names, and the vectors (n, dim) float32, of every row.

    Among them may be cells outside the split, which must not be scored; `drawn` marks the even draw per well.
    """
    path = artifact.file("embeddings.parquet")
    table, vectors = embeddings.read(path)
    table = table.rename(columns={f"Metadata_{theirs}": ours for ours, theirs in PYCYTOMINER_NAMES.items()})
    table.columns = table.columns.str.removeprefix("Metadata_")
    with explained(path):
        if not table.columns.is_unique:
            raise ValueError("two of its columns mean the same")
        check_columns(table, OF_CELLS)
    return table, vectors
