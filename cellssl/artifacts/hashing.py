"""hashing: a file in, the sha256 of its bytes out; the hashes of external files are cached in the store."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from cellssl.errors import DataError
from cellssl.files import raise_if_unreadable, write_text


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class HashCache:
    """Hashes of external files by path, size and modification time, so that a second look-up is one `stat`."""

    def __init__(self, folder: Path, *, trusted: bool = True) -> None:
        self.folder = folder
        self.trusted = trusted
        """Whether the same size and time mean the same file; if not (--force), every file is read again."""

    def sha256(self, path: Path) -> str:
        """Return the sha256 of `path`; DataError where it is not there, FailedError where reading it fails."""
        path = path.absolute()
        try:
            return self._looked_up(path)
        except OSError as error:
            raise_if_unreadable(path, error)
            raise DataError(
                f"{path} cannot be read: {error.strerror}", hint="correct the path in the recipe"
            ) from error

    def _looked_up(self, path: Path) -> str:
        stat = path.stat()
        seen = {"path": str(path), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        entry = self.folder / f"{hashlib.sha256(str(path).encode()).hexdigest()[:24]}.json"
        remembered = _read(entry)
        if self.trusted and {key: remembered.get(key) for key in seen} == seen:
            return str(remembered["sha256"])
        found = sha256_of(path)
        with contextlib.suppress(OSError):  # a read-only or full store: the next look-up takes as long again
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(entry, json.dumps({**seen, "sha256": found}))
        return found


def _read(entry: Path) -> dict[str, object]:
    try:
        remembered = json.loads(entry.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return remembered if isinstance(remembered, dict) else {}
