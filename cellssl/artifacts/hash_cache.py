"""hash_cache: a file in, its sha256 out; a file with the identity that it had when it was read is not read again.

The cache of a store is the folder `hashes`. Every process adds lines to a file of its own there, so no lock is needed;
a process that finds many such files merges them into one. A line that is torn, garbled or out of date is ignored, and a
folder that cannot be written, or is lost, costs time only.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import secrets
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from cellssl.artifacts.hashing import Hashed, Identity, hash_file, hash_files, identity_of
from cellssl.bounded import open_regular
from cellssl.disk import raise_fault
from cellssl.errors import DataError
from cellssl.events import Progress
from cellssl.files import write_text

FOLDER = "hashes"
MANY = 16
"""More files of lines than this are merged into one."""
SAVE_EVERY_S = 1.0
"""So often the hashes of a long reading are written; a process that is killed loses no more."""
AFTER_PATH = '", "bytes": '
"""What follows the path in a line. A path in JSON has no bare quotation mark, so a line is split without parsing it."""
FORMER = re.compile(r"[0-9a-f]{24}\.json")
"""Files of former versions, one per hashed file; nothing reads them, and the merge removes them."""


class UnknownHashError(Exception):
    """A file would have to be read for its hash, within `HashCache.only_known`."""


class HashCache:
    """Hashes of files by path and identity (bytes, mtime, ctime, inode), so that a second look-up is one `stat`."""

    def __init__(
        self,
        folder: Path | None = None,
        *,
        trusted: bool = True,
        shown: Callable[[Iterable[Progress]], None] | None = None,
    ) -> None:
        """Open the cache in a folder, or for this process alone.

        What other processes have noted counts only if `trusted`. `shown` gets the progress of a reading of many files
        and runs through it.
        """
        self.folder, self.trusted, self.shown = folder, trusted, shown or _run_through
        self._reads = True
        self._own = f"{secrets.token_hex(8)}.jsonl"
        self._here: dict[str, tuple[Identity, str]] = {}
        """What this process has hashed."""
        self._noted: dict[str, str] | None = None
        """What other processes have noted, a line by path; None before the first look-up."""

    @contextlib.contextmanager
    def only_known(self) -> Iterator[None]:
        """Read no file inside this context; where one would have to be read, UnknownHashError is raised."""
        self._reads = False
        try:
            yield
        finally:
            self._reads = True

    def sha256(self, path: Path) -> str:
        """Return the sha256 of a file; DataError where it cannot be read."""
        with _as_data_error():
            return self.known(path) or self.read_again(path)

    def read_again(self, path: Path) -> str:
        """Read a file whatever is known of it, and return its sha256; OSError where it cannot be read."""
        self._check_may_read(path)
        hashed = hash_file(path)
        self.note({path: hashed})
        return hashed.sha256

    def sha256_of_all(self, paths: Iterable[Path]) -> dict[Path, str]:
        """Return the sha256 of files; those that must be read are read in threads. DataError as `sha256`."""
        found: dict[Path, str] = {}
        unknown: dict[Path, int] = {}
        with _as_data_error():
            for path in paths:
                identity = identity_of(path)
                if known := self._known(path, identity):
                    found[path] = known
                else:
                    unknown[path] = identity.bytes
            read = self.hash_all(unknown, keep=True)
        return {**found, **{path: hashed.sha256 for path, hashed in read.items()}}

    def hash_all(self, sizes: Mapping[Path, int], *, keep: bool) -> dict[Path, Hashed]:
        """Read files in threads, whatever is known of them, and show how far it is; keep the hashes where asked to.

        Raises the OSError of the first file that cannot be read.
        """
        found: dict[Path, Hashed] = {}
        if sizes:
            self._check_may_read(next(iter(sizes)))
            self.shown(self._reading(sizes, found, keep))
        return found

    def _reading(self, sizes: Mapping[Path, int], found: dict[Path, Hashed], keep: bool) -> Iterator[Progress]:
        read, total, unsaved, saved_s = 0, sum(sizes.values()), dict[Path, Hashed](), time.monotonic()
        try:
            for size, finished in hash_files(sizes):
                read += size
                for path, hashed in finished.items():
                    if isinstance(hashed, OSError):
                        raise hashed
                    unsaved[path] = found[path] = hashed
                if keep and time.monotonic() - saved_s > SAVE_EVERY_S:
                    self.note(unsaved)
                    unsaved, saved_s = {}, time.monotonic()
                yield Progress(min(read, total), total, "bytes", "hashed")
        finally:
            if keep:
                self.note(unsaved)

    def _check_may_read(self, path: Path) -> None:
        if not self._reads:
            raise UnknownHashError(str(path))

    def known(self, path: Path) -> str | None:
        """Return the sha256 that a file with this identity had, or None; OSError where there is no such file."""
        return self._known(path, identity_of(path))

    def _known(self, path: Path, identity: Identity) -> str | None:
        key = _key(path)
        if key in self._here:
            then, sha256 = self._here[key]
            return sha256 if then == identity else None
        if not self.trusted:
            return None
        if self._noted is None:
            self._noted = {} if self.folder is None else _read_folder(self.folder)
        return _sha256_in(self._noted.get(key, ""), key, identity)

    def note(self, hashes: Mapping[Path, Hashed]) -> None:
        """Keep hashes for this and later processes, except those of files that were changed just before."""
        lines = []
        for path, hashed in hashes.items():
            if hashed.settled and self._known(path, hashed.identity) != hashed.sha256:
                key = _key(path)
                self._here[key] = hashed.identity, hashed.sha256
                lines.append(_line(key, hashed.identity, hashed.sha256) + "\n")
        if not lines or self.folder is None:
            return
        with contextlib.suppress(OSError):  # a read-only or full store: the next look-up takes as long again
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / self._own).open("a", encoding="ascii") as file:  # a merge may have removed it
                file.write("".join(lines))


def _run_through(events: Iterable[Progress]) -> None:
    deque(events, maxlen=0)


@contextlib.contextmanager
def _as_data_error() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise_fault(error, Path(error.filename))
        busy = error.errno == errno.EBUSY
        raise DataError(
            f"{error.filename} cannot be read: {error.strerror}",
            hint="run the same command again when the file is complete" if busy else "correct the path in the recipe",
        ) from error


def _key(path: Path) -> str:
    """Return the absolute path as JSON, without the quotation marks."""
    text = str(path)
    return json.dumps(text if text.startswith("/") else str(path.absolute()))[1:-1]


def _line(key: str, identity: Identity, sha256: str) -> str:
    """Return one JSON object; its checksum tells a flipped bit in the cache from one in the file."""
    size, mtime_ns, ctime_ns, inode = identity
    times = f'"mtime_ns": {mtime_ns}, "ctime_ns": {ctime_ns}, "inode": {inode}'
    content = f'{{"path": "{key}{AFTER_PATH}{size}, {times}, "sha256": "{sha256}"'
    return f'{content}, "check": {zlib.crc32(content.encode())}}}'


def _sha256_in(line: str, key: str, identity: Identity) -> str | None:
    """Return the hash in a line, if it is the very line that a file with this identity gets."""
    sha256 = line.rpartition('"sha256": "')[2][:64]
    return sha256 if line == _line(key, identity, sha256) else None


def _read_folder(folder: Path) -> dict[str, str]:
    """Return the last line of every path, by the path as JSON; many files are merged on the way."""
    try:
        files = sorted(folder.glob("*.jsonl"), key=lambda file: file.stat().st_mtime_ns)
    except OSError:
        return {}
    lines: dict[str, str] = {}
    for file in files:
        # another process merges them, too
        with contextlib.suppress(OSError, ValueError), open_regular(file) as opened:
            for line in opened.read().decode("ascii", errors="replace").splitlines():
                head, found, _ = line.partition(AFTER_PATH)
                if found:
                    lines[head.removeprefix('{"path": "')] = line
    if len(files) > MANY:
        _merge(folder, files, lines)
    return lines


def _merge(folder: Path, files: list[Path], lines: Mapping[str, str]) -> None:
    """Replace files of lines by one; what another process adds meanwhile to one of them is lost and costs time only."""
    with contextlib.suppress(OSError):
        write_text(folder / f"{secrets.token_hex(8)}.jsonl", "".join(f"{line}\n" for line in lines.values()))
        for file in (*files, *(path for path in folder.iterdir() if FORMER.fullmatch(path.name))):
            file.unlink(missing_ok=True)
