"""files: content in, a file that is either the old one or the whole new one out, on a disk that has room."""

from __future__ import annotations

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


@contextmanager
def atomic_path(target: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Give a path to write to, in `scratch` or beside `target`; rename it to `target` when all went well.

    Its bytes are on disk before it takes the name; where anything fails, nothing is left. Both folders must lie on one
    file system; a scratch folder and the target's folder are made where they are missing.
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
    """Remove what a killed process left behind in `atomic_path`; only for the one process that may write there."""
    for written in folder.rglob(f".*{UNFINISHED}"):
        written.unlink(missing_ok=True)


def write_text(target: Path, text: str, scratch: Path | None = None) -> None:
    """Write text, with the line ends that it has, under a name that never holds half of it."""
    with atomic_path(target, scratch) as written:
        written.write_text(text, encoding="utf-8", newline="")


def save_array(target: Path, array: np.ndarray) -> None:
    """Write an .npy file whole; by way of a buffer, since numpy does not say why it could not write on."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array)
    with atomic_path(target) as written:
        written.write_bytes(buffer.getbuffer())


def adopt(arrived: Path, target: Path) -> None:
    """Rename a whole file of ours to `target`, its bytes on disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync(arrived)
    arrived.replace(target)


def copy(source: Path, target: Path, scratch: Path) -> None:
    """Copy the bytes of a file, but not its rights and times."""
    with atomic_path(target, scratch) as written:
        shutil.copyfile(source, written)


def check_space(folder: Path, needed: int) -> None:
    """Raise FailedError where the disk of `folder` has no room for `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FailedError(
            f"{needed:,} bytes are still to come, and {folder} has room for {free:,}",
            hint="make room, or choose another --store",
        )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
