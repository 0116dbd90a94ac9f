"""embedded_cells: an embed artifact in; what is known of its cells, in the order of their vectors, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import OF_CELLS, explained, open_parquet, read_table

if TYPE_CHECKING:
    import pandas as pd

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


def read_cells_of(embed: Artifact) -> pd.DataFrame:
    """Return what is known of the cells of an embed artifact, one row per vector; columns may be missing."""
    path = embed.file("embeddings.parquet")
    with explained(path), open_parquet(path) as file:
        there = set(file.schema_arrow.names)
    needed = {name: OF_CELLS[ours] for name, ours in COLUMNS.items() if name in there}
    return read_table(path, needed, only=True).rename(columns=COLUMNS)
