"""files: content in, a file out that is either the old one or the whole new one; also checks disk space."""

from __future__ import annotations

import errno
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cellssl.errors import FailedError

if TYPE_CHECKING:
    import numpy as np

UNFINISHED = ".tmp"
OF_THE_FILE = (
    *(None, errno.EINVAL, errno.EOVERFLOW),  # decoders raise these, too, for damaged content
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM),
)
"""Numbers of an OSError that say something about the file that is read."""
OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""Numbers of an OSError that only a write meets; all numbers in neither list say that bytes could not be read."""


@contextmanager
def atomic_path(target: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Give a path to write to, in `scratch` or beside `target`, and rename it to `target` at the end.

    Its bytes are on disk before it is renamed; after an error, no file is left. Both folders must lie on one file
    system. With `scratch`, missing folders are created.
    """
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
    written = (scratch or target.parent) / f".{target.name}.{secrets.token_hex(4)}{UNFINISHED}"
    try:
        yield written
        _sync(written)
        written.replace(target)
    finally:
        written.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove the files that a killed process left from `atomic_path`; only the holder of the lock may do so."""
    for written in folder.rglob(f".*{UNFINISHED}"):
        written.unlink(missing_ok=True)


def write_text(target: Path, text: str, scratch: Path | None = None) -> None:
    """Write text as it is (line ends included) with `atomic_path`."""
    with atomic_path(target, scratch) as written:
        written.write_text(text, encoding="utf-8", newline="")


def save_array(target: Path, array: np.ndarray) -> None:
    """Write an .npy file with `atomic_path`; through a buffer, because numpy hides the reason of a failed write."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array)
    with atomic_path(target) as written:
        written.write_bytes(buffer.getbuffer())


def move_into_place(arrived: Path, target: Path) -> None:
    """Rename a complete file to `target` after its bytes are on disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync(arrived)
    arrived.replace(target)


def copy(source: Path, target: Path, scratch: Path) -> None:
    """Copy the bytes of a file, but not its permissions and times."""
    with atomic_path(target, scratch) as written:
        shutil.copyfile(source, written)


def check_space(folder: Path, needed: int) -> None:
    """Raise FailedError where the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FailedError(
            f"{needed:,} bytes are needed, and {free:,} are free in {folder}",
            hint="free some space, or choose another --store",
        )


def raise_if_unreadable(path: Path, error: BaseException) -> None:
    """Raise FailedError where an error, or one that caused it, is a failed read: EIO, ESTALE, a time-out and the like.

    Such an error says nothing about the content of the file, which may be whole, so it never quarantines a field.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno not in (*OF_THE_FILE, *OF_WRITING):
            raise FailedError(
                f"{path} could not be read: {cause.strerror}",
                hint="its disk or network file system failed, which says nothing about the file: "
                "run the same command again; what is done is kept",
            ) from error
        cause = cause.__cause__


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
