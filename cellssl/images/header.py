"""header: the path of an image in, what its header says of axes, type, channels and pixel size out."""

from __future__ import annotations

from pathlib import Path

from cellssl.images.described import ImageHeader
from cellssl.images.sources import open_source

__all__ = ["ImageHeader", "read_header"]


def read_header(path: Path, series: int | None = None) -> ImageHeader:
    """Return what the header of an image says; reads no pixels.

    `path` is a file, or the folder of an OME-Zarr image. `series` is the number of the image in the file, from 0; the
    first where it is None. Raises DataError with the reason where the file is not there, damaged, or of a format that
    is not read; the format is named where it is known.
    """
    with open_source(path) as source:
        return source.header(series or 0)
