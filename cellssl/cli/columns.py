"""columns: a header and rows in, aligned lines that fit a width out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import IO

WIDTH = 80
"""Characters of a line, where no terminal says otherwise."""
GAP = "  "
NARROWEST = 12
"""Characters of a shortened column that are kept."""


def columns_of(stream: IO[str] | None) -> int:
    """Return the width of a terminal; 0 for what is none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns if stream is not None and stream.isatty() else 0
    except (OSError, ValueError, AttributeError):
        return 0


def width_of_stdout() -> int:
    """Return the characters of a line of what a command was asked for: 80, or fewer where the terminal is narrower."""
    return min(WIDTH, columns_of(sys.stdout) or WIDTH)


def shortened(text: str, width: int) -> str:
    """Return a text of at most `width` characters; its middle is left out, because names differ at their ends."""
    if len(text) <= width:
        return text
    if width < 3:
        return text[: max(width, 0)]
    before = width // 2
    return f"{text[:before]}…{text[len(text) - (width - before - 1) :]}"


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()) -> list[str]:
    """Return the lines of a table; the columns named in `right` end below each other."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    aligns = [str.rjust if name in right else str.ljust for name in header]
    table = (header, ["-" * width for width in widths], *rows)
    return [
        GAP.join(align(cell, width) for align, cell, width in zip(aligns, row, widths, strict=True)).rstrip()
        for row in table
    ]


def fitted(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int = WIDTH,
    *,
    shrink: Sequence[str] = (),
    drop: Sequence[str] = (),
    right: Sequence[str] = (),
) -> tuple[list[str], list[str]]:
    """Return the lines of a table that fits `width`, and the names of the columns that were left out.

    The cells of the columns `shrink` are shortened in the middle first, down to 12 characters; then the columns `drop`
    are left out, the first named first.
    """
    kept, left_out = list(header), list[str]()
    droppable = [name for name in drop if name in kept]
    while True:
        table = [[row[list(header).index(name)] for name in kept] for row in (header, *rows)]
        table = _shrunk(table, width, shrink)
        if _width_of(table) <= width or not droppable:
            return aligned(table[0], table[1:], right=right), left_out
        left_out.append(droppable.pop(0))
        kept.remove(left_out[-1])


def _width_of(table: Sequence[Sequence[str]]) -> int:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _shrunk(table: list[list[str]], width: int, shrink: Sequence[str]) -> list[list[str]]:
    """Return the table with the columns of these names as short as `width` asks for."""
    for name in (one for one in shrink if one in table[0]):
        place = table[0].index(name)
        longest = max(len(row[place]) for row in table)
        room = max(min(NARROWEST, longest), longest - max(0, _width_of(table) - width))
        table = [[shortened(cell, room) if i == place else cell for i, cell in enumerate(row)] for row in table]
    return table
