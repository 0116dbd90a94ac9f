"""tiff_source: the path of a TIFF in, its header and any one of its planes out; no other plane is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellssl.errors import DataError
from cellssl.images.described import ImageHeader
from cellssl.images.tiff import PHOTOMETRIC, check_whole, in_colour, read_page, silenced
from cellssl.images.tiff_layout import Place, TiffLayout, layout_of

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage


class TiffSource:
    """An open TIFF file."""

    def __init__(self, path: Path, tiff: TiffFile) -> None:
        self._path, self._tiff = path, tiff
        self._layout: TiffLayout = layout_of(path, tiff)

    def header(self, series: int) -> ImageHeader:
        """Return what the tags say of one image."""
        layout = self._layout
        if series >= len(layout.images):
            raise DataError(f"{self._path} holds {len(layout.images)} series, numbered from 0; there is no {series}")
        image = layout.images[series]
        page = self._page(min(image.places.values(), key=lambda place: place.page, default=layout.pages[0]))
        check_whole(self._path, self._tiff, page)
        return ImageHeader(
            format=layout.format,
            rows=page.imagelength,
            columns=page.imagewidth,
            dtype=str(page.dtype),
            channels=image.channels,
            z_planes=image.z_planes,
            time_points=image.time_points,
            samples=page.samplesperpixel,
            series=len(layout.images),
            pages=len(layout.pages),
            channel_names=image.channel_names,
            pixel_um=image.pixel_um,
            objective=image.objective,
            acquired=image.acquired,
            extra=layout.extra,
        )

    def plane(self, series: int, channel: int, z: int, t: int) -> np.ndarray:
        """Return one plane, (y, x) or (y, x, sample)."""
        image = self._layout.images[series]
        if not image.places:
            return self.page(0)
        if (channel, z, t) not in image.places:
            where = image.other_files.get((channel, z, t))
            held = f"it is in {where}, so name that file" if where else "the file was written in part, or cut short"
            raise DataError(f"{self._path} does not hold channel {channel}, z {z}, t {t} of its set: {held}")
        return self._read(image.places[channel, z, t])

    def page(self, number: int) -> np.ndarray:
        """Return the plane with this number in the order of the file."""
        return self._read(self._layout.pages[number])

    def _read(self, place: Place) -> np.ndarray:
        page = self._page(place)
        pixels = read_page(self._path, self._tiff, page, place.plane)
        return _without_alpha(self._path, page, pixels)

    def _page(self, place: Place) -> TiffPage:
        from tifffile import TiffPage

        page = self._tiff.pages[place.page]
        assert isinstance(page, TiffPage)
        return page


def _without_alpha(path: Path, page: TiffPage, pixels: np.ndarray) -> np.ndarray:
    """Return the pixels without a transparency that hides nothing; DataError where it hides something."""
    if pixels.ndim == 2 or not page.extrasamples or int(page.extrasamples[-1]) not in (1, 2):
        return pixels
    if page.photometric not in (1, 2) and PHOTOMETRIC in page.tags:
        raise in_colour(path, "in colour or transparent")
    return opaque(path, pixels)


def opaque(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Return (y, x, sample) without the last sample, a transparency; DataError where it is not opaque everywhere."""
    highest = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1
    if (pixels[..., -1] != highest).any():
        raise DataError(
            f"{path} is transparent in places, so that its grey values depend on the background; save it opaque"
        )
    return pixels[..., :-1]


@contextmanager
def open_tiff(path: Path) -> Iterator[TiffSource]:
    """Open a TIFF file."""
    import tifffile

    with path.open("rb") as file, silenced("tifffile"), tifffile.TiffFile(file) as tiff:
        yield TiffSource(path, tiff)
