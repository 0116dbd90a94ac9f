"""csv_table: a CSV file in -> its columns as text, whatever its delimiter, quotes, encoding and line ends."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path

from cellssl.bounded import open_regular, read_bytes, unpack_gzip
from cellssl.config.plugins import did_you_mean
from cellssl.disk import raise_fault
from cellssl.errors import DataError, UsageError

DELIMITERS = ",\t;"
TABLE_BYTES = 2**31
"""Size of the largest table that is read."""
LONGEST_HEADER = 2**24
"""Characters of a header that are read to find its delimiter; tables of profiles have thousands of long names."""
SEPARATOR_LINE = re.compile(r"\s*sep=.\r?\n?")
"""A first line that Excel writes and reads, such as `sep=;`; it belongs to no row."""
NO_TEXT = {
    b"PK\x03\x04": "an Excel or other zipped file",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"PAR1": "a Parquet file",
    b"%PDF": "a PDF file",
}
"""First bytes of files that people give in place of a CSV, and what they are."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; `lines` gives the line of the file in which each row ends, for error messages."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    delimiter: str = ","

    def column(self, name: str) -> list[str]:
        """Return the values of a column, without blanks around them; UsageError where there is no such column."""
        if name not in self.header:
            raise UsageError(f"{self.name} has no column {name!r}", hint=did_you_mean(name, self.header))
        place = self.header.index(name)
        return [row[place].strip() for row in self.rows]

    def where(self, row: int) -> str:
        """Return the place of a row for an error message: the table and the line."""
        return f"{self.name}, line {self.lines[row]}"


def read_table(path: Path) -> Table:
    """Read the table in a file, which may be gzipped; a file that has not changed is not read again.

    Raises DataError where it cannot be read, or is not a table.
    """
    try:
        stat = path.stat()
        return _read(path, stat.st_size, stat.st_mtime_ns)
    except (OSError, ValueError) as error:
        raise_fault(error, path)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(
            f"{path} cannot be read: {reason}", hint="correct the path of the table in the recipe"
        ) from error


@lru_cache(maxsize=2)
def _read(path: Path, size: int, changed_ns: int) -> Table:
    content = read_bytes(path, TABLE_BYTES)
    return parse(unpack_gzip(content) if path.suffix == ".gz" else content, str(path))


