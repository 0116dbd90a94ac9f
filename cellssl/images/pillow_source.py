"""pillow_source: the path of a PNG, BMP or JPEG file in, its header and its pixels out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cellssl.errors import DataError
from cellssl.images.described import ImageHeader
from cellssl.images.tiff import ONE_PLANE, PACKED_AT_MOST, Plane, check_size, in_colour, possible_bytes
from cellssl.images.tiff_source import opaque

GREY = ("L", "P", "I", "I;16", "I;16B")
COLOUR = ("RGB", "RGBA", "YCbCr", "LA")
DEEP = ("RGB;16B", "RGBA;16B", "LA;16B")
"""How Pillow calls 16 bits per colour in a PNG, which it would cut down to 8."""


class PillowSource:
    """An open PNG, BMP or JPEG file."""

    def __init__(self, path: Path, image: Any) -> None:
        self._path, self._image = path, image

    def header(self, series: int) -> ImageHeader:
        """Return what the header says."""
        image = self._image
        deep = image.mode.startswith("I") or self._raw_mode() in DEEP
        dpi = image.info.get("dpi")
        return ImageHeader(
            str(image.format),
            image.height,
            image.width,
            "uint16" if deep else "uint8",
            samples=len(image.getbands()) if image.mode in COLOUR else 1,
            extra={"dpi": f"{dpi[0]:g} x {dpi[1]:g}"} if isinstance(dpi, tuple) and len(dpi) == 2 else {},
        )

    def plane(self, series: int, channel: int, z: int, t: int) -> np.ndarray:
        """Return the pixels, (y, x) or (y, x, sample)."""
        pixels, indexed = self.grey() if self._image.mode not in COLOUR else (self._colours(), False)
        if indexed:
            raise DataError(f"{self._path} holds indices into a palette of colours and no grey values; save it as grey")
        return pixels

    def page(self, number: int) -> np.ndarray:
        """Return the pixels."""
        return self.plane(0, 0, 0, 0)

    def grey(self) -> Plane:
        """Return the one plane of grey values or indices; DataError where there is none."""
        path, image = self._path, self._image
        self._check_frames()
        if image.mode in ("RGB", "RGBA", "YCbCr"):
            raise in_colour(path, f"an RGB image{' with transparency' if image.mode == 'RGBA' else ''}")
        if image.mode not in GREY:
            raise DataError(f"{path} is in colour or has 1 bit per pixel (Pillow mode {image.mode}); {ONE_PLANE}")
        if self._raw_mode() in ("L;2", "L;4"):  # Pillow would scale them up to 8 bits
            raise DataError(f"{path} holds pixels of fewer than 8 bits; save it with 8 or 16 bits")
        self._check_size(1 if image.mode in ("L", "P") else 2)
        pixels = np.asarray(image)
        return Plane(pixels.astype(np.uint16) if image.mode.startswith("I") else pixels, image.mode == "P")

    def _colours(self) -> np.ndarray:
        self._check_frames()
        is_deep, bands = self._raw_mode() in DEEP, self._image.getbands()
        self._check_size(len(bands) * (2 if is_deep else 1))
        if is_deep:
            import imagecodecs

            pixels = np.asarray(imagecodecs.png_decode(self._path.read_bytes()))
        else:
            pixels = np.asarray(self._image)
        pixels = opaque(self._path, pixels) if bands[-1] == "A" else pixels
        return pixels[..., 0] if pixels.shape[-1] == 1 else pixels

    def _raw_mode(self) -> str:
        """Return how the pixels are stored, in Pillow's words."""
        tile = self._image.tile
        args = tile[0][3] if tile else ""
        return str(args[0] if isinstance(args, tuple) else args)

    def _check_frames(self) -> None:
        frames = getattr(self._image, "n_frames", 1)
        if frames > 1:
            raise DataError(f"{self._path} is a stack of {frames} images; {ONE_PLANE}")

    def _check_size(self, itemsize: int) -> None:
        size = self._path.stat().st_size
        most = possible_bytes(size * PACKED_AT_MOST, size)
        check_size(self._path, (self._image.height, self._image.width), itemsize, most)


@contextmanager
def open_pillow(path: Path) -> Iterator[PillowSource]:
    """Open a PNG, BMP or JPEG file."""
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    # The classes themselves, because Image.open refuses more than 179 million pixels, which a stitched well may have.
    kinds: dict[bytes, Any] = {b"\x89PNG": PngImageFile, b"BM": BmpImageFile, b"\xff\xd8": JpegImageFile}
    with path.open("rb") as file, _kind(path, file, kinds)(file) as image:
        yield PillowSource(path, image)


def _kind(path: Path, file: BinaryIO, kinds: dict[bytes, Any]) -> Any:
    head = file.read(4)
    file.seek(0)
    kind = next((kind for magic, kind in kinds.items() if head.startswith(magic)), None)
    if kind is None:
        raise DataError(f"{path} is empty" if not head else f"{path} is not a TIFF, PNG, BMP or JPEG image")
    return kind
