"""cell_tables: segment, split and embed artifacts in, their cell tables and vectors out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts import embeddings
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_cells, read_table

if TYPE_CHECKING:
    import pandas as pd


def chosen_cells(source: Artifact, segment: Artifact) -> pd.DataFrame:
    """The cell table of a split or segment artifact, with `split` and `label` where there is a split."""
    cells = read_cells(segment)
    if source.card.kind == "segment":
        return cells
    split = read_table(source.file("split.parquet")).drop(columns="field_id")
    return split.merge(cells, on="cell_id", how="left", validate="one_to_one")


PYCYTOMINER_NAMES = {"plate": "Plate", "well": "Well", "site": "Site"}
"""Written as pycytominer and DeepProfiler write them."""


NOT_METADATA = ("part", "crop_row", "row_px", "column_px")


def metadata(cells: pd.DataFrame) -> pd.DataFrame:
    """Metadata_* columns, then the nucleus' place in its field."""
    known = cells.drop(columns=[name for name in NOT_METADATA if name in cells])
    table = known.rename(columns={name: f"Metadata_{PYCYTOMINER_NAMES.get(name, name)}" for name in known.columns})
    if "row_px" in cells:
        table["Nuclei_Location_Center_X"] = cells["column_px"].to_numpy()
        table["Nuclei_Location_Center_Y"] = cells["row_px"].to_numpy()
    return table


def read_embeddings(artifact: Artifact) -> tuple[pd.DataFrame, np.ndarray]:
    """The metadata, under the cell table's own names, and the vectors (n, dim) float32."""
    known, vectors = embeddings.read(artifact.file("embeddings.parquet"))
    known = known.rename(columns={f"Metadata_{there}": here for here, there in PYCYTOMINER_NAMES.items()})
    known.columns = known.columns.str.removeprefix("Metadata_")
    return known, vectors
