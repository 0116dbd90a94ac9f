"""tables: data frames in, parquet and CSV files out (equal rows, equal bytes), and back, with columns checked."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cellssl.artifacts.card import leaves_its_folder
from cellssl.artifacts.store import Artifact
from cellssl.bounded import check_packed, open_regular
from cellssl.disk import raise_fault
from cellssl.errors import CellsslError, IntegrityError, reason_of
from cellssl.files import atomic_path
from cellssl.images.reference import parse_reference
from cellssl.spreadsheets import readable, safe

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

TREATMENT_COLUMNS = ["batch", "compound", "dose_micromolar", "moa", "pixel_um"]
"""Columns of the field table that describe the treatment of a well; they may be empty."""

UNREAD_FIELDS = "unread_fields.parquet"
"""The fields that fetch has quarantined, in a segment artifact that has any; they are not in its field table."""


class Column(NamedTuple):
    """What a column of a table must hold, where the table has it."""

    kind: Literal["text", "whole", "number", "flag", "any"]
    needed: bool = False
    """Whether the table must have the column."""
    gaps: bool = True
    """Whether rows may have no value."""
    unique: bool = False
    """Whether no value may occur twice."""


ID, KEY = Column("text", needed=True, gaps=False, unique=True), Column("text", needed=True, gaps=False)
TEXT, NUMBER = Column("text"), Column("number")
FIELDS: Mapping[str, Column] = {
    "field_id": ID,
    "plate": KEY,
    "well": Column("text", needed=True),
    "site": Column("any", needed=True),
    "batch": Column("text", needed=True),
    "compound": Column("text", needed=True),
    "dose_micromolar": Column("number", needed=True),
    "moa": Column("text", needed=True),
    "pixel_um": Column("number", needed=True),
    "control": Column("flag", needed=True, gaps=False),
    "truth_labels": TEXT,
    "field_flags": Column("text", gaps=False),
    "field_nuclei": NUMBER,
    "field_height_px": NUMBER,
    "field_width_px": NUMBER,
    "crop_pixel_um": NUMBER,
    "part": Column("text", gaps=False),
}
"""Columns of a field table; every channel has path_CHANNEL and sha256_CHANNEL besides, and a user may keep others."""
SHAPE: Mapping[str, Column] = {
    name: Column("number")
    for name in (
        "area_px", "eccentricity", "neighbours", "solidity", "focus", "brightness", "saturated", "edge_px",
        "nearest_px", "second_nearest_px", "third_nearest_px", "touching", "free_border",
    )
}  # fmt: skip
CELLS: Mapping[str, Column] = {
    "cell_id": ID,
    "field_id": KEY,
    "crop_row": Column("whole", needed=True, gaps=False),
    "part": Column("text", gaps=False),
    "row_px": Column("number", gaps=False),
    "column_px": Column("number", gaps=False),
    "nucleus_label": Column("whole", gaps=False),
    "true_phenotype": TEXT,
    **SHAPE,
}
"""Columns of a cell table; a user may keep others."""
NUCLEI: Mapping[str, Column] = {
    "field_id": KEY,
    "nucleus_label": Column("whole", needed=True, gaps=False),
    "at_edge": Column("flag", needed=True, gaps=False),
    "true_phenotype": TEXT,
    **{
        name: Column("number", needed=True, gaps=name.endswith(("nearest_px", "free_border")))
        for name in ("row_px", "column_px", *SHAPE)
        if name != "neighbours"
    },
}
"""Columns of the table of all nuclei of a plate, whatever the limits; every further one is a measurement, too."""
SCALE: Mapping[str, Column] = {
    "plate": KEY,
    "channel": KEY,
    "low": Column("number", needed=True, gaps=False),
    "high": Column("number", needed=True, gaps=False),
    "low_sd": NUMBER,
    "high_sd": NUMBER,
    "cells": Column("whole", gaps=False),
    "treated_above_white": NUMBER,
    "part": Column("text", gaps=False),
}
"""Columns of the table of intensity scales; those of earlier versions have only the first four, and part."""
SPLIT: Mapping[str, Column] = {"cell_id": ID, "field_id": KEY, "split": KEY, "label": Column("text", needed=True)}
ASSIGNMENTS: Mapping[str, Column] = {
    "cell_id": ID,
    "cluster": Column("whole", needed=True, gaps=False),
    "distance": NUMBER,
    "split": TEXT,
    "scored": Column("flag", gaps=False),
    "drawn": Column("flag", gaps=False),
}
OF_CELLS: Mapping[str, Column] = {
    **{
        name: column._replace(unique=False, needed=name in ("plate", "well", "control"))
        for name, column in FIELDS.items()
    },
    **{name: CELLS[name] for name in ("cell_id", "true_phenotype", *SHAPE)},
    "split": TEXT,
    "label": TEXT,
    "drawn": Column("flag", gaps=False),
}
"""Columns of the metadata of embeddings, under the names of the cell table."""


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a parquet file, without an index; opened here, because Arrow hides why a file cannot be closed."""
    with atomic_path(path) as written, written.open("wb") as file:
        frame.to_parquet(file, index=False, compression="zstd")


