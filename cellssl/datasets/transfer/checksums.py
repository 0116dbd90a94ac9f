"""checksums: files in -> a table of sizes, CRCs and hashes; an earlier table in -> what differs from it."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cellssl.datasets.tables.csv_table import read_table
from cellssl.errors import DataError, IntegrityError
from cellssl.spreadsheets import readable, write_rows

RECORD_FILE = "record.csv"
"""The record of the images that a fetch artifact holds."""
ARCHIVES_FILE = "archives.csv"
"""The record of archives that were downloaded whole; it depends on the source, so it is not part of the result."""
COLUMNS = ("file", "bytes", "crc32", "sha256")


@dataclass(frozen=True)
class Digest:
    """Size and checksums of one file."""

    bytes: int
    crc32: str
    sha256: str


def digest_of(path: Path) -> Digest:
    """Return size and checksums of a file, reading it once."""
    size, crc, sha256 = 0, 0, hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
            sha256.update(chunk)
    return Digest(size, f"{crc:08x}", sha256.hexdigest())


def record_text(digests: Mapping[str, Digest]) -> str:
    """Return the record as CSV, one row per file, sorted by file."""
    text = io.StringIO()
    write_rows(text, COLUMNS, ((name, one.bytes, one.crc32, one.sha256) for name, one in sorted(digests.items())))
    return text.getvalue()


def concat_records(texts: Iterable[str]) -> str:
    """Return several records as one."""
    lines = [line for text in texts for line in text.splitlines()[1:]]
    return "\n".join((",".join(COLUMNS), *sorted(lines), ""))


def read_record(path: Path | None) -> dict[str, Digest]:
    """Return the rows of a record by file; none where no path is given.

    Raises UsageError where a column is missing, DataError where the file cannot be read or holds an invalid number.
    """
    if path is None:
        return {}
    table = read_table(path)
    columns = [table.column(name) for name in COLUMNS]
    try:
        rows = zip(*columns, strict=True)
        return {
            readable(name): Digest(int(size), crc.lower().rjust(8, "0"), sha256.lower())
            for name, size, crc, sha256 in rows
        }
    except ValueError as error:
        raise DataError(
            f"{path} is not a record of checksums: {error}", hint=f"give the {RECORD_FILE} of a fetch artifact"
        ) from error


def check_digest(name: str, found: Digest, expected: Digest | None, record: Path | None) -> None:
    """Raise IntegrityError where a file differs from its row in a record; pass where it has none."""
    if expected is None or expected == found:
        return
    raise IntegrityError(
        f"{name} differs from {record}: {found.bytes:,} bytes with sha256 {found.sha256[:12]}… "
        f"instead of {expected.bytes:,} with {expected.sha256[:12]}…",
        hint="fetch from another --mirror, or leave fetch.dataset.checksums out if the publisher has changed the file",
    )
