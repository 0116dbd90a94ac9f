"""tables: data frames in, parquet files out (equal rows give equal bytes), and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cellssl.artifacts.store import Artifact
from cellssl.disk import raise_fault
from cellssl.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

TREATMENT_COLUMNS = ["batch", "compound", "dose_micromolar", "moa", "pixel_um"]
"""Columns of the field table that describe the treatment of a well; they may be empty."""


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a parquet file, without an index; opened here, because Arrow hides why a file cannot be closed."""
    with atomic_path(path) as written, written.open("wb") as file:
        frame.to_parquet(file, index=False, compression="zstd")


def read_table(path: Path) -> pd.DataFrame:
    """Read a parquet file."""
    import pandas as pd

    try:
        return pd.read_parquet(path)
    except OSError as error:
        raise_fault(error, path)
        raise


def read_fields(artifact: Artifact) -> pd.DataFrame:
    """Return the field table of a fetch or segment artifact: one row per field."""
    return read_table(artifact.file("fields.parquet"))


def read_cells(segment: Artifact) -> pd.DataFrame:
    """Return the cell table of a segment artifact, with plate, well and treatment of each cell from the field table."""
    cells = read_table(segment.file("cells.parquet"))
    fields = read_fields(segment)
    columns = ["field_id", "plate", "well", "site", *TREATMENT_COLUMNS, "control"]
    return cells.merge(fields[columns], on="field_id", how="left", validate="many_to_one")
