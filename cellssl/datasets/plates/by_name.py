"""by_name: image files that no index lists in -> planes, by their names, their folders and what their headers say."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from statistics import median

from cellssl.datasets.plates.file_names import NamedFiles, Parts, is_structure, read_names, stem
from cellssl.datasets.plates.folder import Listing
from cellssl.datasets.plates.headers import Headers, Kind, spread
from cellssl.datasets.plates.layout import Found, Optics, Plane, canonical_well, well_at
from cellssl.errors import DataError

LEAST_SHARE = 0.1
"""Share of the images that a pattern of names needs beside a more frequent one, so that its files are taken."""
NO_SITE = -1
"""Of an image whose name says no site."""
PAGES_OF_Z = 5
"""So many pages of which a file does not say what they are count as z planes, and fewer as channels."""
SMALL_COPY = 0.5
"""Both sides of a thumbnail are at most this share of those of the fields."""
SHAPELESS = re.compile(
    r"(images?|imgs?|pictures|tiffs?|raw|data|(timepoint|time|zstep|t|z)[_ -]?\d+|well[_ -]?\w{2,4})", re.I
)
"""Folders that name no plate."""


def recognise_by_name(listing: Listing, headers: Headers, pattern: str | None) -> list[Found]:
    """Return the planes of all images that are left in the listing, one result per pattern of names.

    Images of no pattern, of a rare one, and small or coloured copies are moved to what the listing leaves out.
    """
    _leave_out_copies(listing, headers)
    files = listing.images()
    if not files:
        return []
    named, others = read_names(files, pattern)
    if not named:
        named, others = [_nameless(files)], []
    taken, total = [], sum(len(one.parts) for one in named)
    for one in named:
        if one is named[0] or len(one.parts) >= LEAST_SHARE * total:
            taken.append(one)
        else:
            others += one.parts
    if len(taken) > 1:
        words = "; ".join(f"{one.pattern} ({len(one.parts):,})" for one in taken)
        listing.doubts.append(f"the images are named in {len(taken)} ways: {words}")
    if others:
        listing.doubts.append(
            f"{len(others):,} images are not called like the others ({sorted(others)[0]}), so they are left out; "
            "--pattern says how names are built"
        )
        listing.leave_out("images whose names do not follow the pattern", sorted(others))
    return [_found(listing, one, headers) for one in taken]


def _leave_out_copies(listing: Listing, headers: Headers) -> None:
    """Leave out thumbnails, which are small images of 8 bits, and pictures in colour beside grey images."""
    files = listing.images()
    if not files:
        return
    usual = median(listing.sizes[file] for file in files)
    small = [file for file in files if listing.sizes[file] < usual * SMALL_COPY**2]
    sample = [one for file in spread([f for f in files if f not in set(small)], 20) if (one := headers.of(file))]
    if sample and small:
        rows, columns = median(one.rows for one in sample), median(one.columns for one in sample)
        copies = [
            file
            for file in small
            if (one := headers.of(file))
            and one.dtype == "uint8"
            and one.rows <= rows * SMALL_COPY
            and one.columns <= columns * SMALL_COPY
        ]
        listing.leave_out("thumbnails", copies)
    if any(one.samples == 1 for one in sample):
        suspects = [file for file in listing.images() if listing.sizes[file] > usual * 1.4 or file in set(small)]
        suspects += [file for file in listing.images() if PurePosixPath(file).suffix.lower() in (".png", ".bmp")]
        coloured = [file for file in dict.fromkeys(suspects) if (one := headers.of(file)) and one.samples > 1]
        listing.leave_out("pictures in colour", coloured)


def _nameless(files: Sequence[str]) -> NamedFiles:
    """Return one field per file, in a well of the file's name, where names say nothing."""
    parts: dict[str, Parts] = {file: {"well": re.sub(r"[^\w.+-]+", "_", stem(file)) or "image"} for file in files}
    doubt = "no wells can be read from the file names, so every file is a well; --pattern says how names are built"
    return NamedFiles("{well}", "", parts, [doubt])


