"""embeddings: metadata of all cells and their vectors, block by block, in; one parquet file out, and back.

The columns of a vector are named emb_0000 ..., or as CellProfiler names its measurements; those of several models side
by side BLOCK:FEATURE.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from cellssl.artifacts import anndata_file
from cellssl.artifacts.tables import explained, open_parquet, read_parquet
from cellssl.files import atomic_path
from cellssl.spreadsheets import safe

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Float32, Int

GROUP_BYTES = 2**26
"""Size of the vectors in one row group, which is what writer and readers hold in memory at a time."""
ROWS_AT_A_TIME = 16_384
"""Rows of vectors that are read at a time."""
COLUMNS_AT_A_TIME = 64
"""Columns of vectors that are read at a time where few rows of them are wanted."""
PREFIX = "emb_"
MEASURED_PREFIXES = ("Nuclei_", "Cells_", "Cytoplasm_")
"""How the names of CellProfiler's measurements begin."""
LOCATIONS = tuple(f"{prefix}Location_" for prefix in MEASURED_PREFIXES)
"""Where a cell lies in its field is metadata, also under a name of CellProfiler."""


METADATA_PREFIX = "Metadata_"


def is_feature(column: str) -> bool:
    """Return whether a column of the table is part of the vectors; all others are metadata."""
    if column.startswith((METADATA_PREFIX, *LOCATIONS)):
        return False
    return column.startswith((PREFIX, *MEASURED_PREFIXES)) or ":" in column


def name_in_block(block: str, feature: str) -> str:
    """Return the name of a feature in the table of several models side by side."""
    return f"{block}:{feature.removeprefix(PREFIX)}"


