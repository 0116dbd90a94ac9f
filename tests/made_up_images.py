"""Small made-up image files of several channels, z planes and time points, as other libraries write them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
import zarr
from ome_zarr import writer
from ome_zarr.format import FormatV04, FormatV05

from cellssl.randomness import generator

TCZYX = generator("tests", "planes").integers(0, 60_000, (2, 3, 4, 32, 48)).astype(np.uint16)
NAMES = ("DAPI", "Tubulin", "Actin")
Writer = Callable[[Path], object]


def ome_tiff(axes: str, **how: object) -> Writer:
    """Return a writer of an OME-TIFF with its axes in this order."""
    pixels = TCZYX.transpose(["TCZYX".index(axis) for axis in axes])
    metadata = {"axes": axes, "Channel": {"Name": list(NAMES)}}
    return lambda path: tifffile.imwrite(path, pixels, ome=True, metadata=metadata, photometric="minisblack", **how)


def imagej(**how: object) -> Writer:
    return lambda path: tifffile.imwrite(path, TCZYX.transpose(0, 2, 1, 3, 4), imagej=True, **how)


def ome_zarr(version: str) -> Writer:
    """Return a writer of an OME-Zarr image group, with two reduced copies and the names of its channels."""

    def write(path: Path) -> None:
        form, number = (FormatV04(), 2) if version == "0.4" else (FormatV05(), 3)
        group = zarr.open_group(str(path), mode="w", zarr_format=number)
        writer.write_image(
            TCZYX, group, axes="tczyx", fmt=form, scale_factors=[2], storage_options={"chunks": (1, 1, 1, 16, 24)}
        )
        names = {"channels": [{"label": name, "color": "FFFFFF"} for name in NAMES]}
        if version == "0.4":
            group.attrs["omero"] = names
        else:
            group.attrs["ome"] = {**group.attrs["ome"], "omero": names}

    return write


NAMED: dict[str, Writer] = {
    "tczyx.ome.tif": ome_tiff("TCZYX"),
    "ztcyx.ome.tif": ome_tiff("ZTCYX"),
    "tiles.ome.tif": ome_tiff("CZTYX", tile=(16, 16), compression="zlib"),
    "big.ome.tif": ome_tiff("TZCYX", bigtiff=True, byteorder=">"),
    "0.4.zarr": ome_zarr("0.4"),
    "0.5.zarr": ome_zarr("0.5"),
}
NUMBERED: dict[str, Writer] = {
    "imagej.tif": imagej(),
    "imagej of one page.tif": imagej(truncate=True),
    "axes of tifffile.tif": lambda path: tifffile.imwrite(
        path, TCZYX, metadata={"axes": "TCZYX"}, photometric="minisblack"
    ),
}


def ome_set(folder: Path) -> list[Path]:
    """Write an OME-TIFF set of one file per channel, each with its z planes; every file describes the whole set."""
    planes = "".join(
        f'<TiffData FirstC="{c}" FirstZ="{z}" IFD="{z}" PlaneCount="1"><UUID FileName="c{c}.ome.tif">urn:uuid:{c}'
        "</UUID></TiffData>"
        for c in range(3)
        for z in range(4)
    )
    named = "".join(f'<Channel ID="Channel:0:{number}" Name="{name}"/>' for number, name in enumerate(NAMES))
    pixels = (
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="48" SizeY="32" SizeC="3" SizeZ="4" '
        f'SizeT="1" PhysicalSizeX="325" PhysicalSizeXUnit="nm">{named}{planes}</Pixels>'
    )
    root = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    for number in range(3):
        xml = f'<?xml version="1.0"?><OME {root} UUID="urn:uuid:{number}"><Image ID="Image:0">{pixels}</Image></OME>'
        path = folder / f"c{number}.ome.tif"
        tifffile.imwrite(path, TCZYX[0, number], description=xml, metadata=None, photometric="minisblack")
    return [folder / f"c{number}.ome.tif" for number in range(3)]