def read_table(path: Path, columns: Mapping[str, Column] | None = None, only: bool = False) -> pd.DataFrame:
    """Read a parquet file, all of its columns or `only` the given ones.

    Raises IntegrityError where it is no table, would take far more memory than its size allows for, or a column is
    missing or holds something other than `columns` says.
    """
    with explained(path):
        frame = read_parquet(path, list(columns) if columns and only else None)
        check_columns(frame, columns or {})
    return frame


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise IntegrityError for whatever a library raises about a damaged or forged file."""
    try:
        yield
    except (CellsslError, MemoryError):
        raise
    except Exception as error:  # pyarrow and pandas raise anything, from KeyError to OSError
        raise_fault(error, path)
        raise IntegrityError(
            f"{path} is not the table that it should be: {reason_of(error)}",
            hint="make its artifact again with --force, or get it again from where it came from",
        ) from error


@contextmanager
def open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a parquet file of plain columns, text as dictionaries; ValueError where there are others, or too much.

    Text that repeats takes next to nothing in a file, so that its bytes must be counted before it is spelled out.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    open_regular(path).close()
    with pq.ParquetFile(path) as file:
        schema, rows = file.schema_arrow, file.metadata.num_rows
        if len(set(schema.names)) < len(schema.names):
            raise ValueError("two of its columns have the same name")
        for field in schema:
            if not _is_plain(field.type):
                raise ValueError(f"its column {field.name} holds {field.type}")
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        if rows != sum(group.num_rows for group in groups) or any(group.num_rows < 0 for group in groups):
            raise ValueError(f"its {rows:,} rows are not those of its parts")
        stored = sum(group.total_byte_size for group in groups)
        check_packed(max(stored, 8 * rows * max(1, len(schema))), path.stat().st_size)
        texts = [
            field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        ]
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        yield file


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the table in a parquet file of anyone; ValueError, or what pyarrow raises, where it is none."""
    import pandas as pd

    table = read_arrow(path, columns)
    frame: pd.DataFrame = table.to_pandas()
    if not isinstance(frame.index, pd.RangeIndex) or list(frame.columns) != table.column_names:
        raise ValueError("it hides a column as an index")
    return frame


