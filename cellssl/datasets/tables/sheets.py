"""sheets: a CSV, TSV or Excel file in -> its sheets as rows of text, each cell as a person sees it."""

from __future__ import annotations

import csv
import datetime
import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellssl.bounded import check_packed, open_regular, read_bytes, unpack_gzip
from cellssl.datasets.tables.csv_table import DELIMITERS, NO_TEXT, SEPARATOR_LINE, decoded
from cellssl.datasets.tables.wells import listed
from cellssl.disk import raise_fault
from cellssl.errors import DataError
from cellssl.letters import letters_of

if TYPE_CHECKING:
    from openpyxl.workbook import Workbook

SHEETS_BYTES = 2**27
"""Size of the largest file, and of the largest unpacked workbook."""
MOST_CELLS = 4_000_000
"""Cells of the largest workbook: a row of 20 columns for every well of 500 plates of 384 wells."""
MOST_ROWS = 2**20
"""Rows of the largest sheet that Excel writes."""
UNIT_IN_FORMAT = re.compile(r'"\s*([^"]*[^\W\d][^"]*?)\s*"')
"""A unit that Excel shows behind a number and that is not part of its value, as the format `0.0 "nM"` does."""
MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s[^>]*ref="([A-Z0-9:]+)"')
XLSX, OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True)
class Sheet:
    """One sheet of a workbook, or the one table of a CSV file."""

    file: str
    """Name of the file."""
    name: str
    """Name of the sheet; "" for a CSV file."""
    rows: list[list[str]]
    """Text of the cells without blanks around it, row by row; rows may differ in length."""
    lines: list[int]
    """Number of each row in the file, from 1."""
    dates: dict[tuple[int, int], str] = field(default_factory=dict)
    """Row and column of the cells that hold a date, and the date."""
    merged: tuple[str, ...] = ()
    """Cells that are merged, such as B2:B4; only the first of them has a value."""
    delimiter: str = ""
    """What separates the cells of a CSV file; "" for a sheet."""

    @property
    def title(self) -> str:
        """The sheet and its file, for messages."""
        return f"{self.file}, sheet {self.name!r}" if self.name else self.file

    def where(self, row: int, column: int | None = None) -> str:
        """Return the place of a row, or of one cell, for messages."""
        if self.name and column is not None:
            return f"{self.title}, cell {letters_of(column + 1)}{self.lines[row]}"
        return f"{self.title}, {'row' if self.name else 'line'} {self.lines[row]}"

    def text(self, row: int, column: int) -> str:
        """Return a cell, "" where the row ends before it."""
        cells = self.rows[row]
        return cells[column] if column < len(cells) else ""


def read_sheets(path: Path) -> list[Sheet]:
    """Read all visible sheets of a file that have any cell.

    Raises DataError where the file cannot be read, is of another kind, or holds formulas without their values.
    """
    try:
        with open_regular(path) as file:
            head = file.read(4)
        if head == XLSX:
            return _from_excel(path)
        content = read_bytes(path, SHEETS_BYTES)
        sheets = [_from_text(unpack_gzip(content) if path.suffix == ".gz" else content, path)]
    except (OSError, ValueError) as error:
        raise_fault(error, path)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(
            f"{path} cannot be read: {reason}", hint="correct the path of the plate map in the recipe"
        ) from error
    return [sheet for sheet in sheets if sheet.rows]


def _from_text(content: bytes, path: Path) -> Sheet:
    if content.startswith(OLD_EXCEL):
        raise DataError(f"{path} is {NO_TEXT[OLD_EXCEL]}", hint="save it as .xlsx or as CSV UTF-8")
    text = decoded(content, str(path))
    lines = io.StringIO(text, newline="")
    skipped = int(SEPARATOR_LINE.fullmatch(lines.readline(20)) is not None)
    lines.seek(0 if not skipped else lines.tell())
    reader = csv.reader(lines, delimiter=(delimiter := _delimiter(text)))
    rows, numbers = [], []
    try:
        for row in reader:
            rows.append([cell.strip() for cell in row])
            numbers.append(reader.line_num + skipped)
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num + skipped} is not CSV: {error}", hint="save the table as CSV again"
        ) from error
    if sum(map(len, rows)) > MOST_CELLS:
        raise DataError(f"{path} has more than {MOST_CELLS:,} cells", hint="a plate map has one row per well")
    return Sheet(str(path), "", *_without_blank_ends(rows, numbers), delimiter=delimiter)


def _delimiter(text: str) -> str:
    """Return the delimiter of a table that may have a title above it: the one that occurs most in its first lines."""
    outside = Counter("".join("\n".join(text.splitlines()[:60]).split('"')[::2]))
    return max(DELIMITERS, key=lambda delimiter: outside[delimiter])


