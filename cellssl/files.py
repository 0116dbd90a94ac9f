"""files: content in, a file out that is either the old one or the whole new one; also checks disk space."""

from __future__ import annotations

import io
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cellssl.errors import FailedError

if TYPE_CHECKING:
    import numpy as np

UNFINISHED = ".tmp"


@contextmanager
def atomic_path(target: Path, scratch: Path | None = None) -> Iterator[Path]:
    """Give a path to write to, in `scratch` or beside `target`, and rename it to `target` at the end.

    Its bytes are on disk before it is renamed; after an error, no file is left. An OSError that names no file, such as
    that of a full disk, names the target. Both folders must lie on one file system. With `scratch`, missing folders are
    created.
    """
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
    written = (scratch or target.parent) / f".{target.name}.{secrets.token_hex(4)}{UNFINISHED}"
    try:
        yield written
        _sync(written)
        written.replace(target)
    except BaseException as error:
        with suppress(OSError):
            written.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = error.filename or str(target)
        raise


def remove_unfinished(folder: Path) -> None:
    """Remove the files that a killed process left from `atomic_path`; only the holder of the lock may do so."""
    for written in folder.rglob(f".*{UNFINISHED}"):
        written.unlink(missing_ok=True)


def write_text(target: Path, text: str, scratch: Path | None = None) -> None:
    """Write text as it is (line ends included) with `atomic_path`."""
    with atomic_path(target, scratch) as written:
        written.write_text(text, encoding="utf-8", newline="")


def write_buffer(target: Path, write: Callable[[io.BytesIO], object]) -> None:
    """Write with `atomic_path` what a library writes to a buffer.

    Libraries hide the reason of a failed write, or try it again when they forget a half-written file.
    """
    buffer = io.BytesIO()
    write(buffer)
    with atomic_path(target) as written:
        written.write_bytes(buffer.getbuffer())


def save_array(target: Path, array: np.ndarray) -> None:
    """Write an .npy file with `atomic_path`."""
    import numpy as np

    write_buffer(target, lambda buffer: np.save(buffer, array))


def save_arrays(target: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz file with `atomic_path`."""
    import numpy as np

    write_buffer(target, lambda buffer: np.savez(buffer, **dict(arrays)))


def move_into_place(arrived: Path, target: Path) -> None:
    """Rename a complete file to `target` after its bytes are on disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync(arrived)
    arrived.replace(target)


def copy(source: Path, target: Path, scratch: Path) -> None:
    """Copy the bytes of a file, but not its permissions and times."""
    with atomic_path(target, scratch) as written:
        shutil.copyfile(source, written)


def check_space(folder: Path, needed: int, cure: str = "free some space, or choose another --store") -> None:
    """Raise FailedError with the `cure` where the disk of `folder` has less than `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FailedError(
            f"{needed:,} bytes are needed, and {free:,} are free in {folder}",
            hint=cure,
        )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