def _found(listing: Listing, named: NamedFiles, headers: Headers) -> Found:
    """Turn named files into planes; a file with several channels, z planes or images gives several."""
    plates = _plates(named.parts, listing.root.name)
    times = _times(parts.get("t", "") for parts in named.parts.values())
    kinds = headers.kinds(named.parts)
    broken = [file for file in named.parts if file in headers.faults]
    if len(broken) == len(kinds):
        raise DataError(
            f"none of the {len(kinds):,} images in {listing.root} can be read; first: {headers.faults[broken[0]]}",
            hint="export them as OME-TIFF or OME-Zarr with the microscope's program, or copy them again",
        )
    planes: list[Plane] = []
    for file, parts in named.parts.items():
        if file in headers.faults:
            continue
        basic = Plane(
            file,
            plates[file],
            parts.get("well") or "none",
            int(parts["site"]) if parts.get("site", "").isdigit() else NO_SITE,
            _channel(named.source, parts),
            z=int(parts["z"]) if parts.get("z", "").isdigit() else 0,
            t=times.get(parts.get("t", ""), 0),
        )
        planes += _inside(basic, kinds[file])
    planes = _numbered(planes)
    found = Found(_words(named, kinds.values()), planes, doubts=list(named.doubts))
    pages = max(kind.pages for kind in kinds.values())
    z_in_pages = 1 if any(plane.is_page for plane in planes) else pages
    found.held = (
        max(z_in_pages, *(kind.z_planes for kind in kinds.values())),
        max(kind.time_points for kind in kinds.values()),
    )
    if pages > 1:
        found.doubts.append(_on_pages(pages, found))
    if any("number" in parts for parts in named.parts.values()):
        _name_numbered_wells(found, named)
    _leave_out_second(listing, found)
    first = headers.of(planes[0].file)
    found.optics = Optics(first.pixel_um, first.objective, first.acquired) if first else Optics()
    listing.leave_out("files whose header cannot be read", broken)
    for file in named.parts:
        listing.sizes.pop(file, None)
    return found


def _words(named: NamedFiles, kinds: Iterable[Kind]) -> str:
    names = Counter(kind.format for kind in kinds).most_common(1)[0][0]
    source = f", {named.source}" if named.source and named.source != "--pattern" else ""
    return f"{names} files called {named.pattern}{source}"


def _channel(source: str, parts: Parts) -> str:
    text = parts.get("channel", "")
    if not text.isdigit():
        return text
    if source.startswith("ImageXpress"):
        return f"w{text}"
    return f"ch{int(text)}"


def _times(texts: Iterable[str]) -> dict[str, int]:
    """Return text -> number of the time point; dates and durations are numbered in their order."""
    distinct = sorted(set(texts) - {""})
    if all(text.isdigit() for text in distinct):
        return {text: int(text) for text in distinct}
    return {text: number for number, text in enumerate(distinct)}


def _plates(named: dict[str, Parts], root: str) -> dict[str, str]:
    """Return file -> plate: what the names say, unless folders tell more plates apart than names do."""
    folders = {file: _plate_folder(file, parts, root) for file, parts in named.items()}
    texts = {file: parts.get("plate", "") for file, parts in named.items()}
    by_folder: dict[str, set[str]] = defaultdict(set)
    for file in named:
        by_folder[folders[file]].add(texts[file])
    said = set(texts.values())
    if "" in said:
        return folders if len(by_folder) > 1 or said == {""} else {file: texts[file] or folders[file] for file in named}
    one_to_one = all(len(inside) == 1 for inside in by_folder.values()) and len(said) == len(by_folder)
    if len(by_folder) == 1 or one_to_one:
        return texts
    if all(len(inside) == 1 for inside in by_folder.values()):
        return folders
    return {file: f"{folders[file]}_{texts[file]}" for file in named}


def _plate_folder(file: str, parts: Parts, root: str) -> str:
    """Return the folders that name the plate: those that are no wells, channels, time points or z planes."""
    named = [
        folder
        for folder in PurePosixPath(file).parts[:-1]
        if not SHAPELESS.fullmatch(folder)
        and not is_structure(folder)
        and folder != parts.get("channel")
        and canonical_well(folder) != parts.get("well")
    ]
    return "_".join(named) or root or "plate"