def _without_blank_ends(rows: list[list[str]], numbers: list[int]) -> tuple[list[list[str]], list[int]]:
    last = max((place for place, row in enumerate(rows) if any(row)), default=-1)
    return rows[: last + 1], numbers[: last + 1]


def _from_excel(path: Path) -> list[Sheet]:
    """Read a workbook: values as they were computed last, because only a spreadsheet can compute formulas."""
    import openpyxl

    merged = _check_archive(path)
    try:
        with path.open("rb") as values_file, path.open("rb") as formulas_file:
            values = openpyxl.load_workbook(values_file, read_only=True, data_only=True)
            formulas = openpyxl.load_workbook(formulas_file, read_only=True)
            return list(_sheets(path, values, formulas, merged))
    except (DataError, MemoryError):
        raise
    except Exception as error:  # openpyxl raises anything, from KeyError to XML errors
        raise_fault(error, path)
        raise DataError(
            f"{path} cannot be read as an Excel workbook: {(str(error) or type(error).__name__).splitlines()[0][:200]}",
            hint="open it in Excel or LibreOffice and save it as .xlsx again, or as CSV UTF-8",
        ) from error


def _check_archive(path: Path) -> dict[str, tuple[str, ...]]:
    """Return the merged cells of every part of a workbook; ValueError where it unpacks to more than real ones do."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            unpacked = sum(member.file_size for member in members)
            if unpacked > SHEETS_BYTES:
                raise ValueError(f"it unpacks to {unpacked:,} bytes, more than {SHEETS_BYTES:,}")
            check_packed(unpacked, path.stat().st_size)
            sheets = [one for one in members if re.search(r"worksheets/[^/]+\.xml$", one.filename)]
            return {one.filename: _merged(archive.read(one)) for one in sheets}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"it is no whole Excel file: {error}") from error


def _merged(content: bytes) -> tuple[str, ...]:
    return tuple(found.decode() for found in MERGED.findall(content))


def _sheets(path: Path, values: Workbook, formulas: Workbook, merged: dict[str, tuple[str, ...]]) -> Iterator[Sheet]:
    """Yield the visible sheets.

    A formula without a value is an empty text where other formulas have values; where no formula has one, the file was
    written by a program that does not compute, and DataError is raised.
    """
    cells, computed, without_value = 0, False, list[str]()
    found = []
    for sheet, with_formulas in zip(values.worksheets, formulas.worksheets, strict=True):
        if sheet.sheet_state != "visible":
            continue
        sheet.reset_dimensions()  # what a file claims of them may be a million times as much as it has
        with_formulas.reset_dimensions()
        rows: list[list[str]] = []
        dates: dict[tuple[int, int], str] = {}
        for number, (row, written) in enumerate(zip(sheet.iter_rows(), with_formulas.iter_rows(), strict=True)):
            cells += 1 + len(row)
            if cells > MOST_CELLS or number >= MOST_ROWS:
                raise DataError(
                    f"{path} has more than {MOST_ROWS:,} rows or {MOST_CELLS:,} cells",
                    hint="a plate map has one row per well",
                )
            rows.append([_text(cell) for cell in row])
            for place, (cell, formula) in enumerate(zip(row, written, strict=True)):
                if formula.data_type == "f" and cell.value is None:
                    without_value.append(f"{sheet.title}!{letters_of(place + 1)}{number + 1}")
                computed |= formula.data_type == "f" and cell.value is not None
                if isinstance(cell.value, datetime.date | datetime.time):
                    dates[number, place] = rows[number][place]
        kept, numbers = _without_blank_ends(rows, list(range(1, len(rows) + 1)))
        part = str(getattr(sheet, "_worksheet_path", "")).lstrip("/")
        found.append(Sheet(str(path), sheet.title, kept, numbers, dates, merged.get(part, ())))
    if without_value and not computed:
        raise DataError(
            f"{path} has formulas whose values are not in the file: {listed(without_value)}",
            hint="open it in Excel or LibreOffice and save it again, or replace the formulas by their values",
        )
    yield from (sheet for sheet in found if sheet.rows)


def _text(cell: Any) -> str:
    """Return the text of a cell: whole numbers without `.0`, a unit of the number's format behind it."""
    value = cell.value
    match value:
        case None:
            return ""
        case bool():
            return str(value).upper()
        case int() | float():
            number = str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)
            unit = UNIT_IN_FORMAT.search(str(cell.number_format or ""))
            if unit:
                return f"{number} {unit.group(1)}"
            return f"{float(value) * 100:g}%" if "%" in str(cell.number_format or "") else number
        case datetime.datetime():
            return str(value.date() if value.time() == datetime.time() else value)
        case _:
            return str(value).strip()
