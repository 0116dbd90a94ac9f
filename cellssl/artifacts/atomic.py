"""atomic: content in, a file that is either the old one or the whole new one out."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path beside `target` to write to; it takes the target's name, with its bytes on disk, when all went well."""
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield beside
        _sync(beside)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def forget_unfinished(folder: Path) -> None:
    """Remove what a process that was killed while `replacing` left behind; for whoever alone may write there."""
    for beside in folder.rglob(".*.tmp"):
        beside.unlink()


def write_text(target: Path, text: str) -> None:
    """Write text under a name that never holds half of it."""
    with replacing(target) as beside:
        beside.write_text(text, encoding="utf-8")


def save_array(target: Path, array: np.ndarray) -> None:
    """Write an .npy file whole; by way of a buffer, since numpy does not say why it could not write on."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    with replacing(target) as beside:
        beside.write_bytes(buffer.getbuffer())


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
