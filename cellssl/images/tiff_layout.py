"""tiff_layout: an open TIFF file in, its images out: their axes, and the page that holds each of their planes.

Programs describe stacks in four ways: OME-XML, the text of ImageJ, the tags of MetaMorph, the JSON of tifffile. Where
none of them is there, or it contradicts the pages, the pages have no names and are chosen by number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellssl.errors import DataError
from cellssl.images.ome_xml import MICROMETRES, MOST_PLANES, Index, OmeImage, ome_images, square_pixel
from cellssl.images.plain_tiff import UM_PER_RESOLUTION_UNIT, described_in_lines, pixel_of_resolution
from cellssl.images.tiff import PLANES_OF_METAMORPH, check_last, whole_pages

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

LONG_DESCRIPTION = 2**22
"""Characters of OME-XML that are read for a file of one page, where it can tell no more than names and pixel size."""


@dataclass(frozen=True)
class Place:
    """Where a plane lies: the page, and how many planes after the page's own one."""

    page: int
    plane: int = 0


@dataclass(frozen=True)
class TiffImage:
    """One image of the file: its axes, and the place of every plane by (channel, z, time point)."""

    channels: int = 1
    z_planes: int = 1
    time_points: int = 1
    places: dict[Index, Place] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    pixel_um: float | None = None
    objective: str | None = None
    acquired: str | None = None
    other_files: dict[Index, str] = field(default_factory=dict)
    """Planes that lie in other files of the set, and their names."""


@dataclass(frozen=True)
class TiffLayout:
    """What the descriptions of a TIFF say of its pages."""

    format: str
    images: tuple[TiffImage, ...]
    pages: tuple[Place, ...]
    """All planes in the order of the file."""
    extra: dict[str, str] = field(default_factory=dict)


def layout_of(path: Path, tiff: TiffFile) -> TiffLayout:
    """Return how the pages of a TIFF make images.

    Raises DataError where it holds no page, or was cut short between pages.
    """
    count = len(tiff.pages)
    if not count:
        raise DataError(f"{path} holds no image: it is cut short or damaged")
    first = tiff.pages.first
    check_last(path, tiff)
    described = TiffLayout("TIFF", (), ())
    if first.is_ome:
        described = _of_ome(path, tiff, count)
    elif first.is_imagej and tiff.imagej_metadata is not None:
        described = _of_imagej(tiff, first, count, tiff.imagej_metadata)
    elif first.description.startswith("<MetaData>") and _planes_of_metamorph(first) == 1:
        described = _of_metaseries(first)
    elif first.is_stk or PLANES_OF_METAMORPH in first.tags:
        described = _of_metamorph(path, tiff, first, count)
    elif first.is_shaped and tiff.shaped_metadata:
        described = _of_shape(first, count, tiff.shaped_metadata)
    pages = described.pages
    if not pages:
        whole = list(whole_pages(path, tiff))
        pages = tuple(Place(page.index) for page in whole)
        sizes = dict.fromkeys(f"{page.imagelength} x {page.imagewidth}" for page in whole)
        if len(sizes) > 1:
            described = replace(described, extra={**described.extra, "sizes": " and ".join(list(sizes)[:4])})
    images = tuple(_completed(image, first) for image in described.images or (TiffImage(),))
    if len(pages) == 1:  # whatever a description says of other planes: there is one
        images = (replace(images[0], channels=1, z_planes=1, time_points=1, places={}),)
    return replace(described, images=images, pages=pages)


def _completed(image: TiffImage, first: TiffPage) -> TiffImage:
    """Return the image with pixel size and date from the plain tags, where its description has none."""
    return replace(
        image, pixel_um=image.pixel_um or _pixel_of_tags(first), acquired=image.acquired or _text(first, "DateTime")
    )


def _pixel_of_tags(page: TiffPage) -> float | None:
    return pixel_of_resolution(UM_PER_RESOLUTION_UNIT.get(int(_value(page, "ResolutionUnit", 1))), _resolutions(page))


def _resolutions(page: TiffPage) -> list[float]:
    """Return the pixels per unit in both directions, as far as they are given."""
    pairs = [_value(page, name, None) for name in ("XResolution", "YResolution")]
    return [pair[0] / pair[1] for pair in pairs if isinstance(pair, tuple) and len(pair) == 2 and min(pair) > 0]


def _value(page: TiffPage, name: str, default: Any) -> Any:
    tag = page.tags.get(name)
    return default if tag is None else tag.value


def _text(page: TiffPage, name: str) -> str | None:
    value = _value(page, name, None)
    return value.strip() or None if isinstance(value, str) else None