def read_arrow(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return all columns of a parquet file, or some, also those that pandas wrote as an index; else ValueError."""
    import pyarrow.parquet as pq

    with open_parquet(path) as file:
        missing = [name for name in columns or () if name not in file.schema_arrow.names]
        if missing:
            raise ValueError(f"it has no column {missing[0]}")
        table = file.read(columns=None if columns is None else list(columns))
    return spelled_out(table, pq.read_schema(path), path.stat().st_size)


def spelled_out(table: pa.Table, schema: pa.Schema, size: int) -> pa.Table:
    """Return a table with its text as text, in the types of `schema`; ValueError where that would be far too much."""
    import pyarrow as pa
    import pyarrow.compute as pc

    characters = 0
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            for chunk in column.chunks:
                lengths = pc.binary_length(chunk.dictionary).take(chunk.indices)
                characters += pc.sum(lengths.cast(pa.int64())).as_py() or 0
    check_packed(characters, size)
    types = [schema.field(name) for name in table.column_names]
    return table.cast(pa.schema(types, table.schema.metadata))


def _is_plain(kind: pa.DataType) -> bool:
    """Return whether a column holds numbers, text or true and false: no lists, no binary data, no types of others."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return bool(types.is_integer(kind.index_type)) and _is_plain(kind.value_type)
    plain: tuple[Callable[[Any], bool], ...] = (
        types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_large_string, types.is_null,
        types.is_date, types.is_timestamp,
    )  # fmt: skip
    return any(is_kind(kind) for is_kind in plain)


def check_columns(frame: pd.DataFrame, columns: Mapping[str, Column]) -> None:
    """Raise ValueError where a column is missing, or holds something other than it should."""
    for name, column in columns.items():
        if name not in frame:
            if column.needed:
                raise ValueError(f"it has no column {name}")
            continue
        values = frame[name]
        if not _is_of(values, column.kind):
            raise ValueError(f"its column {name} holds {values.dtype}, and {column.kind} is needed")
        if not column.gaps and values.isna().any():
            raise ValueError(f"its column {name} is empty in row {int(values.isna().to_numpy().argmax()) + 1}")
        if column.unique and not values.is_unique:
            raise ValueError(f"its column {name} holds {values[values.duplicated()].iloc[0]!r} more than once")


def _is_of(values: pd.Series[Any], kind: str) -> bool:
    from pandas.api import types

    if values.isna().all():  # a column without values has no type of its own
        return True
    match kind:
        case "text":
            return types.infer_dtype(values, skipna=True) == "string"
        case "flag":
            return bool(types.is_bool_dtype(values.dtype))
        case "whole":
            return bool(types.is_integer_dtype(values.dtype))
        case "number":
            return bool(types.is_numeric_dtype(values.dtype) and not types.is_bool_dtype(values.dtype))
    return True


def write_csv(frame: pd.DataFrame, path: Path, **options: Any) -> None:
    """Write a CSV table for people: text that a spreadsheet would execute gets a quote before it.

    `options` are those of pandas.
    """
    safe_frame, texts = safe_cells(frame)
    has_return = any(safe_frame[name].astype("string").str.contains("\r").any() for name in texts)
    # pandas does not quote a carriage return
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL
    safe_frame.to_csv(path, index=False, lineterminator="\n", quoting=quoting, **options)


def written_flags(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with flags as TRUE and FALSE, which R and spreadsheets read; missing ones stay missing."""
    flags = frame.select_dtypes(["bool", "boolean"]).columns
    return frame.assign(**{name: frame[name].map({True: "TRUE", False: "FALSE"}) for name in flags})


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
    path = artifact.file("fields.parquet")
    fields = read_table(path, FIELDS)
    with explained(path):
        _check_images(fields)
    return fields


def _check_images(fields: pd.DataFrame) -> None:
    """Raise ValueError where an image is named that lies neither in the artifact nor at a place of its own."""
    for name in [name for name in fields.columns if str(name).startswith(("path_", "sha256_"))]:
        check_columns(fields, {name: Column("text", gaps=False)})
        if fields[name].str.contains("\0", regex=False).any():
            raise ValueError(f"its column {name} holds a name that no file can have")
    for name in [name for name in fields.columns if str(name).startswith("path_")]:
        if (hashed := name.replace("path_", "sha256_", 1)) not in fields:
            raise ValueError(f"it has no column {hashed}")
        files = (file for text in fields[name] for file in parse_reference(text).files)
        _check_places(name, (file for file in files if not Path(file).is_absolute()))  # others are images of the user
    if "truth_labels" in fields:
        _check_places("truth_labels", fields["truth_labels"].dropna())
    for name in ("dose_micromolar", "pixel_um"):
        if (fields[name].astype(float).abs() == float("inf")).any():
            raise ValueError(f"its column {name} holds a number that is not finite")


def _check_places(name: str, places: Iterable[str]) -> None:
    for place in places:
        if leaves_its_folder(place) or "\0" in place:
            raise ValueError(f"its column {name} leads out of the artifact: {place!r}")


def read_cells(segment: Artifact) -> pd.DataFrame:
    """Return the cell table of a segment artifact, with plate, well and treatment of each cell from the field table."""
    path = segment.file("cells.parquet")
    cells, fields = read_table(path, CELLS), read_fields(segment)
    of_crops = ["crop_pixel_um"] if "crop_pixel_um" in fields else []
    columns = ["field_id", "plate", "well", "site", *TREATMENT_COLUMNS, *of_crops, "control"]
    with explained(path):
        if twice := sorted({*cells.columns} & {*columns[1:]}):
            raise ValueError(f"its column {twice[0]} belongs to the table of fields")
        if ("row_px" in cells) != ("column_px" in cells):
            raise ValueError("it has only one of the columns row_px and column_px")
        if not (known := cells["field_id"].isin(fields["field_id"])).all():
            raise ValueError(f"its field {cells['field_id'][~known].iloc[0]!r} is not in fields.parquet")
    return cells.merge(fields[columns], on="field_id", how="left", validate="many_to_one")


def read_scale(segment: Artifact) -> pd.DataFrame:
    """Return the table of the intensity scale: one row per plate and channel."""
    path = segment.file("scale.parquet")
    scale = read_table(path, SCALE)
    with explained(path):
        limits = scale[["low", "high"]].to_numpy(float)
        if not (abs(limits) < 2**32).all():
            raise ValueError("a grey value of black or white is not one that a pixel can have")
    return scale


def read_split(split: Artifact) -> pd.DataFrame:
    """Return the table of a split: cell_id, field_id, split and label."""
    path = split.file("split.parquet")
    table = read_table(path, SPLIT, only=True)
    with explained(path):
        if not (known := table["split"].isin(["train", "val", "test"])).all():
            raise ValueError(f"its column split holds {table['split'][~known].iloc[0]!r}")
    return table


def read_assignments(clustering: Artifact) -> pd.DataFrame:
    """Return the cluster of every cell, and its distance to the centroid."""
    return read_table(clustering.file("assignments.parquet"), ASSIGNMENTS)
