"""images: a path to one channel of one field in, its pixels out, or the reason why not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellssl.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import Int32, UInt16

NOT_TIFF = (".png", ".bmp", ".jpg", ".jpeg")


def read_channel(path: Path) -> UInt16[np.ndarray, "y x"]:
    """The pixels of a grey image, 8 or 16 bits, as uint16.

    Raises DataError with the reason where the file is not there, cannot be decoded, or is not one grey plane.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there")
    pixels = np.squeeze(_decode(path))
    if pixels.size == 0:
        raise DataError(f"{path} holds no pixel")
    if pixels.ndim != 2:
        raise DataError(f"{path} has the shape {pixels.shape}; one grey plane a file is needed")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path} holds {pixels.dtype}; unsigned 8 or 16 bits are needed")
    return pixels.astype(np.uint16)


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write a label image as a compressed TIFF, 0 the background."""
    import tifffile

    tifffile.imwrite(path, labels.astype(np.uint16 if labels.max() < 2**16 else np.uint32), compression="zlib")


def read_labels(path: Path) -> Int32[np.ndarray, "y x"]:
    """Read a label image, of whole numbers from 0 up in whatever type, as int32.

    Raises DataError where it is not there, cannot be decoded, or is no such image.
    """
    if not path.is_file():
        raise DataError(f"the label image {path} is not there")
    labels = np.squeeze(_decode(path))
    if labels.ndim != 2 or labels.dtype == bool:
        raise DataError(f"{path} has the shape {labels.shape} of {labels.dtype}; one plane of numbers is needed")
    if not np.isfinite(labels).all() or labels.min(initial=0) < 0 or (labels != np.rint(labels)).any():
        raise DataError(f"{path} holds other than whole numbers from 0 up")
    if labels.max(initial=0) > np.iinfo(np.int32).max:
        raise DataError(f"{path} holds numbers above {np.iinfo(np.int32).max:,}")
    return labels.astype(np.int32)


def _decode(path: Path) -> np.ndarray:
    import struct
    import zlib

    import tifffile

    faults = (OSError, ValueError, IndexError, KeyError, TypeError, RuntimeError, MemoryError)
    try:
        if path.suffix.lower() in NOT_TIFF:
            return _by_pillow(path)
        with tifffile.TiffFile(path) as file:
            if file.pages and getattr(file.pages[0], "compression", 1) in NEEDS_PILLOW:
                return _by_pillow(path)
            return np.asarray(file.asarray())
    except (*faults, struct.error, zlib.error, tifffile.TiffFileError) as error:
        raise DataError(f"{path} cannot be decoded: {error or type(error).__name__}") from error


NEEDS_PILLOW = (5, 7)
"""LZW and JPEG, by their numbers in TIFF 6.0 and its supplement: tifffile would need a further package."""


def _by_pillow(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)
