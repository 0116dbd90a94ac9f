"""precut: crops that are already cut, and a row for each, in -> the files that `segment` passes through out."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellssl.events import Progress
from cellssl.files import atomic_path, write_text

BLOCK = 256
"""Crops moved at a time."""


@dataclass(frozen=True)
class Rows:
    """The cell table: row i is crop i."""

    columns: Sequence[str]
    cells: Sequence[Sequence[object]]

    def text(self) -> str:
        """As CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.cells)
        return text.getvalue()


def write_ready(
    folder: Path,
    rows: Rows,
    blocks: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    channels: Sequence[str],
    highest: int | None = None,
) -> Iterator[Progress]:
    """Write the crops (blocks of (n, c, y, x), `shape` is (c, y, x)), then their table, then what channels they have.

    `highest` is the largest value that their pixels can have, where that is known.
    """
    scratch, total, done = folder / "scratch", len(rows.cells), 0
    with atomic_path(folder / "crops.npy", scratch) as path:
        written = np.lib.format.open_memmap(path, "w+", np.dtype("<u2"), (total, *shape))
        for block in blocks:
            written[done : done + len(block)] = block
            done += len(block)
            yield Progress(done, total, "crops")
        written.flush()
    write_text(folder / "cells.csv", rows.text(), scratch)
    write_text(folder / "channels.json", json.dumps(channels) + "\n", scratch)
    if highest is not None:
        write_text(folder / "range.json", json.dumps([0, highest]) + "\n", scratch)
