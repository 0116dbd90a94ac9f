"""reading: the path of a grey image or label image in, its pixels out, or a DataError that says why there are none."""

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

from cellssl.disk import raise_fault
from cellssl.errors import CellsslError, DataError, FailedError
from cellssl.files import write_buffer
from cellssl.images.tiff import ONE_PLANE, PACKED_AT_MOST, Plane, check_size, in_colour, possible_bytes, read_tiff

if TYPE_CHECKING:
    from jaxtyping import Int32, UInt16

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a TIFF or BigTIFF, in either byte order."""
FORBIDDEN = "may not be read: permission denied"


def read_channel(path: Path) -> UInt16[np.ndarray, "y x"]:
    """Return the pixels of a grey image of 8 or 16 bits as uint16.

    Raises DataError with the reason where the file is missing, cannot be decoded, or is not one grey plane.
    """
    pixels, indexed = _plane(path)
    if indexed:
        raise DataError(f"{path} holds indices into a palette of colours and no grey values; save it as grey")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path} holds {pixels.dtype}; unsigned 8 or 16 bits are needed")
    return np.require(pixels, np.uint16, "W")  # at most one copy: pixels may be the bytes of the file themselves


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write a label image as a compressed TIFF; 0 is the background."""
    import tifffile

    numbers = labels.astype(np.uint16 if labels.max() < 2**16 else np.uint32)
    write_buffer(path, lambda buffer: tifffile.imwrite(buffer, numbers, compression="zlib"))


def read_labels(path: Path) -> Int32[np.ndarray, "y x"]:
    """Return a label image as int32; it may hold whole numbers from 0 up of any type.

    In an image with a palette of colours, the indices into the palette are the labels.
    Raises DataError where the file is missing, cannot be decoded, or holds no such numbers.
    """
    labels = _plane(path).pixels
    if not np.isfinite(labels).all() or labels.min() < 0 or (labels != np.rint(labels)).any():
        raise DataError(f"{path} is not a label image: it holds numbers that are negative or not whole")
    if int(labels.max()) > np.iinfo(np.int32).max:  # as a float32 the limit itself would be rounded up
        raise DataError(f"{path} is not a label image: it holds numbers above {np.iinfo(np.int32).max:,}")
    return labels.astype(np.int32)


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
        return f"is a {'folder' if stat.S_ISDIR(mode) else 'device or pipe'}, not a file"
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


def _plane(path: Path) -> Plane:
    """Return the one plane of an image; DataError with the reason where there is none, more than one, or damage."""
    if fault := image_fault(path):
        raise DataError(f"{path} {fault}")
    with as_data_errors(path), path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        plane = read_tiff(path, file) if head in TIFF else _by_pillow(path, file, head)
    rows, columns = plane.pixels.shape
    if min(rows, columns) < 2:
        raise DataError(f"{path} is {rows} x {columns}; {ONE_PLANE}")
    return plane


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


def _by_pillow(path: Path, file: BinaryIO, head: bytes) -> Plane:
    """Return the plane of a PNG, BMP or JPEG file."""
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    # The classes themselves, because Image.open refuses more than 179 million pixels, which a stitched well may have.
    kinds: dict[bytes, Any] = {b"\x89PNG": PngImageFile, b"BM": BmpImageFile, b"\xff\xd8": JpegImageFile}
    kind = next((kind for magic, kind in kinds.items() if head.startswith(magic)), None)
    if kind is None:
        raise DataError(f"{path} is empty" if not head else f"{path} is not a TIFF, PNG, BMP or JPEG image")
    with kind(file) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise DataError(f"{path} is a stack of {image.n_frames} images; {ONE_PLANE}")
        if image.mode in ("RGB", "RGBA", "YCbCr"):
            raise in_colour(path, f"an RGB image{' with transparency' if image.mode == 'RGBA' else ''}")
        if image.mode not in ("L", "P", "I", "I;16", "I;16B"):
            raise DataError(f"{path} is in colour or has 1 bit per pixel (Pillow mode {image.mode}); {ONE_PLANE}")
        if image.tile and image.tile[0][3] in ("L;2", "L;4"):  # Pillow would scale them up to 8 bits
            raise DataError(f"{path} holds pixels of fewer than 8 bits; save it with 8 or 16 bits")
        size = path.stat().st_size
        most = possible_bytes(size * PACKED_AT_MOST, size)
        check_size(path, (image.height, image.width), 1 if image.mode in ("L", "P") else 2, most)
        pixels = np.asarray(image)
        return Plane(pixels.astype(np.uint16) if image.mode.startswith("I") else pixels, image.mode == "P")
