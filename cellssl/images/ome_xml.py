"""ome_xml: the OME-XML of a TIFF in; its images, with the page of this file that holds each plane, out; and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from xml.etree import ElementTree

MICROMETRES = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "Å": 1e-4}
"""Unit of length -> micrometres; both characters for the Greek letter are in use."""
LONGEST = 2**24
"""Characters of OME-XML that are read: the tables of a set of 50,000 files have as many."""
MOST_PLANES = 2**18
"""Planes that one image may claim."""
Index = tuple[int, int, int]
"""Numbers of channel, z plane and time point."""


@dataclass(frozen=True)
class OmeImage:
    """One image (series) of an OME-TIFF."""

    channels: int
    z_planes: int
    time_points: int
    channel_names: tuple[str, ...] = ()
    pixel_um: float | None = None
    pixel_sides_um: str = ""
    """The sides of a pixel in micrometres, such as "0.5 x 1", where they differ."""
    objective: str | None = None
    acquired: str | None = None
    pages: dict[Index, int] = field(default_factory=dict)
    """Plane -> number of the page in this file that holds it."""
    other_files: dict[Index, str] = field(default_factory=dict)
    """Plane -> the name of the other file of the set that holds it."""


def ome_images(xml: str, file_name: str) -> list[OmeImage]:
    """Return the images of which this file holds at least one plane.

    A set of files repeats one description in each of them; `file_name` tells which part is in this file. Raises
    ValueError (or the ParseError of ElementTree) where the XML is damaged.
    """
    if len(xml) > LONGEST or "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise ValueError("its OME-XML is too long, or declares entities")
    root = ElementTree.fromstring(xml)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # the namespace has the year of the schema in it
    names = {uuid.get("FileName") for uuid in root.iter("UUID")}
    own = _Own(file_name if file_name in names else None, root.get("UUID"))
    objectives = {one.get("ID"): one for one in root.iter("Objective")}
    found = [_image(image, own, objectives) for image in root.iter("Image")]
    return [image for image in found if image is not None and image.pages]


@dataclass(frozen=True)
class _Own:
    """How this file is called in the description."""

    name: str | None
    uuid: str | None

    def holds(self, data: ElementTree.Element) -> bool:
        uuid = data.find("UUID")
        if uuid is None:
            return True
        if self.name is not None:
            return uuid.get("FileName") == self.name
        return uuid.text is not None and uuid.text == self.uuid


def _image(image: ElementTree.Element, own: _Own, objectives: dict[str | None, ElementTree.Element]) -> OmeImage | None:
    pixels = image.find("Pixels")
    if pixels is None:
        return None
    channels = pixels.findall("Channel")
    size = {axis: int(pixels.get(f"Size{axis}", "1")) for axis in "CZT"}
    samples = sum(int(channel.get("SamplesPerPixel", "1")) for channel in channels)
    if channels and samples == size["C"]:
        size["C"] = len(channels)  # the colours of an RGB channel are one plane
    if min(size.values()) < 1 or size["C"] * size["Z"] * size["T"] > MOST_PLANES:
        raise ValueError("its OME-XML names sizes that no file has")
    names = tuple(channel.get("Name") or channel.get("Fluor") or "" for channel in channels)
    date = image.find("AcquisitionDate")
    found = OmeImage(
        size["C"],
        size["Z"],
        size["T"],
        names if any(names) and len(names) == size["C"] else (),
        square_pixel(sides := _sides_um(pixels)),
        unequal_sides(sides),
        _objective(image, objectives),
        date.text if date is not None else None,
    )
    for place, page, data in _planes(pixels, size):
        if own.holds(data):
            found.pages.setdefault(place, page)
        else:
            uuid = data.find("UUID")
            found.other_files.setdefault(place, (uuid.get("FileName") if uuid is not None else None) or "another file")
    return found


def _planes(pixels: ElementTree.Element, size: dict[str, int]) -> Iterator[tuple[Index, int, ElementTree.Element]]:
    """Yield every plane, the number of its page in its file, and the element TiffData that says so."""
    order = pixels.get("DimensionOrder", "XYCZT")[2:]
    if sorted(order) != ["C", "T", "Z"]:
        raise ValueError(f"its OME-XML names the DimensionOrder {order!r}")
    places = [
        dict(zip(order[::-1], numbers, strict=True)) for numbers in product(*(range(size[a]) for a in order[::-1]))
    ]
    start_of = {(place["C"], place["Z"], place["T"]): number for number, place in enumerate(places)}
    given = pixels.findall("TiffData") or [ElementTree.Element("TiffData")]
    for data in given:
        index = tuple(int(data.get(f"First{axis}", "0")) for axis in "CZT")
        page, first = int(data.get("IFD", "0")), start_of.get((index[0], index[1], index[2]))
        if first is None:
            raise ValueError("its OME-XML names a plane that the image does not have")
        count = int(data.get("PlaneCount", "1" if data.get("IFD") is not None else str(len(places) - first)))
        for offset, place in enumerate(places[first : first + count]):
            yield (place["C"], place["Z"], place["T"]), page + offset, data


def _sides_um(pixels: ElementTree.Element) -> list[float]:
    sides = [pixels.get(f"PhysicalSize{axis}") for axis in "XY"]
    units = [pixels.get(f"PhysicalSize{axis}Unit", "µm") for axis in "XY"]
    if sides[0] is None or units[0] not in MICROMETRES:
        return []
    return [
        float(side) * MICROMETRES[unit] for side, unit in zip(sides, units, strict=True) if side and unit in MICROMETRES
    ]


def square_pixel(sides_um: list[float]) -> float | None:
    """Return the side of a pixel in micrometres; None where height and width differ, or there is no such number."""
    if not sides_um or not all(0 < side < 1_000 for side in sides_um):
        return None
    return round(sides_um[0], 6) if max(sides_um) <= 1.01 * min(sides_um) else None


def unequal_sides(sides_um: list[float]) -> str:
    """Return the sides of a pixel as words, such as "0.5 x 1", where they differ; else ""."""
    whole = len(sides_um) == 2 and all(0 < side < 1_000 for side in sides_um)
    return f"{sides_um[0]:g} x {sides_um[1]:g}" if whole and square_pixel(sides_um) is None else ""


def _objective(image: ElementTree.Element, objectives: dict[str | None, ElementTree.Element]) -> str | None:
    used = image.find("ObjectiveSettings")
    lens = objectives.get(used.get("ID")) if used is not None else None
    if lens is None:
        return None
    magnification = lens.get("NominalMagnification")
    return f"{float(magnification):g}x" if magnification else lens.get("Model")


def label_image_xml(shape: tuple[int, ...], dtype: str, pixel_um: float | None, shows: str) -> str:
    """Return the OME-XML of a file with one plane of labels, such as uint16; `shows` names what is labelled."""
    space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    instance = "http://www.w3.org/2001/XMLSchema-instance"
    root = ElementTree.Element(
        "OME", {"xmlns": space, "xmlns:xsi": instance, "xsi:schemaLocation": f"{space} {space}/ome.xsd"}
    )
    image = ElementTree.SubElement(root, "Image", {"ID": "Image:0", "Name": shows})
    sizes = {"SizeX": str(shape[1]), "SizeY": str(shape[0]), "SizeC": "1", "SizeZ": "1", "SizeT": "1"}
    sides = {} if pixel_um is None else {f"PhysicalSize{axis}": repr(float(pixel_um)) for axis in "XY"}  # micrometres
    facts = {"ID": "Pixels:0", "DimensionOrder": "XYCZT", "Type": dtype, **sizes, **sides}
    pixels = ElementTree.SubElement(image, "Pixels", facts)
    ElementTree.SubElement(pixels, "Channel", {"ID": "Channel:0:0", "Name": shows, "SamplesPerPixel": "1"})
    ElementTree.SubElement(pixels, "TiffData", {"IFD": "0", "PlaneCount": "1"})
    return '<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(root, encoding="unicode")
