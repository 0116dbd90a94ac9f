"""disk: the error of a full or failing disk becomes a sentence with path and cure, whoever raises it; others stay."""

import errno
import os
from pathlib import Path

import pytest

from cellssl.disk import fault_number, faults_explained, raise_fault
from cellssl.errors import CellsslError, DataError, FailedError, IntegrityError, NetworkError


def raised_from(error: Exception, cause: Exception) -> Exception:
    """Return an error as `raise error from cause` makes it."""
    error.__cause__ = cause
    return error


def of(number: int, *path: str) -> OSError:
    return OSError(number, os.strerror(number), *path)


FAULTS = {
    "a full disk": (of(errno.ENOSPC), "is full"),
    "a quota": (of(errno.EDQUOT, "x/y"), "is full"),
    "a limit of file sizes": (of(errno.EFBIG, "x/y"), "x/y is larger than files may be"),
    "a failing disk": (of(errno.EIO, "x/y"), "x/y cannot be read or written: Input/output error"),
    "a stale handle": (of(errno.ESTALE, "x/y"), "x/y cannot be read or written: Stale"),
    "too many open files": (of(errno.EMFILE, "x/y"), "x/y cannot be read or written: Too many open files"),
    "a read-only disk": (of(errno.EROFS, "x/y"), "x/y cannot be written: Read-only"),
    "torch": (raised_from(RuntimeError("unexpected pos 64 vs 0"), of(errno.ENOSPC)), "is full"),
    "safetensors": (ValueError("I/O error: No space left on device (os error 28)"), "is full"),
    "HDF5": (RuntimeError("Can't write data (errno = 28, error message = 'No space left on device')"), "is full"),
    "a table that could not be read": (
        raised_from(DataError("cannot be read"), of(errno.EIO, "t.csv")),
        "t.csv cannot",
    ),
    "a card that could not be read": (raised_from(IntegrityError("no card"), of(errno.EIO, "c")), "c cannot be read"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_fault_of_a_disk_is_a_sentence_with_a_cure_and_exit_code_1(name: str, tmp_path: Path) -> None:
    error, words = FAULTS[name]
    with pytest.raises(FailedError) as caught, faults_explained(tmp_path):
        raise error
    assert words in caught.value.message
    assert caught.value.hint
    assert "--force" not in caught.value.hint


OTHERS = [
    KeyError("seed"),
    of(errno.ENOENT, "x"),
    raised_from(KeyError("seed"), of(errno.EACCES, "x")),
    DataError("3 of 5 images are cut short"),
    raised_from(NetworkError("no answer"), of(errno.ENOTCONN)),
    ValueError("errno 2, os error 13"),
]


@pytest.mark.parametrize("error", OTHERS, ids=str)
def test_every_other_error_stays_what_it_is(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught, faults_explained(tmp_path):
        raise error
    assert caught.value is error


@pytest.mark.skipif(not Path("/proc/self/mem").is_file(), reason="there is no file here that cannot be read")
def test_an_image_on_a_failing_disk_is_no_damaged_image(tmp_path: Path) -> None:
    from cellssl.artifacts.hashing import sha256_of
    from cellssl.images.reading import read_channel

    image = tmp_path / "image.tif"
    image.symlink_to("/proc/self/mem")  # reading its first byte is an input/output error
    with pytest.raises(FailedError, match=r"image\.tif cannot be read: Input/output error"):
        read_channel(image)
    with pytest.raises(OSError, match="Input/output error") as caught:
        sha256_of(image)
    assert fault_number(caught.value) == errno.EIO


def test_what_a_failing_disk_gave_is_not_judged() -> None:
    with pytest.raises(FailedError):
        raise_fault(raised_from(DataError("it is cut short"), of(errno.EIO)), Path("x"))
    raise_fault(DataError("it is cut short"), Path("x"))


def test_a_sentence_is_not_explained_again(tmp_path: Path) -> None:
    wanted = FailedError("the loss is not a number")
    with pytest.raises(CellsslError) as caught, faults_explained(tmp_path):
        raise raised_from(wanted, of(errno.EIO))
    assert caught.value is wanted
