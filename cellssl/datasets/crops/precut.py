"""precut: crops that are already cut, and one row for each, in -> the files that `segment` passes through out."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellssl.events import Progress
from cellssl.files import atomic_path, write_text
from cellssl.spreadsheets import write_rows

BLOCK = 256
"""Number of crops that are copied at a time."""


@dataclass(frozen=True)
class CellRows:
    """The cell table: row i describes crop i; the columns cell_id and field_id are required."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def text(self) -> str:
        """Return the table as CSV."""
        text = io.StringIO()
        write_rows(text, self.columns, self.rows)
        return text.getvalue()


def write_precut(
    folder: Path,
    cells: CellRows,
    blocks: Iterable[np.ndarray],
    shape: tuple[int, int, int],
    channels: Sequence[str],
    max_value: int | None = None,
) -> Iterator[Progress]:
    """Write crops.npy, then cells.csv, then channels.json into `folder`.

    `blocks` are crops as uint8 or uint16 (n, c, y, x), in the order of `cells`; `shape` is (c, y, x). `max_value` is
    the largest value that a pixel can have, written to range.json where it is known.
    """
    scratch, total, done = folder / "scratch", len(cells.rows), 0
    with atomic_path(folder / "crops.npy", scratch) as path:
        written = np.lib.format.open_memmap(path, "w+", np.dtype("<u2"), (total, *shape))
        for block in blocks:
            written[done : done + len(block)] = block
            done += len(block)
            yield Progress(done, total, "crops")
        written.flush()
    write_text(folder / "cells.csv", cells.text(), scratch)
    write_text(folder / "channels.json", json.dumps(channels) + "\n", scratch)
    if max_value is not None:
        write_text(folder / "range.json", json.dumps([0, max_value]) + "\n", scratch)
