"""ome_zarr: OME-Zarr plates (HCS, 0.4 and 0.5) and images in -> their planes; read by openreadout."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from cellssl.datasets.plates.folder import Listing
from cellssl.datasets.plates.indexed import channel_names, opened, optics
from cellssl.datasets.plates.layout import Found, Plane, canonical_well, well_in


def recognise_ome_zarr(listing: Listing) -> list[Found]:
    """Return one plate per OME-Zarr plate, and one of all OME-Zarr images that belong to no plate."""
    plates, single = [], []
    for place in sorted(listing.zarrs):
        info, entries, fault = opened(listing.root / place, 0)
        if fault:
            listing.doubts.append(f"{place or listing.root.name} looks like OME-Zarr and cannot be read: {fault}")
            continue
        images = [one for one in info["images"] if "labels" not in PurePosixPath(_group(one)).parts]
        labels = len(info["images"]) - len(images)
        if labels:
            listing.left_out.setdefault("label images in OME-Zarr", []).extend([f"{place}/labels"] * labels)
        if any("well" in one.get("extra", {}) for one in images):
            plates.append(_plate(place or ".", listing.root.name, images, entries))
        else:
            single += [(place, one) for one in images]
    if single:
        plates.append(_single(listing, single))
    return plates


def _group(image: dict[str, Any]) -> str:
    return str(image.get("extra", {}).get("group", "")).strip("/")


def _plate(place: str, root: str, images: list[Any], entries: list[Any]) -> Found:
    named = next((entry["name"] for entry in entries if entry["kind"] == "plate" and entry["name"]), "")
    stem = _stem(PurePosixPath(place).name or root)
    names = channel_names(images)
    planes, counts = [], dict[str, int]()
    acquisitions = {str(one["extra"].get("acquisition", "")) for one in images}
    for image in images:
        well = canonical_well(image["extra"]["well"].replace("/", ""))
        site = str(image["extra"].get("field", ""))
        counts[well] = counts.get(well, 0) + 1
        number = int(site) + 1 if site.isdigit() else counts[well]
        batch = f"acquisition {image['extra'].get('acquisition')}" if len(acquisitions) > 1 else ""
        planes += _channels(f"{place}/{_group(image)}", named or stem, well, number, batch, image, names)
    held = (max(one["size_z"] for one in images), max(one["size_t"] for one in images))
    return Found("OME-Zarr", planes, optics(images), held=held, folder=stem)


def _single(listing: Listing, single: list[tuple[str, Any]]) -> Found:
    planes = []
    counts: dict[str, int] = {}
    for place, image in single:
        path = PurePosixPath(place or listing.root.name)
        group = _group(image)
        well = well_in(_stem(path.name)) or _stem(path.name)
        counts[well] = counts.get(well, 0) + 1
        folder = path.parent.name or listing.root.name
        file = "/".join(part for part in (place or ".", group) if part)
        planes += _channels(file, folder, well, counts[well], "", image, channel_names([image]))
    images = [one for _, one in single]
    found = Found("OME-Zarr", planes, optics(images))
    found.held = (max(one["size_z"] for one in images), max(one["size_t"] for one in images))
    found.doubts.append("the OME-Zarr images belong to no plate; their wells and sites come from their names and order")
    return found


def _channels(
    file: str, plate: str, well: str, site: int, batch: str, image: dict[str, Any], names: list[str]
) -> list[Plane]:
    count = image["size_c"]
    return [
        Plane(file, plate, well, site, names[number], batch, in_file=number if count > 1 else None)
        for number in range(count)
    ]


def _stem(name: str) -> str:
    return name.removesuffix(".zarr").removesuffix(".ome") or name
