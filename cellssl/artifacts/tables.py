"""tables: data frames in, parquet and CSV files out (equal rows give equal bytes), and back."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cellssl.artifacts.store import Artifact
from cellssl.files import atomic_path
from cellssl.spreadsheets import readable, safe

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd

TREATMENT_COLUMNS = ["batch", "compound", "dose_micromolar", "moa", "pixel_um"]
"""Columns of the field table that describe the treatment of a well; they may be empty."""


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a parquet file, without an index."""
    with atomic_path(path) as written:
        frame.to_parquet(written, index=False, compression="zstd")


def read_table(path: Path) -> pd.DataFrame:
    """Read a parquet file."""
    import pandas as pd

    return pd.read_parquet(path)


def write_csv(frame: pd.DataFrame, path: Path, **options: Any) -> None:
    """Write a CSV table for people: text that a spreadsheet would execute gets a quote before it.

    `options` are those of pandas.
    """
    safe_frame, texts = safe_cells(frame)
    has_return = any(safe_frame[name].astype("string").str.contains("\r").any() for name in texts)
    # pandas does not quote a carriage return
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL
    safe_frame.to_csv(path, index=False, lineterminator="\n", quoting=quoting, **options)


def read_csv(path: Path, numbers: Iterable[str] = ()) -> pd.DataFrame:
    """Read a CSV table that `write_csv` wrote: the columns `numbers`, where there are any, as numbers, others as text.

    Text stays as it was: `NA`, `01` and `1e3` are names, and only an empty cell is a missing value.
    """
    import pandas as pd

    table = pd.read_csv(path, dtype="string", keep_default_na=False, na_values=[""])
    table.columns = table.columns.map(readable)
    parsed = {name: pd.to_numeric(table[name]) for name in numbers if name in table}
    texts = {name: table[name].map(readable, na_action="ignore") for name in table.columns if name not in parsed}
    return table.assign(**texts, **parsed)


def safe_cells(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the table with text that a spreadsheet shows and does not execute, and the names of columns of text."""
    texts = [str(name) for name in frame if frame[name].dtype.kind not in "biufcmM"]
    made = frame.assign(**{name: [safe(one) if isinstance(one, str) else one for one in frame[name]] for name in texts})
    return made.rename(columns=safe), [safe(name) for name in texts]


def label_text(column: pd.Series[Any]) -> pd.Series[str]:
    """Return a typed column as the text that its labels have; missing where there is none, or where it is empty.

    Whole numbers that a gap has turned into floats are whole again: `1`, not `1.0`.
    """
    import pandas as pd
    from pandas.api.types import is_float_dtype

    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype if column.notna().all() else object).infer_objects()
    if is_float_dtype(column) and ((known := column.dropna()) % 1 == 0).all() and (known.abs() < 2**53).all():
        column = column.astype("Int64")
    if column.dtype == object:
        column = column.map(lambda value: value.decode() if isinstance(value, bytes) else value)
    text = column.astype("string").str.strip()
    return text.mask(text == "")


def read_fields(artifact: Artifact) -> pd.DataFrame:
    """Return the field table of a fetch or segment artifact: one row per field."""
    return read_table(artifact.file("fields.parquet"))


def read_cells(segment: Artifact) -> pd.DataFrame:
    """Return the cell table of a segment artifact, with plate, well and treatment of each cell from the field table."""
    cells = read_table(segment.file("cells.parquet"))
    fields = read_fields(segment)
    columns = ["field_id", "plate", "well", "site", *TREATMENT_COLUMNS, "control"]
    return cells.merge(fields[columns], on="field_id", how="left", validate="many_to_one")
