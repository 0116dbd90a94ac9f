"""embeddings: what is known of every cell and its vectors, block by block, in; one parquet file out, and back."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Float32

GROUP_BYTES = 2**26
"""Of the vectors in a row group: what writer and readers hold at a time, however many cells there are."""
PREFIX = "emb_"


class Groups:
    """A parquet file in the making; its row groups do not depend on the blocks in which the vectors come."""

    def __init__(self, path: Path, known: pd.DataFrame) -> None:
        self._path, self._known = path, known
        self._waiting: list[np.ndarray] = []
        self._written = 0
        self._writer: Any = None
        self.dim = 0

    def append(self, vectors: Float32[np.ndarray, "n dim"]) -> None:
        """The vectors of the next rows."""
        self.dim = vectors.shape[1]
        self._waiting.append(vectors)
        rows = max(1, GROUP_BYTES // (4 * self.dim))
        while sum(map(len, self._waiting)) >= rows:
            together = np.concatenate(self._waiting)
            self._write(together[:rows])
            self._waiting = [together[rows:]]

    def close(self) -> None:
        """Write what is left; ValueError where rows have no vector."""
        if any(map(len, self._waiting)):
            self._write(np.concatenate(self._waiting))
        if self._writer is not None:
            self._writer.close()
        if self._written != len(self._known):
            raise ValueError(f"{self._written} vectors were written for {len(self._known)} rows")

    def _write(self, vectors: np.ndarray) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = [f"{PREFIX}{number:04d}" for number in range(vectors.shape[1])]
        described = pa.Schema.from_pandas(self._known, preserve_index=False)
        rows = self._known.iloc[self._written : self._written + len(vectors)]
        columns = pa.Table.from_pandas(rows, schema=described, preserve_index=False).columns
        numbers = [pa.array(column) for column in np.ascontiguousarray(vectors.T)]
        schema = pa.schema([*described, *(pa.field(name, pa.float32()) for name in names)], described.metadata)
        if self._writer is None:
            # a dictionary of numbers that hardly repeat takes time and room, and gives nothing
            self._writer = pq.ParquetWriter(
                self._path, schema, compression="zstd", use_dictionary=self._known.columns.tolist()
            )
        self._writer.write_table(pa.Table.from_arrays([*columns, *numbers], schema=schema))
        self._written += len(vectors)


@contextmanager
def writing(path: Path, known: pd.DataFrame) -> Iterator[Groups]:
    """A file of the columns of `known`, then emb_0000 and on; it bears its name when all rows have their vectors."""
    with atomic_path(path) as beside:
        groups = Groups(beside, known)
        yield groups
        groups.close()


def read(path: Path) -> tuple[pd.DataFrame, Float32[np.ndarray, "n dim"]]:
    """What is known of every cell, and its vectors; little more than their own size in memory at any time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if name.startswith(PREFIX)]
        others = [name for name in file.schema_arrow.names if name not in set(names)]
        known: pd.DataFrame = file.read(columns=others).to_pandas()
        vectors = np.empty((file.metadata.num_rows, len(names)), np.float32)
        start = 0
        for batch in file.iter_batches(batch_size=16_384, columns=names):
            for place, column in enumerate(batch.columns):
                vectors[start : start + len(batch), place] = column.to_numpy(zero_copy_only=False)
            start += len(batch)
    return known, vectors


def write_csv(table: Path, path: Path) -> None:
    """The same table as a gzipped CSV: text in quotes, what is missing empty, and the same bytes each time."""
    import pyarrow.csv
    import pyarrow.parquet as pq

    with (
        atomic_path(path) as beside,
        beside.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed,
        pq.ParquetFile(table) as file,
        pyarrow.csv.CSVWriter(packed, file.schema_arrow) as lines,
    ):
        for group in range(file.num_row_groups):
            lines.write_table(file.read_row_group(group))


def write_anndata(table: Path, path: Path) -> None:
    """The same table for scanpy and its kin: vectors in X, all else in obs, named by cell; needs cellssl[anndata]."""
    import anndata  # type: ignore[import-not-found,unused-ignore]  # an extra
    import pandas as pd

    known, vectors = read(table)
    names = pd.Index(known["Metadata_cell_id"].astype(object)).rename(None)
    text = known.select_dtypes(["string", "object"]).columns
    # as categories: HDF5 has no word for a text that is missing
    obs = known.assign(**{column: pd.Categorical(known[column].astype(object)) for column in text}).set_axis(names)
    var = pd.DataFrame(index=[f"{PREFIX}{number:04d}" for number in range(vectors.shape[1])])
    with atomic_path(path) as beside:
        anndata.AnnData(vectors, obs, var).write_h5ad(beside)
