"""hashing: files in, the sha256 of their bytes out, many at once in threads, and what differs after an edit."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cellssl.device import allowed_cores

PIECE = 2**18
"""Bytes that are read and hashed at once: they stay in the processor's cache between the two."""
POLL_S = 0.1
"""Seconds between two looks at the threads."""
COARSEST_CLOCK_NS = 2 * 10**9
"""The coarsest times of files in use are those of FAT, 2 s: two edits within that time may leave the same times."""


class Identity(NamedTuple):
    """What differs after a file is edited or replaced; an edit that sets the modification time back changes ctime."""

    bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int


@dataclass(frozen=True)
class Hashed:
    """The hash of a file, and its identity when the reading began."""

    sha256: str
    identity: Identity
    settled: bool
    """Whether a later edit must change the identity; not for a file that was changed just before it was read."""


def identity_of(path: Path) -> Identity:
    """Return the identity of a file; OSError where there is none."""
    return _identity(path.stat())


def identity_of_link(path: Path) -> Identity:
    """Return the identity of a file or folder; of a link, its own and not that of what it points to."""
    return _identity(path.lstat())


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read in pieces; OSError where it cannot be read, or is a device or pipe."""
    return hash_file(path).sha256


def hash_file(path: Path, on_read: Callable[[int], None] = lambda _: None) -> Hashed:
    """Read and hash a file; `on_read` gets the number of bytes of every piece.

    Raises OSError, which names the file, where it cannot be read, is a device or pipe, or was written to meanwhile.
    """
    try:
        return _hash_file(path, on_read)
    except OSError as error:
        error.filename = str(path)  # an error of reading has none
        raise


def _hash_file(path: Path, on_read: Callable[[int], None]) -> Hashed:
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer would wait for ever
    with os.fdopen(handle, "rb", buffering=0) as file:
        began, before = time.time_ns(), os.fstat(handle)
        if stat.S_ISDIR(before.st_mode):
            raise OSError(errno.EISDIR, "it is a folder", str(path))
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "it is a device or pipe, not a file", str(path))
        digest, piece = hashlib.sha256(), memoryview(bytearray(min(PIECE, before.st_size + 1)))
        while size := file.readinto(piece):
            digest.update(piece[:size])
            on_read(size)
        identity, after = _identity(before), _identity(os.fstat(handle))
    if (after.bytes, after.mtime_ns) != (identity.bytes, identity.mtime_ns):
        raise OSError(errno.EBUSY, "it was written to while it was read", str(path))
    settled = after == identity and max(identity.mtime_ns, identity.ctime_ns) < began - COARSEST_CLOCK_NS
    return Hashed(digest.hexdigest(), identity, settled)


def hash_files(
    paths: Iterable[Path], workers: int | None = None
) -> Generator[tuple[int, dict[Path, Hashed | OSError]], None, None]:
    """Hash files in `workers` threads (as many as cores where None): hashing leaves Python's lock to the others.

    Yields, every tenth of a second and at the end, how many bytes have been read since the last time, and the files
    that are finished since then: their hash, or why they cannot be read. A caller that stops iterating stops the
    threads.
    """
    todo, done = deque(dict.fromkeys(paths)), deque[tuple[Path, Hashed | OSError]]()
    read, faults, stopped = deque[int](), deque[BaseException](), threading.Event()

    def count(size: int) -> None:
        read.append(size)
        if stopped.is_set():
            raise SystemExit  # ends this thread in the middle of a large file

    def work() -> None:
        try:
            while todo and not stopped.is_set():
                path = todo.popleft()
                try:
                    done.append((path, hash_file(path, count)))
                except OSError as error:
                    done.append((path, error))
        except IndexError:  # another thread took the last one
            return
        except Exception as error:  # raised again in the caller's thread
            faults.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers or allowed_cores(), len(todo)))]
    try:
        for thread in threads:
            thread.start()
        while alive := [thread for thread in threads if thread.is_alive()]:
            alive[0].join(POLL_S)
            yield _taken(read, done)
        if faults:
            raise faults[0]
        yield _taken(read, done)
    finally:
        stopped.set()


def _taken(read: deque[int], done: deque[tuple[Path, Hashed | OSError]]) -> tuple[int, dict[Path, Hashed | OSError]]:
    """Take what is there out of both queues, to which the threads append."""
    sizes = [read.popleft() for _ in range(len(read))]
    return sum(sizes), dict(done.popleft() for _ in range(len(done)))


def _identity(seen: os.stat_result) -> Identity:
    return Identity(seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)
