"""anndata_file: tables and arrays in, an h5ad file that anndata, scanpy, squidpy and pycytominer open out.

It is written by h5py in AnnData's published form, block by block and the same bytes each time
(https://anndata.readthedocs.io/en/stable/fileformat-prose.html).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.errors import DataError, UsageError
from cellssl.files import atomic_path

if TYPE_CHECKING:
    import pandas as pd

CHUNK_BYTES = 2**20
"""Size of what is packed at a time: HDF5 keeps so much of an array in memory by default."""
PACKED: Mapping[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
"""A higher level takes three times as long, for a hundredth less."""
MAKER = "cellssl"
"""Attribute of the file that says which artifact it was written from; other programs do not keep it."""
PARTS = ("layers", "obsm", "obsp", "uns", "varm", "varp")


def check_h5py(what: str) -> None:
    """Raise UsageError, with the cure, where h5py is not installed; `what` needs it."""
    if find_spec("h5py") is None:
        raise UsageError(f"{what} needs the library h5py", hint='pip install "cellssl[anndata]"')


class _ForHdf5:
    """A file that HDF5 writes to: it keeps the first error for later, because HDF5 crashes where a write fails."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        """Write bytes, unless an earlier write has failed."""
        left = memoryview(content).cast("B")
        size = left.nbytes
        with self._keeping_errors():
            while self.error is None and left:
                left = left[self._file.write(left) :]
        return size

    def truncate(self, size: int | None = None) -> None:
        """Set the size of the file, unless a write has failed."""
        with self._keeping_errors():
            if self.error is None:
                self._file.truncate(size)

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = error

    def __getattr__(self, name: str) -> Any:
        """Return how to read, and to go to a place of the file."""
        return getattr(self._file, name)

    def check(self) -> None:
        """Raise the error of the first write that has failed."""
        if self.error is not None:
            raise self.error


@contextmanager
def h5ad(path: Path, maker: str) -> Iterator[Any]:
    """Open a new h5ad file, for `write_frame`, `write_rows` and `write_mapping`; it is renamed at the end."""
    import h5py

    with atomic_path(path) as written, written.open("w+b", buffering=0) as raw:
        kept = _ForHdf5(raw)
        with h5py.File(kept, "w") as file:
            _describe(file, "anndata", "0.1.0")
            file.attrs[MAKER] = maker
            for name in PARTS:
                write_mapping(file, name, {})
            yield file
        kept.check()


def maker_of(path: Path) -> str | None:
    """Return the artifact that an h5ad file was written from; None for a file of anything else."""
    import h5py

    try:
        with h5py.File(path) as file:
            found = file.attrs.get(MAKER)
    except OSError:
        return None
    return found if isinstance(found, str) else None


def write_rows(group: Any, name: str, blocks: Iterable[np.ndarray], shape: tuple[int, ...]) -> None:
    """Write an array of (row, column) as float32, some rows at a time; ValueError where the rows are not so many."""
    rows_at_once = max(1, min(shape[0], CHUNK_BYTES // (4 * shape[1])))
    packed = {**PACKED, "chunks": (rows_at_once, shape[1])} if min(shape) else {}
    array, done = group.create_dataset(name, shape, np.float32, **packed), 0
    _describe(array, "array", "0.2.0")
    for block in blocks:
        array[done : done + len(block)] = block
        done += len(block)
    if done != shape[0]:
        raise ValueError(f"{done} rows were written of {shape[0]}")


def write_frame(group: Any, name: str, frame: pd.DataFrame) -> None:
    """Write a table with its index, which is text: text as categories, unless no value occurs twice.

    HDF5 has no missing text, and categories can be missing. Raises DataError where two columns have the same name in
    HDF5, in which a slash begins a folder.
    """
    columns = {str(column).replace("/", "_"): frame[column] for column in frame}
    if len(columns) < len(frame.columns):
        raise DataError("two columns differ in a slash only, which an h5ad file cannot have", hint="rename one of them")
    table = group.create_group(name)
    _describe(table, "dataframe", "0.2.0")
    table.attrs["_index"] = "_index"
    table.attrs["column-order"] = np.array(list(columns), _text_type())
    _write_text(table, "_index", frame.index)
    for key, column in columns.items():
        _write_column(table, key, column)


def write_mapping(group: Any, name: str, content: Mapping[str, Any]) -> None:
    """Write texts, numbers, arrays, lists of text, and mappings of these."""
    folder = group.require_group(name)
    _describe(folder, "dict", "0.1.0")
    for key, value in content.items():
        match value:
            case str():
                _describe(folder.create_dataset(key, data=value, dtype=_text_type()), "string", "0.2.0")
            case Mapping():
                write_mapping(folder, key, value)
            case np.ndarray():
                _write_array(folder, key, value)
            case Sequence():
                _write_text(folder, key, value)
            case _:
                _describe(folder.create_dataset(key, data=value), "numeric-scalar", "0.2.0")


def _write_column(table: Any, name: str, column: pd.Series[Any]) -> None:
    import pandas as pd
    from pandas.api import types

    if isinstance(column.dtype, pd.CategoricalDtype):
        _write_categories(table, name, column.cat)
    elif types.is_bool_dtype(column.dtype) and column.notna().all():
        _write_array(table, name, column.to_numpy(bool))
    elif types.is_integer_dtype(column.dtype) and column.notna().all():
        _write_array(table, name, column.to_numpy(np.int64))
    elif types.is_numeric_dtype(column.dtype) and not types.is_bool_dtype(column.dtype):
        _write_array(table, name, column.to_numpy(np.float64, na_value=np.nan))
    elif (text := column.astype("string")).notna().all() and text.is_unique:
        _write_text(table, name, text)
    else:
        _write_categories(table, name, text.astype(object).where(text.notna(), None).astype("category").cat)


def _write_categories(table: Any, name: str, column: Any) -> None:
    folder = table.create_group(name)
    _describe(folder, "categorical", "0.2.0")
    folder.attrs["ordered"] = bool(column.ordered)
    _write_array(folder, "codes", column.codes.to_numpy())
    _write_text(folder, "categories", column.categories)


def _write_array(group: Any, name: str, values: np.ndarray) -> None:
    packed = PACKED if values.size else {}
    _describe(group.create_dataset(name, data=values, **packed), "array", "0.2.0")


def _write_text(group: Any, name: str, values: Iterable[object]) -> None:
    texts = np.array([str(value) for value in values], dtype=object)
    packed = PACKED if len(texts) else {}
    _describe(group.create_dataset(name, data=texts, dtype=_text_type(), **packed), "string-array", "0.2.0")


def _describe(item: Any, kind: str, version: str) -> None:
    item.attrs["encoding-type"], item.attrs["encoding-version"] = kind, version


def _text_type() -> Any:
    import h5py

    return h5py.string_dtype()


def as_json(content: Any) -> str:
    """Return content of a card as text; whole paths lose their folders, which say where a user keeps files."""
    return json.dumps(_without_folders(content), sort_keys=True, ensure_ascii=False)


def _without_folders(content: Any) -> Any:
    match content:
        case Mapping():
            return {key: _without_folders(value) for key, value in content.items()}
        case list() | tuple():
            return [_without_folders(value) for value in content]
        case str() if "/" in content and "://" not in content:
            return content.rstrip("/").rpartition("/")[2]
    return content
