"""npy_stack: an .npy or .npz file in -> one array of crops (n, c, y, x), memory-mapped where possible."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from cellssl.bounded import PackedArrays, map_array, open_arrays, open_regular
from cellssl.config.plugins import did_you_mean
from cellssl.disk import raise_fault
from cellssl.errors import DataError, UsageError

Axes = Literal["nyxc", "ncyx", "nyx"]


@dataclass(frozen=True)
class Stack:
    """A file with crops, and the order of its axes; `array` names one of several arrays in an .npz."""

    path: Path
    axes: Axes
    array: str | None = None

    def shape(self) -> tuple[int, int, int, int]:
        """Return (n, c, y, x), read from the file's header alone.

        Raises DataError where the array has other axes, or another type than uint8 or uint16.
        """
        with _readable_errors(self.path):
            shape, dtype = self._header()
        if dtype.kind != "u" or dtype.itemsize > 2:
            raise DataError(f"{self.path} holds {dtype}; crops must be uint8 or uint16", hint="save raw pixel values")
        if len(shape) != len(self.axes):
            raise DataError(
                f"{self.path} has the shape {shape}, which is not {self.axes}",
                hint="axes names its dimensions: n cells, c channels, y rows, x columns",
            )
        size = dict(zip(self.axes, shape, strict=True))
        return size["n"], size.get("c", 1), size["y"], size["x"]

    def crops(self, rows: np.ndarray) -> np.ndarray:
        """Return the crops of some rows, as uint16 (n, c, y, x)."""
        stat = self.path.stat()
        with _readable_errors(self.path):
            array = _opened(self.path, self.array, stat.st_size, stat.st_mtime_ns)
            crops = np.asarray(array[rows])
        match self.axes:
            case "nyxc":
                crops = np.moveaxis(crops, 3, 1)
            case "nyx":
                crops = crops[:, None]
        return crops.astype(np.uint16)

    def _header(self) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
        if not _is_npz(self.path):
            array = map_array(self.path)
            return array.shape, array.dtype
        with open_arrays(self.path) as arrays:
            header = arrays.header(_member(arrays, self.array, self.path))
            return header.shape, header.dtype


def _is_npz(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(4) == b"PK\x03\x04"


@lru_cache(maxsize=1)
def _opened(path: Path, array: str | None, size: int, changed_ns: int) -> np.ndarray:
    """Return the array: memory-mapped, or read whole from an .npz; kept while the file does not change."""
    if not _is_npz(path):
        return map_array(path)
    with open_arrays(path) as arrays:
        return arrays.read(_member(arrays, array, path))


def _member(arrays: PackedArrays, array: str | None, path: Path) -> str:
    """Return the name of the array in an .npz that is meant; UsageError where it is unknown or must be named."""
    names = arrays.names
    if array is None and len(names) == 1:
        return names[0]
    if array is None:
        raise UsageError(f"{path} holds {len(names)} arrays", hint=f"give the name of one as array: {', '.join(names)}")
    if array not in names:
        raise UsageError(f"{path} has no array {array!r}", hint=did_you_mean(array, names))
    return array


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    """Turn what can be wrong with a file of arrays into one sentence."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise_fault(error, path)
        first_line = str(error).partition("\n")[0]
        raise DataError(
            f"{path} cannot be read as an array: {first_line}",
            hint="it must be an .npy or .npz file of numbers, as numpy.save writes it; pickled objects are not read",
        ) from error
