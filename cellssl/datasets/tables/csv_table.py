"""csv_table: a CSV file in -> its columns as text, whatever its delimiter, quotes, encoding and line ends."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cellssl.bounded import read_bytes, unpack_gzip
from cellssl.config.plugins import did_you_mean
from cellssl.disk import raise_fault
from cellssl.errors import DataError, UsageError

DELIMITERS = ",\t;"
TABLE_BYTES = 2**31
"""Size of the largest table that is read."""


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; `lines` gives the line of the file in which each row ends, for error messages."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

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
    """Parse the bytes of a file called `name`; blank lines are left out. DataError where they are not a table."""
    text = _decoded(content, name)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    try:
        numbered = [(tuple(row), reader.line_num) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(
            f"{name}, line {reader.line_num} is not CSV: {error}", hint="save the table as CSV again"
        ) from error
    if not numbered:
        raise DataError(f"{name} is empty", hint="give a table with a header")
    header = tuple(cell.strip() for cell in numbered[0][0])
    _check(header, numbered, name)
    rows, lines = zip(*numbered[1:], strict=True) if len(numbered) > 1 else ((), ())
    return Table(name, header, rows, lines)


def _decoded(content: bytes, name: str) -> str:
    """Decode UTF-8 with or without a byte order mark, or UTF-16 with one, as spreadsheets write them."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not text in UTF-8: {error.reason} at byte {error.start}", hint="save it as CSV UTF-8"
        ) from error


def _delimiter(text: str) -> str:
    """Return the delimiter that occurs most often in the header, outside of quotes."""
    header = "".join(text.lstrip().splitlines()[:1])
    outside = Counter("".join(header.split('"')[::2]))
    return max(DELIMITERS, key=lambda delimiter: outside[delimiter])


def _check(header: tuple[str, ...], numbered: list[tuple[tuple[str, ...], int]], name: str) -> None:
    repeated = [column for column, times in Counter(header).items() if times > 1]
    if repeated:
        raise DataError(f"{name} has several columns called {repeated[0]!r}", hint="rename all but one of them")
    for row, line in numbered:
        if len(row) != len(header):
            raise DataError(
                f"{name}, line {line} has {len(row)} cells where the header has {len(header)}",
                hint="put cells that hold a delimiter into quotes",
            )