def _of_ome(path: Path, tiff: TiffFile, count: int) -> TiffLayout:
    xml = tiff.pages.first.description
    if count == 1 and len(xml) > LONG_DESCRIPTION:
        return TiffLayout("OME-TIFF", (), ())
    try:
        found = ome_images(xml, path.name)
    except Exception as error:  # ElementTree and int() raise errors of many kinds about a damaged text
        return TiffLayout("OME-TIFF", (), (), {"doubtful": f"its OME-XML cannot be read: {error}"})
    highest = max((page for image in found for page in image.pages.values()), default=0)
    if count > 1 and (not found or highest >= count):
        what = f"its OME-XML describes {highest + 1:,} pages" if found else "its OME-XML is in another file"
        return TiffLayout("OME-TIFF", (), (), {"doubtful": f"{what}, and the file holds {count:,}"})
    pages = tuple(Place(number) for number in range(count)) if count > 1 else ()
    sides = next((image.pixel_sides_um for image in found if image.pixel_sides_um), "")
    extra = {"pixel_sides_um": sides} if sides else {}
    return TiffLayout("OME-TIFF", tuple(map(_from_ome, found)), pages, extra)


def _from_ome(image: OmeImage) -> TiffImage:
    """Return the image; an axis of which this file holds one number only, as in sets of one file per channel, is 1."""
    held = [sorted({index[axis] for index in image.pages}) for axis in range(3)]
    sizes = [image.channels, image.z_planes, image.time_points]
    names = image.channel_names
    if len(held[0]) == 1 and names:
        names = (names[held[0][0]],)
    places = {}
    for index, page in image.pages.items():
        c, z, t = (0 if len(of_axis) == 1 else number for of_axis, number in zip(held, index, strict=True))
        places[c, z, t] = Place(page)
    sizes = [1 if len(of_axis) == 1 else size for of_axis, size in zip(held, sizes, strict=True)]
    facts = (names, image.pixel_um, image.objective, image.acquired, image.other_files)
    return TiffImage(sizes[0], sizes[1], sizes[2], places, *facts)


def _of_imagej(tiff: TiffFile, first: TiffPage, count: int, given: dict[str, Any]) -> TiffLayout:
    size = {axis: int(given.get(name, 1)) for axis, name in zip("CZT", ("channels", "slices", "frames"), strict=True)}
    if size["C"] > 1 and size["C"] == first.samplesperpixel:
        size["C"] = 1  # the colours of one page, which Bio-Formats counts as channels
    planes = math.prod(size.values())
    stored = int(given.get("images", planes))
    pixel = _pixel_of_imagej(first, given)
    if min(size.values()) < 1 or planes != max(stored, 1) or not _holds(tiff, first, count, planes):
        what = f"ImageJ's text describes {planes:,} planes, and the file holds {max(count, stored):,}"
        in_one_page = _planes_in_page(tiff, first, stored) if count == 1 and stored > 1 else ()
        alone = count == 1 and not in_one_page
        return TiffLayout("ImageJ TIFF", (TiffImage(pixel_um=pixel),), in_one_page, {} if alone else {"doubtful": what})
    order = str(given.get("order", "czt")).upper()
    order = order if sorted(order) == ["C", "T", "Z"] else "CZT"  # the first changes fastest
    pages = _places(count, planes)
    image = TiffImage(size["C"], size["Z"], size["T"], _by_index(order, size, pages), _labels(given, size), pixel)
    return TiffLayout("ImageJ TIFF", (image,), pages)


def _holds(tiff: TiffFile, page: TiffPage, count: int, planes: int) -> bool:
    """Return whether the file has a page for every plane, or one page with all planes behind each other."""
    return count == planes or (count == 1 and bool(_planes_in_page(tiff, page, planes)))


