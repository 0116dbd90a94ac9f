"""instrument_source: an OME-Zarr image group, CZI, ND2 or LIF file in, its header and any one of its planes out.

openreadout reads all of them. It decodes one plane at a time, and needs NumPy alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cellssl.disk import raise_fault
from cellssl.errors import DataError
from cellssl.images.described import ImageHeader
from cellssl.images.formats import AS_OME_TIFF, OME_ZARR, ZARR_CURE
from cellssl.images.ome_xml import square_pixel, unequal_sides
from cellssl.images.tiff import LARGE_PLANE, check_size, possible_bytes

DTYPES = {"float": "float32", "double": "float64"}
"""Types as OME-XML names them, where numpy's name is another."""
AXES = frozenset("tczyx")


class InstrumentSource:
    """An open file of a microscope, or an open OME-Zarr image group."""

    def __init__(self, path: Path, name: str, file: Any) -> None:
        self._path, self._name, self._file = path, name, file
        self._info: dict[str, Any] = file.info
        self._images = [one for one in self._info["images"] if not one.get("extra", {}).get("label")]
        self._check()

    def header(self, series: int) -> ImageHeader:
        """Return what the metadata says of one image."""
        image = self._image(series)
        names = tuple(str(one.get("name") or one.get("fluorophore") or "") for one in image["channels"])
        objective = image.get("objective", {})
        magnification = objective.get("nominal_magnification")
        size = image.get("physical_size", {})
        mosaic = image.get("mosaic")
        sides_um = [size[axis] for axis in "xy" if axis in size]
        sides = unequal_sides(sides_um)
        return ImageHeader(
            format=self._name,
            rows=image["size_y"],
            columns=image["size_x"],
            dtype=DTYPES.get(image["pixel_type"], image["pixel_type"]),
            channels=image["size_c"],
            z_planes=image["size_z"],
            time_points=image["size_t"],
            samples=image["samples_per_pixel"],
            series=len(self._images),
            channel_names=names if any(names) else (),
            pixel_um=square_pixel(sides_um),
            objective=f"{magnification:g}x" if magnification else objective.get("model"),
            acquired=image.get("acquired_at"),
            extra=({"name": str(image["name"])} if image.get("name") else {})
            | ({"pixel_sides_um": sides} if sides else {})
            | ({"mosaic": f"{mosaic['tile_count']} tiles"} if mosaic else {}),
        )

    def plane(self, series: int, channel: int, z: int, t: int) -> np.ndarray:
        """Return one plane, (y, x) or (y, x, sample)."""
        header = self.header(series)
        size = int(self._info.get("size_bytes") or 0)
        itemsize = header.samples * np.dtype(header.dtype).itemsize
        check_size(self._path, (header.rows, header.columns), itemsize, possible_bytes(LARGE_PLANE, size))
        pixels = self._file.read_plane(image=self._image(series)["index"], c=channel, z=z, t=t)
        if pixels.shape[:2] != (header.rows, header.columns):
            raise DataError(
                f"{self._path} holds a plane of {pixels.shape} where its header says {header.rows} x {header.columns}"
            )
        return np.asarray(pixels)

    def page(self, number: int) -> np.ndarray:
        """Raise DataError: only TIFFs have pages."""
        raise DataError(f"{self._path} is {self._name} and has no pages; choose a channel, z and t")

    def _image(self, series: int) -> dict[str, Any]:
        if series >= len(self._images):
            raise DataError(f"{self._path} holds {len(self._images)} series, numbered from 0; there is no {series}")
        image: dict[str, Any] = self._images[series]
        return image

    def _check(self) -> None:
        """Raise DataError where the file holds no image, or axes that the reader would leave out without a word."""
        if not self._images:
            raise DataError(f"{self._path} is {self._name} and holds no image; {AS_OME_TIFF}")
        if self._name == "OME-Zarr" and "well" in self._images[0].get("extra", {}):
            raise DataError(
                f"{self._path} is a plate or well of OME-Zarr and no image; {ZARR_CURE}: cellssl init FOLDER"
            )
        for image in self._images:
            further = [axis for axis in image.get("extra", {}).get("axes", ()) if axis not in AXES]
            if further:
                raise DataError(f"{self._path} has the axes {', '.join(further)}, which are not read; save each alone")


@contextmanager
def open_instrument(path: Path, name: str) -> Iterator[InstrumentSource]:
    """Open an OME-Zarr image group or the file of a microscope; `name` is that of its format."""
    import openreadout

    try:
        with openreadout.File(path) as file:
            yield InstrumentSource(path, name, file)
    except openreadout.OpenReadoutError as error:
        raise_fault(error, path)
        reason = str(error).partition(" (hint:")[0]
        cure = ZARR_CURE if name == OME_ZARR.name else AS_OME_TIFF
        raise DataError(f"{path} is {name} and cannot be read, or is cut short or damaged: {reason}; {cure}") from error
