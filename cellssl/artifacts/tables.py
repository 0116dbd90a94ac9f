"""tables: data frames in, parquet files with the same bytes for the same rows out, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cellssl.artifacts.store import Artifact
from cellssl.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

PLANNED = ["batch", "compound", "dose_micromolar", "moa", "pixel_um"]
"""Columns of the field table that may be empty."""


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a parquet file, without an index."""
    with atomic_path(path) as beside:
        frame.to_parquet(beside, index=False, compression="zstd")


def read_table(path: Path) -> pd.DataFrame:
    """Read a parquet file."""
    import pandas as pd

    return pd.read_parquet(path)


def read_fields(artifact: Artifact) -> pd.DataFrame:
    """The field table that a fetch or segment artifact holds: a row a field."""
    return read_table(artifact.file("fields.parquet"))


def read_cells(segment: Artifact) -> pd.DataFrame:
    """The cell table of a segment artifact, with what the field table knows of each cell's plate and treatment."""
    cells = read_table(segment.file("cells.parquet"))
    fields = read_fields(segment)
    known = ["field_id", "plate", "well", "site", *PLANNED, "control"]
    return cells.merge(fields[known], on="field_id", how="left", validate="many_to_one")
