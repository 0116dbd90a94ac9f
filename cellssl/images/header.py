"""header: the path of an image in, what its header says of axes, type, channels and pixel size out."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cellssl.errors import DataError
from cellssl.images.reading import TIFF, as_data_errors, image_fault


@dataclass(frozen=True)
class ImageHeader:
    """What the header of one image of a file says; no pixel is decoded for it."""

    format: str
    """Name of the format in words, such as "TIFF", "OME-TIFF", "PNG", "OME-Zarr", "Zeiss CZI"."""
    rows: int
    """Height in pixels."""
    columns: int
    """Width in pixels."""
    dtype: str
    """numpy's name of the type of a pixel, such as "uint16"."""
    channels: int = 1
    """Number of channels; 1 for a grey plane."""
    z_planes: int = 1
    """Number of z planes."""
    time_points: int = 1
    """Number of time points."""
    samples: int = 1
    """Colours in each pixel: 3 for RGB."""
    series: int = 1
    """Number of images in the file: scenes, positions or series."""
    pages: int = 1
    """Number of pages of a TIFF that are no reduced copies of others; 1 for other formats."""
    channel_names: tuple[str, ...] = ()
    """Names of the channels, in order; empty where the file gives none."""
    pixel_um: float | None = None
    """Side of a pixel in micrometres; None where the file does not say it."""
    objective: str | None = None
    """The objective, such as "20x"; None where the file does not say it."""
    acquired: str | None = None
    """When the image was taken, as the file says it; None where it does not."""
    extra: dict[str, str] = field(default_factory=dict)
    """Further facts that a file states, such as its binning."""


def read_header(path: Path, series: int = 0) -> ImageHeader:
    """Return what the header of an image says; reads no pixels.

    `path` is a file, or the folder of an OME-Zarr image. Raises DataError with the reason where the file is not there,
    damaged, or of a format that is not read; the format is named where it is known.
    """
    if fault := image_fault(path):
        raise DataError(f"{path} {fault}")
    with as_data_errors(path), path.open("rb") as file:
        head = file.read(4)
        file.seek(0)
        return _tiff_header(file, series) if head in TIFF else _pillow_header(file)


def _tiff_header(file: BinaryIO, series: int) -> ImageHeader:
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        images = [one for one in tiff.series if one.kind != "thumbnail"] or list(tiff.series)
        image = images[series]
        sizes = dict(zip(image.axes, image.shape, strict=True))
        return ImageHeader(
            format="OME-TIFF" if tiff.is_ome else "TIFF",
            rows=sizes["Y"],
            columns=sizes["X"],
            dtype=str(image.dtype),
            channels=sizes.get("C", 1),
            z_planes=sizes.get("Z", 1),
            time_points=sizes.get("T", 1),
            samples=sizes.get("S", 1),
            series=len(images),
            pages=len(image.pages),
        )


def _pillow_header(file: BinaryIO) -> ImageHeader:
    from PIL import Image

    with Image.open(file) as image:
        dtype = "uint16" if image.mode.startswith("I") else "uint8"
        samples = len(image.getbands())
        return ImageHeader(str(image.format), image.height, image.width, dtype, samples=samples)
