"""spreadsheets: text in -> a CSV cell that Excel, LibreOffice and Google Sheets show and do not execute; and back."""

import csv
import re
from collections.abc import Iterable, Sequence
from typing import TextIO

EXECUTED = re.compile(r"'*[=+\-@\t\r\n]")
"""How text begins that a spreadsheet may take for a formula: `=HYPERLINK(…)`, `+cmd|…`, `@SUM(…)`. Leading quotes
count, so that `readable` can take off exactly what `safe` has put on."""
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def safe(text: str) -> str:
    """Return the cell with a quote before what a spreadsheet would execute; numbers and other text stay as they are.

    The quote is the one that spreadsheets use themselves for "this is text". See OWASP, CSV Injection.
    """
    return f"'{text}" if _is_executed(text) else text


def readable(cell: str) -> str:
    """Return the text that `safe` made this cell from."""
    return cell[1:] if cell.startswith("'") and _is_executed(cell[1:]) else cell


def write_rows(file: TextIO, header: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV table with safe cells; None is empty, numbers have all their digits."""
    writer = csv.writer(file, lineterminator="\n")
    quoting_writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in (header, *rows):
        cells = [safe(cell) if isinstance(cell, str) else cell for cell in row]
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (quoting_writer if has_return else writer).writerow(cells)  # Python 3.11 does not quote a carriage return


def _is_executed(text: str) -> bool:
    return EXECUTED.match(text) is not None and NUMBER.fullmatch(text) is None
