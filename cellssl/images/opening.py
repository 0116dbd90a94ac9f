"""opening: the path of an image in; why it cannot be opened, or a DataError for what a library says about it, out."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cellssl.disk import raise_fault
from cellssl.errors import CellsslError, DataError, FailedError

A_FOLDER = "is a folder"
FORBIDDEN = "may not be read: permission denied"
PANIC = "PanicException"
"""The class that PyO3 raises where a library in Rust panics; it is no `Exception`, and nothing exports it."""


def image_fault(path: Path) -> str:
    """Return why `path` cannot be opened, as the rest of a sentence that begins with its name; "" where it can.

    Raises FailedError where the file system could not tell.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise_fault(error, path)
        return _why_not(path, error)
    if not stat.S_ISREG(mode):  # reading a pipe would wait for ever
        return f"{A_FOLDER if stat.S_ISDIR(mode) else 'is a device or pipe'}, not a file"
    return "" if os.access(path, os.R_OK) else FORBIDDEN


def _why_not(path: Path, error: OSError | ValueError) -> str:
    match getattr(error, "errno", None):
        case errno.ENOENT:
            return "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
        case errno.ELOOP:
            return "is a link that leads back to itself"
        case errno.ENAMETOOLONG:
            return "has too long a name"
        case errno.EACCES | errno.EPERM:
            return FORBIDDEN
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


@contextmanager
def as_data_errors(path: Path) -> Iterator[None]:
    """Raise a DataError for whatever a library raises about a damaged file, and drop its warnings.

    Raises FailedError where the bytes of the file could not be read, or there is too little memory for them.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except CellsslError as error:
        raise_fault(error, path)
        raise
    except MemoryError as error:
        raise FailedError(
            f"{path} needs more memory than there is",
            hint="free some memory, and run the same command again; what is done is kept",
        ) from error
    except Exception as error:  # decoders raise anything, from SyntaxError to ZeroDivisionError
        raise_fault(error, path)
        raise DataError(f"{path} is cut short or damaged: {str(error) or type(error).__name__}") from error
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise DataError(f"{path} is cut short or damaged: its reader failed on it ({error})") from error
