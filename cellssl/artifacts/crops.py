"""crops: single-cell crops in, one memory-mappable uint16 stack (n, c, y, x) on disk out, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.atomic import replacing

if TYPE_CHECKING:
    from jaxtyping import UInt16


def write_crops(path: Path, blocks: Iterable[UInt16[np.ndarray, "n c y x"]], shape: tuple[int, int, int, int]) -> None:
    """Write blocks of crops one after the other into an .npy file; never more than one block is held in memory.

    `shape` is that of all blocks together; ValueError where they do not add up to it.
    """
    with replacing(path) as beside, beside.open("wb") as file:
        header = {"descr": "<u2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        written = 0
        for block in blocks:
            if block.shape[1:] != shape[1:]:
                raise ValueError(f"a block of crops has shape {block.shape}, not (n, {shape[1:]})")
            file.write(np.ascontiguousarray(block, dtype="<u2").tobytes())
            written += len(block)
        if written != shape[0]:
            raise ValueError(f"{written} crops were written where {shape[0]} were promised")


def open_crops(path: Path) -> UInt16[np.ndarray, "n c y x"]:
    """The stack, mapped: pixels are read from the disk when they are looked at."""
    crops: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return crops


def in_blocks(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Row numbers, `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
