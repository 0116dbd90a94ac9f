"""reading: a reference to planes of files, or a label image, in, its pixels out, or a DataError with the reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellssl.errors import DataError
from cellssl.files import write_buffer
from cellssl.images.choosing import Choice, choose
from cellssl.images.formats import TIFF
from cellssl.images.ome_xml import label_image_xml
from cellssl.images.opening import as_data_errors, image_fault
from cellssl.images.pillow_source import open_pillow
from cellssl.images.projection import project
from cellssl.images.reference import ImageReference
from cellssl.images.sources import ImageSource, open_source
from cellssl.images.tiff import ONE_PLANE, Plane, in_colour, read_tiff

if TYPE_CHECKING:
    from jaxtyping import Int32, UInt16

WHITE = 65_535
"""The value that the upper end of an intensity range becomes."""
ONE_COLOUR = 'or take one colour, in [fetch.dataset]: channels = { NAME = { column = "COLUMN", channel = 0 } }'
"""The further cure for an image in colour."""


def read_image(reference: ImageReference) -> UInt16[np.ndarray, "y x"]:
    """Return the pixels of one channel of one field.

    Grey values of 8 and 16 bits stay as they are; other numbers are scaled by the reference's intensity range, and
    clipped. Equal colours are grey. Of files with many planes only those that are needed are read. Raises DataError
    with the reason where a file is missing, cannot be decoded, or where it holds more than the reference chooses from.
    """
    name = reference.named()
    pixels = _of_stack(reference, name) if len(reference.files) > 1 else _of_file(reference, reference.files[0])
    if min(pixels.shape) < 2:
        raise DataError(f"{name} is {pixels.shape[0]} x {pixels.shape[1]}; {ONE_PLANE}")
    return _as_uint16(pixels, reference.intensity_range, name)


def read_channel(path: Path) -> UInt16[np.ndarray, "y x"]:
    """Return the pixels of a file that holds one grey plane of 8 or 16 bits.

    Raises DataError where it cannot be decoded, or holds anything else.
    """
    return read_image(ImageReference((str(path),)))


def _of_stack(reference: ImageReference, name: str) -> np.ndarray:
    """Return one plane of several files, one per z plane; only those that are needed are opened."""
    files, z = reference.files, reference.z
    if z is None:
        raise DataError(
            f"{name} is a stack of {len(files)} files; say which z plane is the image",
            hint='in [fetch.dataset]: z = "max" (or "mean", "focus", or a number from 0)',
        )
    if isinstance(z, int):
        if not 0 <= z < len(files):
            raise DataError(f"{name} has {len(files)} z planes, numbered from 0; there is no z = {z}")
        return _of_file(replace(reference, files=(files[z],), z=None), files[z])
    planes = (_of_file(replace(reference, files=(file,), z=None), file) for file in files)
    return project(planes, z, name)


def _of_file(reference: ImageReference, file: str) -> np.ndarray:
    """Return the one plane, or the projection, that a reference means in its file."""
    path = Path(file)
    with open_source(path) as source:
        choice = choose(file, source.header(reference.series or 0), reference)
        planes = (_grey(path, plane, choice.sample) for plane in _planes(source, choice))
        return project(planes, choice.projection, reference.named()) if choice.projection else next(planes)


def _planes(source: ImageSource, choice: Choice) -> Iterator[np.ndarray]:
    if choice.pages:
        yield from map(source.page, choice.pages)
    else:
        yield from (source.plane(choice.series, choice.channel, z, choice.t) for z in choice.z_planes)


def _grey(path: Path, pixels: np.ndarray, sample: int | None) -> np.ndarray:
    """Return (y, x) of (y, x, sample): the sample that was asked for, or any where all are equal."""
    if pixels.ndim == 2:
        return pixels
    if sample is not None:
        if sample >= pixels.shape[-1]:
            raise DataError(f"{path} has {pixels.shape[-1]} colours in each pixel; there is no channel = {sample}")
        return np.ascontiguousarray(pixels[..., sample])
    first = pixels[..., :1]
    if (pixels != first).any():
        kind = "an RGB image" if pixels.shape[-1] == 3 else f"an image of {pixels.shape[-1]} samples per pixel"
        raise in_colour(path, f"{kind} whose colours differ", ONE_COLOUR)
    return np.ascontiguousarray(first[..., 0])


def _as_uint16(pixels: np.ndarray, intensity_range: tuple[float, float] | None, name: str) -> UInt16[np.ndarray, "y x"]:
    if intensity_range is None:
        if pixels.dtype not in (np.uint8, np.uint16):
            raise _no_range(pixels, name)
        return np.require(pixels, np.uint16, "W")  # at most one copy: pixels may be the bytes of the file themselves
    low, high = intensity_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise DataError(f"{name}: intensity_range = [{low}, {high}] is no range")
    values = pixels.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError(f"{name} holds NaN or infinity in {np.count_nonzero(~np.isfinite(values)):,} pixels")
    scaled = np.floor(np.clip((values - low) / (high - low), 0, 1) * WHITE + 0.5)
    return np.asarray(scaled, np.uint16)


def _no_range(pixels: np.ndarray, name: str) -> DataError:
    finite = pixels[np.isfinite(pixels)]
    seen = f", from {finite.min():g} to {finite.max():g}" if finite.size else ", none of them finite"
    return DataError(
        f"{name} holds {pixels.dtype}{seen}; unsigned 8 or 16 bits are needed, or the range to scale to them",
        hint="in [fetch.dataset]: intensity_range = [LOW, HIGH], the same for all images: LOW becomes 0, HIGH 65,535",
    )


def write_labels(path: Path, labels: np.ndarray, pixel_um: float | None = None, shows: str = "nuclei") -> None:
    """Write a label image as a compressed OME-TIFF; 0 is the background.

    `pixel_um` is the side of a pixel, where it is known; `shows` becomes the name of the channel.
    """
    import tifffile

    numbers = labels.astype(np.uint16 if labels.max() < 2**16 else np.uint32)
    # described here: tifffile would add a random identifier, and the same labels must give the same bytes
    described = label_image_xml(numbers.shape, str(numbers.dtype), pixel_um, shows)
    write_buffer(
        path,
        lambda buffer: tifffile.imwrite(buffer, numbers, compression="zlib", description=described, metadata=None),
    )


def write_packed_labels(path: Path, labels: np.ndarray) -> None:
    """Write a label image as `write_labels`, packed by Zstandard: ten times as fast as deflate, and as small."""
    import tifffile

    numbers = labels.astype(np.uint16 if labels.max(initial=0) < 2**16 else np.uint32)
    fastest = {"level": 1}
    write_buffer(path, lambda buffer: tifffile.imwrite(buffer, numbers, compression="zstd", compressionargs=fastest))


def read_labels(path: Path) -> Int32[np.ndarray, "y x"]:
    """Return a label image as int32; it may hold whole numbers from 0 up of any type.

    In an image with a palette of colours, the indices into the palette are the labels.
    Raises DataError where the file is missing, cannot be decoded, or holds no such numbers.
    """
    labels = _label_plane(path).pixels
    if not np.isfinite(labels).all() or labels.min() < 0 or (labels != np.rint(labels)).any():
        raise DataError(f"{path} is not a label image: it holds numbers that are negative or not whole")
    if int(labels.max()) > np.iinfo(np.int32).max:  # as a float32 the limit itself would be rounded up
        raise DataError(f"{path} is not a label image: it holds numbers above {np.iinfo(np.int32).max:,}")
    return labels.astype(np.int32)


def _label_plane(path: Path) -> Plane:
    """Return the one plane of an image; DataError with the reason where there is none, more than one, or damage."""
    if fault := image_fault(path):
        raise DataError(f"{path} {fault}")
    with as_data_errors(path):
        with path.open("rb") as file:
            if file.read(4) in TIFF:
                file.seek(0)
                return _large_enough(path, read_tiff(path, file))
        with open_pillow(path) as image:
            return _large_enough(path, image.grey())


def _large_enough(path: Path, plane: Plane) -> Plane:
    rows, columns = plane.pixels.shape
    if min(rows, columns) < 2:
        raise DataError(f"{path} is {rows} x {columns}; {ONE_PLANE}")
    return plane
