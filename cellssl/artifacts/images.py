"""images: a path to one channel of one field in, its pixels out, or the reason why not."""

from __future__ import annotations

import errno
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from cellssl.artifacts._tiff import AT_MOST, ONE_PLANE, Plane, check_size, read_tiff
from cellssl.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Int32, UInt16

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF begins, or a BigTIFF, in either order of bytes."""
FORBIDDEN = "may not be read: permission denied"


def read_channel(path: Path) -> UInt16[np.ndarray, "y x"]:
    """The pixels of a grey image, 8 or 16 bits, as uint16.

    Raises DataError with the reason where the file is not there, cannot be decoded, or is not one grey plane.
    """
    pixels, indexed = _plane(path)
    if indexed:
        raise DataError(f"{path} holds indices into a palette of colours, no grey values; save it as grey")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path} holds {pixels.dtype}; unsigned 8 or 16 bits are needed")
    return np.require(pixels, np.uint16, "W")  # one copy at most: pixels may be the bytes of the file themselves


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write a label image as a compressed TIFF, 0 the background."""
    import tifffile

    tifffile.imwrite(path, labels.astype(np.uint16 if labels.max() < 2**16 else np.uint32), compression="zlib")


def read_labels(path: Path) -> Int32[np.ndarray, "y x"]:
    """Read a label image, of whole numbers from 0 up in whatever type, as int32.

    A palette only paints the labels: the indices into it are their numbers.
    Raises DataError where it is not there, cannot be decoded, or is no such image.
    """
    labels = _plane(path).pixels
    if not np.isfinite(labels).all() or labels.min() < 0 or (labels != np.rint(labels)).any():
        raise DataError(f"{path} holds other than whole numbers from 0 up")
    if int(labels.max()) > np.iinfo(np.int32).max:  # as a float32 the limit itself would be rounded up
        raise DataError(f"{path} holds numbers above {np.iinfo(np.int32).max:,}")
    return labels.astype(np.int32)


def image_fault(path: Path) -> str:
    """Why `path` is no file that can be opened, as the rest of a sentence that begins with its name; "" where it is."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        return _why_not(path, error)
    if not stat.S_ISREG(mode):  # a pipe would be waited for
        return f"is a {'folder' if stat.S_ISDIR(mode) else 'device or pipe'}, not a file"
    return "" if os.access(path, os.R_OK) else FORBIDDEN


def _why_not(path: Path, error: OSError | ValueError) -> str:
    match getattr(error, "errno", None):
        case errno.ENOENT:
            return "is a link to what is not there" if path.is_symlink() else "is not there"
        case errno.ELOOP:
            return "is a link that leads back to itself"
        case errno.ENAMETOOLONG:
            return "has too long a name"
        case errno.EACCES | errno.EPERM:
            return FORBIDDEN
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _plane(path: Path) -> Plane:
    """The one plane of an image; DataError with the reason where it holds none, more, or cannot be read."""
    if fault := image_fault(path):
        raise DataError(f"{path} {fault}")
    with _reasons(path), path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        plane = read_tiff(path, file) if head in TIFF else _by_pillow(path, file, head)
    rows, columns = plane.pixels.shape
    if min(rows, columns) < 2:
        raise DataError(f"{path} is {rows} x {columns}; {ONE_PLANE}")
    return plane


@contextmanager
def _reasons(path: Path) -> Iterator[None]:
    """Make a DataError of whatever a library raises over a damaged file, and an end of its warnings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{path} needs more memory than there is") from error
    except Exception as error:  # decoders run into anything, from SyntaxError to ZeroDivisionError
        raise DataError(f"{path} is cut short or damaged: {str(error) or type(error).__name__}") from error


def _by_pillow(path: Path, file: BinaryIO, head: bytes) -> Plane:
    """The plane of a PNG, BMP or JPEG file."""
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    # The classes, since Image.open refuses more than 179 million pixels: a stitched well may have them.
    kinds: dict[bytes, Any] = {b"\x89PNG": PngImageFile, b"BM": BmpImageFile, b"\xff\xd8": JpegImageFile}
    kind = next((kind for magic, kind in kinds.items() if head.startswith(magic)), None)
    if kind is None:
        raise DataError(f"{path} is empty" if not head else f"{path} is no TIFF, PNG, BMP or JPEG image")
    with kind(file) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise DataError(f"{path} is a stack of {image.n_frames} images; {ONE_PLANE}")
        if image.mode not in ("L", "P", "I", "I;16", "I;16B"):
            raise DataError(f"{path} is in colour or of 1 bit (Pillow calls it {image.mode}); {ONE_PLANE}")
        if image.tile and image.tile[0][3] in ("L;2", "L;4"):  # Pillow would multiply them up to 8
            raise DataError(f"{path} holds pixels of fewer than 8 bits; save it with 8 or 16")
        size = path.stat().st_size
        check_size(path, (image.height, image.width), 1 if image.mode in ("L", "P") else 2, size * AT_MOST)
        pixels = np.asarray(image)
        return Plane(pixels.astype(np.uint16) if image.mode.startswith("I") else pixels, image.mode == "P")