def _inside(plane: Plane, kind: Kind) -> list[Plane]:
    """Return one plane per channel and image that a file holds."""
    names = kind.channel_names
    if len(names) != kind.channels or len(set(names)) < len(names) or not all(names):
        names = tuple(f"ch{number + 1}" for number in range(kind.channels))
    of_one = [plane]
    if not plane.channel and 1 < kind.pages < PAGES_OF_Z:
        of_one = [replace(plane, channel=f"page_{n}", in_file=n, is_page=True) for n in range(kind.pages)]
    elif kind.channels > 1:
        of_one = [replace(plane, channel=name, in_file=number) for number, name in enumerate(names)]
    elif not plane.channel:
        of_one = [replace(plane, channel=names[0] if kind.channel_names else "image")]
    if kind.series == 1:
        return of_one
    return [
        replace(
            one,
            series=number,
            site=NO_SITE if plane.site == NO_SITE else plane.site * 1000 + number,
            well=dict(kind.series_wells).get(number, one.well) if one.well in ("none", _own_name(one)) else one.well,
        )
        for number in range(kind.series)
        for one in of_one
    ]


def _on_pages(pages: int, found: Found) -> str:
    if any(plane.is_page for plane in found.planes):
        return (
            f"the files have {pages} pages and do not say what they are; they are taken as channels. If they are z "
            'planes, write the column alone, such as channels = { dna = "file" }, and z = "max"'
        )
    return (
        f"the files have {pages} pages and do not say what they are; they are taken as z planes. If they are channels, "
        'write them one by one, such as dna = { column = "image", page = 0 }, and remove z'
    )


def _own_name(plane: Plane) -> str:
    return re.sub(r"[^\w.+-]+", "_", stem(plane.file))


def _numbered(planes: list[Plane]) -> list[Plane]:
    """Number the sites that have no number: 1, or the images of the files of a well in order, from 1."""
    if not any(plane.series for plane in planes if plane.site == NO_SITE):
        return [plane if plane.site != NO_SITE else replace(plane, site=1) for plane in planes]
    numbers: dict[tuple[str, str], dict[tuple[str, int], int]] = defaultdict(dict)
    numbered = []
    for plane in planes:
        of_well = numbers[plane.plate, plane.well]
        numbered.append(replace(plane, site=of_well.setdefault((plane.file, plane.series), len(of_well) + 1)))
    return numbered


def _name_numbered_wells(found: Found, named: NamedFiles) -> None:
    """Name wells that are numbered row by row; the size of the plate follows from the highest number."""
    highest = max(int(parts["number"]) for parts in named.parts.values())
    columns = next(columns for wells, columns in ((96, 12), (384, 24), (10**9, 48)) if highest <= wells)
    wells = {
        file: well_at((int(parts["number"]) - 1) // columns + 1, (int(parts["number"]) - 1) % columns + 1)
        for file, parts in named.parts.items()
    }
    found.planes = [replace(plane, well=wells[plane.file]) for plane in found.planes]
    found.doubts.append(
        f"wells are numbered from 1 to {highest} and no index names them; they are of a plate of {columns} columns"
    )


def _leave_out_second(listing: Listing, found: Found) -> None:
    """Leave out files that say the same plate, well, site, channel, z plane and time point as another one."""
    first: dict[tuple[object, ...], str] = {}
    kept, second = [], []
    for plane in found.planes:
        key = (plane.field, plane.channel, plane.z, plane.t, plane.series)
        if first.setdefault(key, plane.file) == plane.file:
            kept.append(plane)
        else:
            second.append(plane.file)
    if second:
        listing.leave_out("second files of one field and channel", sorted(set(second)))
        found.doubts.append(
            f"{len(set(second)):,} files say the same plate, well, site and channel as another one, such as "
            f"{second[0]}; they are left out, and --pattern says what tells them apart"
        )
        found.planes = kept