def parse(content: bytes, name: str) -> Table:
    """Parse the bytes of a file called `name`; DataError where they are not a table.

    Blank lines are left out, and so are columns without a name, which spreadsheets leave at the end.
    """
    text = decoded(content, name)
    lines = io.StringIO(text, newline="")
    skipped = _skip_separator_line(lines)
    delimiter = _delimiter(text[lines.tell() :].lstrip())
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        numbered = [(row, reader.line_num + skipped) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(
            f"{name}, line {reader.line_num + skipped} is not CSV: {error}", hint="save the table as CSV again"
        ) from error
    if not numbered:
        raise DataError(f"{name} is empty", hint="give a table with a header")
    written = [cell.strip() for cell in numbered[0][0]]
    header = header_of(written, name)
    named = [place for place, column in enumerate(written) if column]
    rows = tuple(_cells(row, line, len(written), named, name) for row, line in numbered[1:])
    return Table(name, header, rows, tuple(line for _, line in numbered[1:]), delimiter)


@dataclass(frozen=True)
class Layout:
    """How a CSV file is written: what readers of large tables need to know."""

    encoding: str
    delimiter: str
    skipped_lines: int
    """Lines before the header."""
    columns: tuple[str, ...]
    """Every column as it stands in the header, without blanks around it; "" where it has no name."""


def layout_of(path: Path) -> Layout:
    """Return how a CSV file, which may be gzipped, is written; only its header is read.

    Raises DataError where it is not text, is empty, or has two columns of one name; OSError where it cannot be read.
    """
    with open_regular(path) as file:
        opened = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
        content = opened.read(LONGEST_HEADER)
    encoding = _encoding(content, str(path))
    text = io.TextIOWrapper(io.BytesIO(content), encoding, errors="replace", newline="")
    skipped = _skip_separator_line(text)
    header = next((line for line in text if line.strip()), "")
    if not header:
        raise DataError(f"{path} is empty", hint="give a table with a header")
    delimiter = _delimiter(header)
    columns = [cell.strip() for cell in next(csv.reader(chain([header], text), delimiter=delimiter))]
    header_of(columns, str(path))
    return Layout(encoding, delimiter, skipped, tuple(columns))


def header_of(written: Sequence[str], name: str) -> tuple[str, ...]:
    """Return the columns that have a name; DataError where none or two have the same."""
    header = tuple(column for column in written if column)
    repeated = [column for column, times in Counter(header).items() if times > 1]
    if repeated:
        raise DataError(f"{name} has several columns called {repeated[0]!r}", hint="rename all but one of them")
    if not header:
        raise DataError(f"{name} has no header", hint="write the names of the columns into its first line")
    return header


def number_hint(text: str) -> str:
    """Return the cure for a cell that should be a number: where a decimal comma or a unit is in the way, that."""
    if re.fullmatch(r"[+-]?\d+,\d+([eE][+-]?\d+)?", text):
        return f"write {text.replace(',', '.')}: numbers need a decimal point, not a comma"
    if unit := re.fullmatch(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?)\s*[^\W\d].*", text):
        return f"write {unit.group(1)} without a unit"
    return "write a number or leave the cell empty"


def _cells(row: list[str], line: int, columns: int, named: list[int], name: str) -> tuple[str, ...]:
    """Return the cells of a row that lie under a named column; DataError where a cell is missing or left over."""
    if len(row) < columns or any(cell.strip() for cell in row[columns:]):
        raise DataError(
            f"{name}, line {line} has {len(row)} cells where the header has {columns}",
            hint="put cells that hold a delimiter into quotes",
        )
    return tuple(row[place] for place in named)


def _skip_separator_line(lines: io.TextIOBase) -> int:
    """Go past a first line such as `sep=;`; return the number of lines that were skipped."""
    start = lines.tell()
    if SEPARATOR_LINE.fullmatch(lines.readline(20)):
        return 1
    lines.seek(start)
    return 0


def _encoding(content: bytes, name: str) -> str:
    """Return UTF-8 with or without a byte-order mark, or UTF-16 with one, as spreadsheets write them."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    for magic, kind in NO_TEXT.items():
        if content.startswith(magic):
            raise DataError(f"{name} is {kind}, not a CSV table", hint='save it as "CSV UTF-8"')
    if b"\0" in content[:1000]:
        raise DataError(
            f"{name} is not text in UTF-8: it is a binary file, or UTF-16 without a byte-order mark",
            hint='save it as "CSV UTF-8"',
        )
    return "utf-8-sig"


def decoded(content: bytes, name: str) -> str:
    """Return the text of a CSV file called `name`; DataError where it is in no encoding that spreadsheets write."""
    try:
        return content.decode(_encoding(content, name))
    except UnicodeDecodeError as error:
        raise not_utf8(content, error, name) from error


def not_utf8(content: bytes, error: UnicodeDecodeError, name: str) -> DataError:
    """Return the error for a table in another encoding, which is Windows-1252 where Excel saved it as plain CSV."""
    line = content.count(b"\n", 0, error.start) + 1
    return DataError(
        f"{name} is not text in UTF-8: byte 0x{content[error.start]:02x} in line {line}; it may be Windows-1252 (ANSI)",
        hint='save it as "CSV UTF-8": in another encoding a µ or é would become another letter in silence',
    )


def _delimiter(text: str) -> str:
    """Return the delimiter that occurs most often in the first line, outside of quotes."""
    header = "".join(text.splitlines()[:1])
    outside = Counter("".join(header.split('"')[::2]))
    return max(DELIMITERS, key=lambda delimiter: outside[delimiter])
