"""header: the path of an image in, what its header says of axes, type, channels and pixel size out."""

from __future__ import annotations

from pathlib import Path

from cellssl.images.described import ImageHeader
from cellssl.images.formats import DECIDED_BY_SUFFIX
from cellssl.images.opening import as_data_errors, image_fault
from cellssl.images.plain_tiff import plain_header
from cellssl.images.sources import open_source

__all__ = ["ImageHeader", "read_header"]


def read_header(path: Path, series: int | None = None) -> ImageHeader:
    """Return what the header of an image says; reads no pixels.

    `path` is a file, or the folder of an OME-Zarr image. `series` is the number of the image in the file, from 0; the
    first where it is None. Raises DataError with the reason where the file is not there, damaged, or of a format that
    is not read; the format is named where it is known.
    """
    if not series and (plain := _plain(path)) is not None:
        return plain
    with open_source(path) as source:
        return source.header(series or 0)


def _plain(path: Path) -> ImageHeader | None:
    """Return the header of a TIFF of one plain page; None for every other file, and where it cannot be opened."""
    if image_fault(path) or path.suffix.lower() in DECIDED_BY_SUFFIX:
        return None
    with as_data_errors(path), path.open("rb", buffering=4096) as file:
        return plain_header(file)
