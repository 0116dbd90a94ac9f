"""images: a path to one channel of one field in, its pixels out, or the reason why not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellssl.errors import DataError

if TYPE_CHECKING:
    from jaxtyping import UInt16

NOT_TIFF = (".png", ".bmp", ".jpg", ".jpeg")


def read_channel(path: Path) -> UInt16[np.ndarray, "y x"]:
    """The pixels of a grey image, 8 or 16 bits, as uint16.

    Raises DataError with the reason where the file is not there, cannot be decoded, or is not one grey plane.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there")
    pixels = np.squeeze(_decode(path))
    if pixels.ndim != 2:
        raise DataError(f"{path} has the shape {pixels.shape}; one grey plane a file is needed")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{path} holds {pixels.dtype}; unsigned 8 or 16 bits are needed")
    return pixels.astype(np.uint16)


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write a label image as a compressed TIFF, 0 the background."""
    import tifffile

    tifffile.imwrite(path, labels.astype(np.uint16 if labels.max() < 2**16 else np.uint32), compression="zlib")


def read_labels(path: Path) -> np.ndarray:
    """Read a label image as int32."""
    import tifffile

    return np.asarray(tifffile.imread(path)).astype(np.int32)


def _decode(path: Path) -> np.ndarray:
    import struct

    import tifffile

    try:
        if path.suffix.lower() in NOT_TIFF:
            from PIL import Image

            with Image.open(path) as image:
                return np.asarray(image)
        return np.asarray(tifffile.imread(path))
    except (OSError, ValueError, IndexError, KeyError, RuntimeError, struct.error, tifffile.TiffFileError) as error:
        raise DataError(f"{path} cannot be decoded: {error or type(error).__name__}") from error
