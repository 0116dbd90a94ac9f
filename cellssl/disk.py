"""disk: an error about files in; where the disk is full, failing or forbidden, one sentence with path and cure out."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cellssl.errors import BusyError, FailedError, NetworkError


def _numbers(*names: str) -> frozenset[int]:
    return frozenset(getattr(errno, name) for name in names if hasattr(errno, name))  # some systems lack some


FULL = _numbers("ENOSPC", "EDQUOT", "EFBIG")
FAILING = _numbers(
    "EIO", "ESTALE", "EREMOTEIO", "EUCLEAN", "EBADMSG", "EBADE", "ENODEV", "ENXIO", "ENOTCONN", "EMFILE", "ENFILE",
    "ENOMEM", "ETIMEDOUT", "EHOSTDOWN", "ENOLINK", "EAGAIN", "EKEYEXPIRED",
)  # fmt: skip
FORBIDDEN = _numbers("EACCES", "EPERM", "EROFS", "ENOTDIR", "EISDIR", "EEXIST", "ENAMETOOLONG", "EBUSY", "ETXTBSY")
IN_TEXT = re.compile(r"\b(?:os error|errno)[ :=]*(\d+)", re.IGNORECASE)
"""How libraries in Rust and C++ (safetensors, Arrow, HDF5) name the reason, where their errors have no attribute."""
OWN_WORDS = (FailedError, NetworkError, BusyError)
"""Errors that say already what an unattended job needs to know."""
OTHER_STORE = "choose another folder with --store"


def fault_number(error: BaseException | None) -> int | None:
    """Return the errno of a full or failing disk behind an error, or None where there is none.

    It stands in the error itself, in its text, or in an error that it was raised from: libraries, and our own checks
    of files, raise errors of their own when they could not read or write.
    """
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if number is None and (named := IN_TEXT.search(str(error))):
            number = int(named.group(1))
        if number in FULL | FAILING:
            return number
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def raise_fault(error: BaseException, path: Path) -> None:
    """Raise FailedError where `path` could not be read because its disk fails; such an error says nothing about it."""
    number = fault_number(error)
    if number is not None:
        raise _failed(number, path, "read", OTHER_STORE) from error


@contextmanager
def faults_explained(place: Path, cure: str = OTHER_STORE) -> Iterator[None]:
    """Raise FailedError, with path and cure, for an error of a disk; all other errors pass.

    `place` is named where the error names no file; `cure` is that of a folder that must not be written.
    """
    try:
        yield
    except OWN_WORDS:
        raise
    except Exception as error:
        number = fault_number(error)
        if number is None and isinstance(error, OSError) and error.errno in FORBIDDEN:
            number = error.errno
        if number is None:
            raise
        raise _failed(number, _path_in(error) or place, "written", cure) from error


def _path_in(error: BaseException) -> Path | None:
    """Return the file that an error, or one that it was raised from, names."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and isinstance(seen.filename, (str, os.PathLike)):
            return Path(seen.filename)
        seen = seen.__cause__ or seen.__context__
    return None


def _failed(number: int, path: Path, doing: str, cure: str) -> FailedError:
    reason = os.strerror(number)
    if number == errno.EFBIG:
        return FailedError(
            f"{path} is larger than files may be here: {reason}",
            hint="raise the limit (ulimit -f), or choose a file system for large files",
        )
    if number in FULL:
        return FailedError(
            f"the disk of {path} is full{_free(path)}: {reason}",
            hint="free some space (cellssl gc lists what no result needs; --yes --purge deletes it), and run the same "
            "command again"
            if cure == OTHER_STORE
            else f"free some space there, or {cure}",
        )
    if number in FAILING:
        doing = "read" if doing == "read" else "read or written"
        return FailedError(
            f"{path} cannot be {doing}: {reason}",
            hint="check the disk or the connection to it, and run the same command again; what is done is kept",
        )
    return FailedError(f"{path} cannot be {doing}: {reason}", hint=cure)


def _free(path: Path) -> str:
    with suppress(OSError):
        existing = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
        return f" ({shutil.disk_usage(existing).free / 1e6:,.0f} MB free)"
    return ""
