"""crops: single-cell crops in, one uint16 stack (n, c, y, x) on disk out, and back as a memory map."""

from __future__ import annotations

import errno
import io
import math
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from cellssl.bounded import map_array
from cellssl.errors import IntegrityError
from cellssl.files import atomic_path

if TYPE_CHECKING:
    from jaxtyping import UInt16


def write_crops(path: Path, blocks: Iterable[UInt16[np.ndarray, "n c y x"]], shape: tuple[int, ...]) -> None:
    """Write blocks of crops one after the other into an .npy file, with one block in memory at a time.

    `shape` (n, c, y, x) is that of all blocks together. Raises ValueError where the blocks do not add up to it.
    """
    with atomic_path(path) as written_path, written_path.open("wb") as file:
        header = {"descr": "<u2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        written = 0
        for block in blocks:
            if block.shape[1:] != shape[1:]:
                raise ValueError(f"a block of crops has shape {block.shape}, not (n, {shape[1:]})")
            file.write(np.ascontiguousarray(block, dtype="<u2").tobytes())
            written += len(block)
        if written != shape[0]:
            raise ValueError(f"{written} crops were written, but the shape says {shape[0]}")


def reserve_crops(path: Path, shape: tuple[int, int, int, int]) -> bool:
    """Create a stack of this shape, with its disk space, for `write_rows` to fill; return False where it exists.

    A disk that is too small raises OSError here, and not when most of the stack is written. Some network file systems
    cannot reserve space; there the file only gets its size.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<u2", "fortran_order": False, "shape": shape})
    size = len(header.getvalue()) + 2 * math.prod(shape)
    if path.is_file() and path.stat().st_size == size:
        with path.open("rb") as file:
            if file.read(len(header.getvalue())) == header.getvalue():
                return False
    with atomic_path(path) as written_path, written_path.open("wb") as file:
        file.write(header.getvalue())
        file.flush()
        _reserve(file, size)
    return True


def _reserve(file: BinaryIO, size: int) -> None:
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except AttributeError:  # not on every system
        file.truncate(size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
        file.truncate(size)


def write_rows(path: Path, first_row: int, crops: UInt16[np.ndarray, "n c y x"]) -> None:
    """Write crops into a reserved stack from `first_row` on; several processes may write different rows at once.

    Raises ValueError where the crops have another shape or do not fit.
    """
    with path.open("r+b") as file:
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
        if crops.shape[1:] != shape[1:] or not 0 <= first_row <= shape[0] - len(crops):
            raise ValueError(f"crops of shape {crops.shape} do not fit from row {first_row} into a stack of {shape}")
        file.seek(first_row * crops[0].nbytes, os.SEEK_CUR)
        file.write(np.ascontiguousarray(crops, dtype="<u2").data)
        file.flush()
        os.fsync(file.fileno())  # rows that are noted as done must be on the disk, even after a power cut


def open_crops(path: Path) -> UInt16[np.ndarray, "n c y x"]:
    """Return the stack as a memory map: pixels are read from the disk when they are used.

    Raises IntegrityError where the file is no such stack, or shorter than its header claims.
    """
    try:
        crops = map_array(path)
        if crops.dtype != np.dtype("<u2") or crops.ndim != 4 or not crops.flags.c_contiguous:
            raise ValueError(f"it holds {crops.dtype} of the shape {crops.shape}; uint16 (n, c, y, x) is needed")
    except (OSError, ValueError) as error:
        raise IntegrityError(
            f"{path} is not a stack of crops: {error}", hint="make its artifact again with --force"
        ) from error
    return crops


def release_pages(crops: UInt16[np.ndarray, "n c y x"]) -> None:
    """Unmap the pages of a mapped stack that were read; they stay in the system's cache of files, for a later read."""
    if isinstance(crops.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        crops.base.madvise(mmap.MADV_DONTNEED)


def in_blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield row numbers, `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
