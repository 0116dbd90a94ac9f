"""_place: what is to be written in -> a file that bears its name only when it is whole."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(target: Path, scratch: Path) -> Iterator[Path]:
    """A path in `scratch` to write to; it becomes `target` when all went well, and is removed when not."""
    scratch.mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    written = scratch / f".{target.name}.{secrets.token_hex(4)}.new"
    try:
        yield written
        written.replace(target)
    finally:
        written.unlink(missing_ok=True)


def copy(source: Path, target: Path, scratch: Path) -> None:
    """Copy the bytes of a file, and nothing of its rights and times."""
    with beside(target, scratch) as written:
        shutil.copyfile(source, written)


def write_text(target: Path, text: str, scratch: Path) -> None:
    """Write text with the line ends that it has."""
    with beside(target, scratch) as written:
        written.write_text(text, encoding="utf-8", newline="")
