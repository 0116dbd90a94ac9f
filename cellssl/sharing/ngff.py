"""ngff: pixels, label images and colours of one field in, an OME-Zarr image with labels in the folder of a plate out.

Version 0.4 on Zarr 2, because more readers take it than 0.5 (https://ngff.openmicroscopy.org/0.4/): napari-ome-zarr and
ome-zarr-py read both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Integer, UInt16

VERSION = "0.4"
SMALLEST_PX = 512
"""Fields whose longer side is above this have a further level of half the size."""
CHUNK_PX = 2048
"""Largest side of a chunk: a file per plane of a usual field, because file systems are slow with many small ones."""
MAKER = "cellssl"
"""Key in the metadata of a plate that says which artifact it was written from."""


@dataclass(frozen=True)
class Channel:
    """How a channel is shown: its name, colour as RRGGBB, and the grey values that are black and white."""

    name: str
    colour: str
    low: float
    high: float


@dataclass(frozen=True)
class LabelColours:
    """What is known of the labels of a field: the colour of each, and its properties."""

    rgb: Mapping[int, tuple[int, int, int]]
    properties: Mapping[int, Mapping[str, Any]]


@dataclass(frozen=True)
class Place:
    """Where a well lies on a plate, as names and as indices from 0."""

    row: str
    column: str
    row_index: int
    column_index: int

    @property
    def path(self) -> str:
        """The folder of the well in that of the plate."""
        return f"{self.row}/{self.column}"


def open_plate(folder: Path, name: str, places: Sequence[Place], fields: int, maker: Mapping[str, str]) -> Any:
    """Return the new group of a plate; `fields` is the largest number of fields of a well."""
    import zarr

    rows = sorted({(place.row_index, place.row) for place in places})
    columns = sorted({(place.column_index, place.column) for place in places})
    wells = [
        {
            "path": place.path,
            "rowIndex": rows.index((place.row_index, place.row)),
            "columnIndex": columns.index((place.column_index, place.column)),
        }
        for place in places
    ]
    plate = {
        "version": VERSION,
        "name": name,
        "rows": [{"name": row} for _, row in rows],
        "columns": [{"name": column} for _, column in columns],
        "wells": wells,
        "field_count": fields,
    }
    attributes: dict[str, Any] = {"plate": plate, MAKER: dict(maker)}
    return zarr.open_group(str(folder), mode="w", zarr_format=2, attributes=attributes)


def open_well(plate: Any, place: Place, fields: int) -> Any:
    """Return the new group of a well."""
    images = [{"path": str(number)} for number in range(fields)]
    return plate.create_group(place.path, attributes={"well": {"version": VERSION, "images": images}})


def write_image(
    well: Any,
    number: int,
    name: str,
    pixels: UInt16[np.ndarray, "c y x"],
    um: float | None,
    channels: Sequence[Channel],
) -> Any:
    """Write a field of a well with all its levels, and return its group; `um` is the side of a pixel, if known."""
    levels = [pixels]
    while max(levels[-1].shape) > SMALLEST_PX:
        levels.append(_halved(levels[-1]))
    image = well.create_group(
        str(number), attributes={**_multiscales(name, "cyx", len(levels), um), **_omero(channels)}
    )
    _write_levels(image, levels)
    return image


def write_labels(
    image: Any, labels: Mapping[str, Integer[np.ndarray, "y x"]], colours: LabelColours, um: float | None
) -> None:
    """Write label images beside the levels of an image, each with the same colours and properties."""
    folder = image.create_group("labels", attributes={"labels": list(labels)})
    for name, numbers in labels.items():
        levels = [numbers.astype(np.uint32)]
        while max(levels[-1].shape) > SMALLEST_PX:
            levels.append(levels[-1][::2, ::2])  # the mean of two labels is another label
        shown = {
            "version": VERSION,
            "colors": [{"label-value": label, "rgba": [*rgb, 255]} for label, rgb in colours.rgb.items()],
            "properties": [{"label-value": label, **known} for label, known in colours.properties.items()],
            "source": {"image": "../../"},
        }
        group = folder.create_group(
            name, attributes={**_multiscales(name, "yx", len(levels), um), "image-label": shown}
        )
        _write_levels(group, levels)


def bytes_of(rows: int, columns: int, channels: int, labels: int) -> int:
    """Return how many bytes a field takes before it is packed, with all its levels."""
    return rows * columns * (2 * channels + 4 * labels) * 4 // 3


def _multiscales(name: str, axes: str, levels: int, um: float | None) -> dict[str, Any]:
    def scale(level: int) -> list[float]:
        side = float(um or 1.0) * 2**level
        return [1.0 if axis == "c" else side for axis in axes]

    unit = {} if um is None else {"unit": "micrometer"}
    described = {
        "version": VERSION,
        "name": name,
        "axes": [
            {"name": "c", "type": "channel"} if axis == "c" else {"name": axis, "type": "space", **unit}
            for axis in axes
        ],
        "datasets": [
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale(level)}]}
            for level in range(levels)
        ],
    }
    return {"multiscales": [described]}


def _omero(channels: Sequence[Channel]) -> dict[str, Any]:
    shown = [
        {
            "label": channel.name,
            "color": channel.colour,
            "active": True,
            "window": {"start": channel.low, "end": channel.high, "min": 0, "max": 65_535},
        }
        for channel in channels
    ]
    return {"omero": {"version": VERSION, "channels": shown, "rdefs": {"model": "color"}}}


def _halved(pixels: UInt16[np.ndarray, "c y x"]) -> UInt16[np.ndarray, "c half_y half_x"]:
    """Return the means of 2 x 2 pixels; the last row and column count twice where there is an odd number."""
    _, rows, columns = pixels.shape
    even = np.pad(pixels, ((0, 0), (0, rows % 2), (0, columns % 2)), mode="edge").astype(np.uint32)
    sums = even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]
    return np.asarray((sums + 2) // 4, np.uint16)


def _write_levels(group: Any, levels: Sequence[np.ndarray]) -> None:
    from numcodecs import Blosc

    for number, level in enumerate(levels):
        *before, rows, columns = level.shape
        group.create_array(
            str(number),
            data=np.ascontiguousarray(level),
            chunks=(*(1 for _ in before), min(rows, CHUNK_PX), min(columns, CHUNK_PX)),
            chunk_key_encoding={"name": "v2", "separator": "/"},
            compressors=Blosc(cname="zstd", clevel=3, shuffle=Blosc.SHUFFLE),
        )
