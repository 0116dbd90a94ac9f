"""_place: what is to be written in -> a file that bears its name only when it is whole, on a disk that has room."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellssl.errors import FailedError

UNFINISHED = ".new"


@contextmanager
def beside(target: Path, scratch: Path) -> Iterator[Path]:
    """A path in `scratch` to write to; it becomes `target`, its bytes on disk, when all went well, else it goes."""
    scratch.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = scratch / f".{target.name}.{secrets.token_hex(4)}{UNFINISHED}"
    try:
        yield written
        _sync(written)
        written.replace(target)
    finally:
        written.unlink(missing_ok=True)


def adopt(arrived: Path, target: Path) -> None:
    """Let a whole file of ours bear its name, its bytes on disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync(arrived)
    arrived.replace(target)


def copy(source: Path, target: Path, scratch: Path) -> None:
    """Copy the bytes of a file, and nothing of its rights and times."""
    with beside(target, scratch) as written:
        shutil.copyfile(source, written)


def write_text(target: Path, text: str, scratch: Path) -> None:
    """Write text with the line ends that it has."""
    with beside(target, scratch) as written:
        written.write_text(text, encoding="utf-8", newline="")


def forget_unfinished(scratch: Path) -> None:
    """Remove what a process that was killed left behind; for whoever alone may write there."""
    for written in scratch.glob(f".*{UNFINISHED}"):
        written.unlink(missing_ok=True)


def check_space(folder: Path, needed: int) -> None:
    """Raise FailedError where so many bytes have no room on the disk of `folder`."""
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
