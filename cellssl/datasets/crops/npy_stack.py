"""npy_stack: an .npy or .npz file in -> one array of crops (n, c, y, x), memory-mapped where possible."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np

from cellssl.config.plugins import did_you_mean
from cellssl.errors import DataError, UsageError
from cellssl.files import raise_if_unreadable

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
            array = np.load(self.path, mmap_mode="r", allow_pickle=False)
            return array.shape, array.dtype
        with zipfile.ZipFile(self.path) as archive, archive.open(_member(archive, self.array, self.path)) as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            return shape, dtype


def _is_npz(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


@lru_cache(maxsize=1)
def _opened(path: Path, array: str | None, size: int, changed_ns: int) -> np.ndarray:
    """Return the array: memory-mapped, or read whole from an .npz; kept while the file does not change."""
    loaded = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return loaded
    with loaded, zipfile.ZipFile(path) as archive:
        unpacked: np.ndarray = loaded[_member(archive, array, path).removesuffix(".npy")]
        return unpacked


def _member(archive: zipfile.ZipFile, array: str | None, path: Path) -> str:
    """Return the file in an .npz that holds the array; UsageError where it is unknown or must be named."""
    names = tuple(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))
    if array is None and len(names) == 1:
        return f"{names[0]}.npy"
    if array is None:
        raise UsageError(f"{path} holds {len(names)} arrays", hint=f"give the name of one as array: {', '.join(names)}")
    if array not in names:
        raise UsageError(f"{path} has no array {array!r}", hint=did_you_mean(array, names))
    return f"{array}.npy"


@contextmanager
def _readable_errors(path: Path) -> Iterator[None]:
    """Turn what can be wrong with a file of arrays into one sentence."""
    try:
        yield
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise_if_unreadable(path, error)
        first_line = str(error).partition("\n")[0]
        raise DataError(
            f"{path} cannot be read as an array: {first_line}",
            hint="it must be an .npy or .npz file of numbers, as numpy.save writes it; pickled objects are not read",
        ) from error
