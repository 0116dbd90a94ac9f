"""sources: the path of an image in any format in, the open file out: a header, and planes one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from cellssl.errors import DataError
from cellssl.images.described import ImageHeader
from cellssl.images.formats import ZARR_CURE, format_of, inside_zarr, is_zarr, remote_fault
from cellssl.images.instrument_source import open_instrument
from cellssl.images.opening import A_FOLDER, as_data_errors, image_fault
from cellssl.images.pillow_source import open_pillow
from cellssl.images.tiff_source import open_tiff


class ImageSource(Protocol):
    """An open file that holds images."""

    def header(self, series: int) -> ImageHeader:
        """Return what the file says of one of its images; DataError where there is no such image."""

    def plane(self, series: int, channel: int, z: int, t: int) -> np.ndarray:
        """Return one plane, (y, x) or (y, x, sample); every number counts from 0 and exists."""

    def page(self, number: int) -> np.ndarray:
        """Return one page of a TIFF, (y, x) or (y, x, sample)."""


def source_fault(path: Path) -> str:
    """Return why `path` cannot be opened as an image, as the rest of a sentence; "" where it can.

    A folder that is an OME-Zarr can be opened; other folders cannot. FailedError as `image_fault`.
    """
    fault = image_fault(path)
    if fault.startswith(A_FOLDER) and is_zarr(path):
        return ""
    return f"{fault}; {ZARR_CURE}" if fault and inside_zarr(path) else fault


@contextmanager
def open_source(path: Path) -> Iterator[ImageSource]:
    """Open a file, or the folder of an OME-Zarr image.

    Raises DataError with the reason where it is not there, damaged, or of a format that is not read.
    """
    if remote := remote_fault(str(path)):
        raise DataError(remote)
    fault = source_fault(path)
    if fault and not fault.startswith(A_FOLDER):
        raise DataError(f"{path} {fault}")
    with as_data_errors(path), _opened(path) as source:
        yield source


def _opened(path: Path) -> AbstractContextManager[ImageSource]:
    form = format_of(path)
    if form.reader == "tiff":
        return open_tiff(path)
    return open_pillow(path) if form.reader == "pillow" else open_instrument(path, form.name)