class Writer:
    """A parquet file that is being written; its row groups do not depend on the sizes of the blocks."""

    def __init__(self, file: BinaryIO, metadata: pd.DataFrame, names: Sequence[str] | None = None) -> None:
        self._file, self._metadata, self._names = file, metadata, names
        self._pending: list[np.ndarray] = []
        self._written = 0
        self._writer: Any = None
        self.dim = 0

    def append(self, vectors: Float32[np.ndarray, "n dim"]) -> None:
        """Append the vectors of the next rows."""
        self.dim = vectors.shape[1]
        self._pending.append(vectors)
        rows = max(1, GROUP_BYTES // (4 * self.dim))
        while sum(map(len, self._pending)) >= rows:
            joined = np.concatenate(self._pending)
            self._write(joined[:rows])
            self._pending = [joined[rows:]]

    def close(self) -> None:
        """Write the remaining vectors; raise ValueError where rows have no vector."""
        if any(map(len, self._pending)):
            self._write(np.concatenate(self._pending))
        if self._writer is not None:
            self._writer.close()
        if self._written != len(self._metadata):
            raise ValueError(f"{self._written} vectors were written for {len(self._metadata)} rows")

    def _write(self, vectors: np.ndarray) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = self._names or [f"{PREFIX}{number:04d}" for number in range(vectors.shape[1])]
        described = pa.Schema.from_pandas(self._metadata, preserve_index=False)
        rows = self._metadata.iloc[self._written : self._written + len(vectors)]
        columns = pa.Table.from_pandas(rows, schema=described, preserve_index=False).columns
        numbers = [pa.array(column) for column in np.ascontiguousarray(vectors.T)]
        schema = pa.schema([*described, *(pa.field(name, pa.float32()) for name in names)], described.metadata)
        if self._writer is None:
            # no dictionary encoding for numbers that hardly repeat: it takes time and space
            self._writer = pq.ParquetWriter(
                self._file, schema, compression="zstd", use_dictionary=self._metadata.columns.tolist()
            )
        self._writer.write_table(pa.Table.from_arrays([*columns, *numbers], schema=schema))
        self._written += len(vectors)


@contextmanager
def writer(path: Path, metadata: pd.DataFrame, names: Sequence[str] | None = None) -> Iterator[Writer]:
    """Open a file for the columns of `metadata`, then `names`, or else emb_0000 ...

    It is renamed when all rows have vectors.
    """
    with atomic_path(path) as written, written.open("wb") as opened:
        file = Writer(opened, metadata, names)
        yield file
        file.close()


def read(path: Path) -> tuple[pd.DataFrame, Float32[np.ndarray, "n dim"]]:
    """Return the metadata of all cells, and their vectors; memory stays little above the size of both.

    Raises IntegrityError where the file is no such table.
    """
    metadata, names = read_metadata(path), read_names(path)
    vectors, start = np.empty((len(metadata), len(names)), np.float32), 0
    for block in iter_vectors(path):
        vectors[start : start + len(block)] = block
        start += len(block)
    return metadata, vectors


def read_metadata(path: Path) -> pd.DataFrame:
    """Return the metadata of all cells; IntegrityError where the file is no table of vectors."""
    import pyarrow as pa

    with explained(path), open_parquet(path) as file:
        schema = file.schema_arrow
        names = list(filter(is_feature, schema.names))
        others = [name for name in schema.names if name not in set(names)]
        if wrong := [name for name in names if schema.field(name).type != pa.float32()]:
            raise ValueError(f"its column {wrong[0]} holds {schema.field(wrong[0]).type}, and float is needed")
        if not names or not (rows := file.metadata.num_rows):
            raise ValueError("it has no vectors")
        metadata = read_parquet(path, others)
        if len(metadata) != rows:
            raise ValueError("its columns differ in their length")
    return metadata


def iter_vectors(path: Path) -> Iterator[Float32[np.ndarray, "n dim"]]:
    """Yield the vectors of all cells, some rows at a time; IntegrityError where the file is no such table."""
    names, start = read_names(path), 0
    with explained(path), open_parquet(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_AT_A_TIME, columns=names):
            block = np.empty((len(batch), len(names)), np.float32)
            for place, column in enumerate(batch.columns):
                block[:, place] = column.to_numpy(zero_copy_only=False)
            start += len(block)
            if start > file.metadata.num_rows:
                break
            yield block
        if start != file.metadata.num_rows:
            raise ValueError("its columns differ in their length")


def read_rows(path: Path, rows: Int[np.ndarray, "m"]) -> Float32[np.ndarray, "m dim"]:
    """Return the vectors of some rows, which ascend; no more of the table is held in memory than a part of its columns
    in one row group.
    """
    names = read_names(path)
    found, start = np.empty((len(rows), len(names)), np.float32), 0
    with explained(path), open_parquet(path) as file:
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            first, last = np.searchsorted(rows, [start, end])
            if last > first:
                for place in range(0, len(names), COLUMNS_AT_A_TIME):
                    table = file.read_row_group(group, names[place : place + COLUMNS_AT_A_TIME])
                    for offset, column in enumerate(table.columns):
                        found[first:last, place + offset] = column.to_numpy()[rows[first:last] - start]
            start = end
    return found


def read_names(path: Path) -> list[str]:
    """Return the names of the columns of the vectors; IntegrityError where the file is no such table."""
    with explained(path), open_parquet(path) as file:
        return list(filter(is_feature, file.schema_arrow.names))


def write_csv(table: Path, path: Path) -> None:
    """Write the same table as a gzipped CSV: text in quotes, missing values empty, the same bytes each time.

    Text that a spreadsheet would execute gets a single quote before it.
    """
    import pyarrow.csv
    import pyarrow.parquet as pq

    with (
        atomic_path(path) as written,
        written.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed,
        pq.ParquetFile(table) as file,
        pyarrow.csv.CSVWriter(packed, _safe(file.schema_arrow.empty_table()).schema) as lines,
    ):
        for group in range(file.num_row_groups):
            lines.write_table(_safe(file.read_row_group(group)))


def _safe(table: Any) -> Any:
    """Return an arrow table with text, also in its header, that a spreadsheet shows and does not execute."""
    import pyarrow as pa

    for place, name in enumerate(table.column_names):
        column = table.column(place)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            cells = [None if cell is None else safe(cell) for cell in column.to_pylist()]
            table = table.set_column(place, name, pa.array(cells, column.type))
    return table.rename_columns([safe(name) for name in table.column_names])


def write_anndata(table: Path, path: Path) -> None:
    """Write the same table for scanpy: vectors in X, metadata in obs, named by cell_id; needs cellssl[anndata]."""
    import pandas as pd

    metadata, names = read_metadata(table), read_names(table)
    with anndata_file.h5ad(path, "embeddings.parquet") as file:
        anndata_file.write_frame(file, "obs", metadata.set_index(metadata["Metadata_cell_id"].astype(object)))
        anndata_file.write_frame(file, "var", pd.DataFrame(index=names))
        anndata_file.write_rows(file, "X", iter_vectors(table), (len(metadata), len(names)))