def _planes_in_page(tiff: TiffFile, page: TiffPage, planes: int) -> tuple[Place, ...]:
    """Return the places of planes that lie behind each other after one page; none where the file is too short."""
    size = page.imagelength * page.imagewidth * page.samplesperpixel * (page.bitspersample // 8)
    fits = page.is_contiguous and page.dataoffsets and page.dataoffsets[0] + planes * size <= tiff.filehandle.size
    fits = fits and planes <= MOST_PLANES
    return tuple(Place(0, number) for number in range(planes)) if fits and size else ()


def _places(count: int, planes: int) -> tuple[Place, ...]:
    return tuple(Place(0, number) if count == 1 else Place(number) for number in range(planes))


def _by_index(order: str, size: dict[str, int], places: tuple[Place, ...]) -> dict[Index, Place]:
    """Return the place of every (channel, z, time point), where the first axis of `order` changes fastest."""
    numbers = product(*(range(size[axis]) for axis in order[::-1]))
    indices = (dict(zip(order[::-1], each, strict=True)) for each in numbers)
    return {(one["C"], one["Z"], one["T"]): place for one, place in zip(indices, places, strict=True)}


def _labels(given: dict[str, Any], size: dict[str, int]) -> tuple[str, ...]:
    """Return ImageJ's labels of the planes as the names of channels, where each plane is a channel."""
    labels = given.get("Labels")
    if not isinstance(labels, list) or size["Z"] * size["T"] > 1 or len(labels) != size["C"] or size["C"] == 1:
        return ()
    names = tuple(str(label).strip() for label in labels)
    return names if all(names) and len(set(names)) == len(names) else ()


def _pixel_of_imagej(page: TiffPage, given: dict[str, Any]) -> float | None:
    unit = MICROMETRES.get(str(given.get("unit", "")).replace("\\u00B5", "µ").strip())
    return square_pixel([unit / each for each in _resolutions(page)]) if unit is not None else None


def _of_metamorph(path: Path, tiff: TiffFile, first: TiffPage, count: int) -> TiffLayout:
    value = _value(first, "UIC1tag", None)
    given: dict[str, Any] = value if isinstance(value, dict) else {}
    planes = _planes_of_metamorph(first)
    image = TiffImage(
        channel_names=(str(given["Name"]).strip(),) if str(given.get("Name") or "").strip() else (),
        pixel_um=_pixel_of_metamorph(given),
        acquired=_text(first, "DateTime"),
    )
    extra = described_in_lines(first.description)
    if planes == 1 or count > 1:
        return TiffLayout("MetaMorph TIFF", (image,), (), extra)
    places = _planes_in_page(tiff, first, planes)
    if not places:
        raise DataError(f"{path} is a MetaMorph stack of {planes} planes that is compressed, or cut short")
    axis = _axis_of_metamorph(tiff.stk_metadata or {}, planes)
    if axis is None:
        return TiffLayout("MetaMorph stack", (image,), places, extra)
    size = {"C": 1, "Z": 1, "T": 1, axis: planes}
    named = replace(image, z_planes=size["Z"], time_points=size["T"], places=_by_index("CZT", size, places))
    return TiffLayout("MetaMorph stack", (named,), places, extra)


def _planes_of_metamorph(first: TiffPage) -> int:
    tag = first.tags.get(PLANES_OF_METAMORPH)
    return 1 if tag is None else int(tag.count)


def _pixel_of_metamorph(given: dict[str, Any]) -> float | None:
    unit = MICROMETRES.get(str(given.get("CalibrationUnits", "")).strip("\0 "))
    if unit is None or not given.get("SpatialCalibration", 1):
        return None
    sides = (given.get("XCalibration"), given.get("YCalibration"))
    return square_pixel([float(side) * unit for side in sides if side is not None])


def _axis_of_metamorph(given: dict[str, Any], planes: int) -> str | None:
    """Return the axis of a stack: z where every plane has a distance, time where the times differ; else unknown."""
    distances, times = given.get("ZDistance"), given.get("TimeCreated")
    if distances is not None and len(distances) == planes and all(distance != 0 for distance in distances):
        return "Z"
    if times is not None and len(times) == planes and len({str(time) for time in times}) == planes:
        return "T"
    return None


def _of_metaseries(first: TiffPage) -> TiffLayout:
    """Return what the XML of MetaXpress and newer MetaMorph says; nothing where it is damaged."""
    from tifffile.tifffile import metaseries_description_metadata

    try:
        given = metaseries_description_metadata(first.description).get("PlaneInfo", {})
    except Exception:  # it names facts about the plane, and the plane can be read without them
        given = {}
    unit = MICROMETRES.get(str(given.get("spatial-calibration-units", "")))
    sides = [given.get(f"spatial-calibration-{axis}") for axis in "xy"]
    known = unit is not None and str(given.get("spatial-calibration-state", "on")).lower() not in ("off", "false")
    name = str(given.get("_IllumSetting_") or given.get("image-name") or "").strip()
    objective = str(given.get("_MagSetting_") or "").strip()
    image = TiffImage(
        channel_names=(name,) if name else (),
        pixel_um=square_pixel([float(side) * (unit or 0) for side in sides if side]) if known else None,
        objective=objective or None,
        acquired=str(given.get("acquisition-time-local") or "").strip() or None,
    )
    binning = given.get("camera-binning-x"), given.get("camera-binning-y")
    return TiffLayout(
        "MetaMorph TIFF", (image,), (), {"binning": f"{binning[0]} x {binning[1]}"} if all(binning) else {}
    )


def _of_shape(first: TiffPage, count: int, given: tuple[dict[str, Any], ...]) -> TiffLayout:
    """Return what tifffile writes: the shape of the array, and the names of its axes where they were given."""
    shape = [int(length) for length in given[0].get("shape", ())]
    plane = first.imagelength * first.imagewidth * first.samplesperpixel
    planes = math.prod(shape) // plane if plane else 0
    if len(given) > 1 or planes < 2 or count not in (1, planes) or math.prod(shape) != planes * plane:
        return TiffLayout("TIFF", (), ())
    if count == 1 and not _fits(first, planes):
        return TiffLayout("TIFF", (), ())
    places, axes = _places(count, planes), str(given[0].get("axes", "")).upper()
    size = {axis: shape[axes.index(axis)] if axis in axes else 1 for axis in "CZT"} if len(axes) == len(shape) else {}
    if math.prod(size.values()) != planes or not size:
        return TiffLayout("TIFF", (), places)
    order = "".join(axis for axis in axes[::-1] if axis in "CZT")
    order += "".join(axis for axis in "CZT" if axis not in order)
    image = TiffImage(size["C"], size["Z"], size["T"], _by_index(order, size, places))
    return TiffLayout("TIFF", (image,), places)


def _fits(page: TiffPage, planes: int) -> bool:
    return bool(_planes_in_page(page.parent, page, planes))
