"""indexed: a plate whose index lists every file (Harmony, ImageXpress, CellVoyager) in -> its planes.

The index is read by openreadout; the image files are plain TIFFs, which stay where they are.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from cellssl.datasets.plates.folder import Listing
from cellssl.datasets.plates.layout import Found, Optics, Plane, canonical_well

INDEXES = {
    "Harmony (Operetta, Opera Phenix)": re.compile(r"(.*/)?(index(\.idx)?|imageindex\.columbusidx)\.xml", re.I),
    "ImageXpress (MetaXpress)": re.compile(r".*\.htd", re.I),
    "CellVoyager": re.compile(r"(.*/)?measurementdata\.mlf", re.I),
}
"""Format -> the path of its index."""
MEASUREMENT = re.compile(r"(.+?)__?(\d{4}-\d\d-\d\dT\d\d[_:]?\d\d[_:]?\d\d)-Measurement[ _]?(\w+)", re.I)
"""The folder that Harmony writes a measurement into, such as `BR00117003__2020-11-08T18_18_00-Measurement 1`."""
INDEX_BYTES = 2**31
Z_STEP = re.compile(r"(^|/)ZStep_?(\d+)/", re.I)


def recognise_indexed(listing: Listing) -> list[Found]:
    """Return what the indexes of the folder list, one per measurement of a plate; [] where there is no index.

    Files that an index lists are moved out of the listing. An index that cannot be
    read is named among the doubts of the listing; its files stay, to be recognised by their names.
    """
    found = []
    for name, pattern in INDEXES.items():
        for index in sorted(file for file in listing.sizes if pattern.fullmatch(file)):
            if index in listing.sizes and (one := _read(listing, index, name)) is not None:
                found.append(one)
    return found


def _read(listing: Listing, index: str, name: str) -> Found | None:
    place = PurePosixPath(index).parent
    info, entries, fault = opened(listing.root / index, listing.sizes[index])
    if fault:
        listing.doubts.append(f"{index}, an index of {name}, cannot be read ({fault}); file names are used instead")
        return None
    return _found(listing, name, place, info, entries)


def opened(path: Path, size: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]], str]:
    """Return what openreadout says of a plate, and why it says nothing."""
    if size > INDEX_BYTES:
        return {}, [], f"it has {size:,} bytes"
    import openreadout

    try:
        with openreadout.File(path) as file:
            entries = [dict(entry) for entry in file.entries()]
            return dict(file.info), entries, "" if file.info.get("images") else "it lists no images"
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        if type(error).__name__ == "InterruptedByUserError":
            raise
        return {}, [], str(error).partition(" (hint")[0].strip() or type(error).__name__


def _found(listing: Listing, name: str, place: PurePosixPath, info: dict[str, Any], entries: list[Any]) -> Found | None:
    """Turn the listing of the library into planes, and say what is missing."""
    images = info["images"]
    listed = [entry for entry in entries if entry["kind"] == "plane-file"]
    projections = _projections([entry["name"] for entry in listed])
    used = [entry for entry in listed if entry["name"] not in projections]
    plate, batch, folder = _plate(place, info)
    channels = channel_names(images)
    planes, absent = [], 0
    for entry in used:
        details = entry["details"]
        file = _place(listing, place, entry["name"]) if entry["name"] else ""
        absent += not file
        channel = channels[details["c"]]
        well = canonical_well(details["well"])
        planes.append(Plane(file, plate, well, int(details["field"]), channel, batch, details["z"], details["t"]))
    if not any(plane.file for plane in planes):
        listing.doubts.append(f"the index in {place} lists {len(planes):,} images, and none of them is there")
        return None
    found = Found(name, planes, optics(images), folder=folder)
    if batch and folder != plate:
        found.doubts.append(f"the folder {place} is of plate {folder}, and its index of plate {plate}; that is taken")
    if absent:
        found.doubts.append(
            f"plate {plate}: {absent:,} of {len(planes):,} image files that its index lists are missing"
        )
    _claim(listing, found)
    return found


def _claim(listing: Listing, found: Found) -> None:
    """Move the files of the plate, and projections of them, out of the listing."""
    files = {plane.file for plane in found.planes if plane.file}
    for file in files:
        listing.sizes.pop(file, None)
    listing.leave_out("projections", _projections_around(listing, {file.rpartition("/")[0] for file in files}))


def _projections_around(listing: Listing, folders: set[str]) -> list[str]:
    """Return the images that lie beside the folders of z planes: ImageXpress keeps projections there."""
    stepped = {str(PurePosixPath(folder).parent) for folder in folders if Z_STEP.search(f"{folder}/")}
    return [
        file
        for file in listing.images()
        if file.rpartition("/")[0] in stepped or re.search(r"(^|/)ZStep_?0/", file, re.I)
    ]


def _projections(files: list[str]) -> set[str]:
    """Return the projections of a plate with a folder per z plane: the files in none, or in ZStep_0."""
    steps = {file: match[2] for file in files if (match := Z_STEP.search(file))}
    if len(set(steps.values())) < 2:
        return set()
    return {file for file in files if file and int(steps.get(file, 0)) == 0}


def _place(listing: Listing, place: PurePosixPath, name: str) -> str:
    """Return the file that an index names, as the listing names it; "" where it is not there."""
    file = str(place / name)
    if file in listing.sizes:
        return file
    same = [one for one in listing.by_name.get(PurePosixPath(name).name.casefold(), []) if one in listing.sizes]
    near = [one for one in same if PurePosixPath(one).is_relative_to(place)]
    return near[0] if len(near) == 1 else ""


def _plate(place: PurePosixPath, info: dict[str, Any]) -> tuple[str, str, str]:
    """Return the name of the plate, that of the measurement where a folder says it, and what the folder calls it."""
    named = (info.get("plate") or {}).get("id") or ""
    for part in reversed(place.parts):
        if match := MEASUREMENT.fullmatch(part):
            return named or match[1], f"{match[2].replace('_', ':')} Measurement {match[3]}", match[1]
    folders = [part for part in place.parts if part.lower() != "images"]
    folder = folders[-1] if folders else ""
    return named or folder or "plate", "", folder


def channel_names(images: list[Any]) -> list[str]:
    """Return the names of the channels by number; one without a name is called by its number, from 1."""
    names: dict[int, str] = {}
    for image in images:
        for channel in image.get("channels", []):
            names.setdefault(channel["index"], channel.get("name") or f"ch{channel['index'] + 1}")
    most = max(image.get("size_c", 1) for image in images)
    listed = [names.get(number, f"ch{number + 1}") for number in range(most)]
    counts = Counter(listed)
    return [name if counts[name] == 1 else f"{name} ({number + 1})" for number, name in enumerate(listed)]


def optics(images: list[Any]) -> Optics:
    first = images[0]
    size = first.get("physical_size") or {}
    objective = first.get("objective") or {}
    magnification = objective.get("nominal_magnification")
    name = objective.get("model") or (f"{magnification:g}x" if magnification else None)
    pixel = size.get("x") if size.get("unit", "µm") in ("µm", "um", "μm") else None
    return Optics(pixel, name, first.get("acquired_at"))
