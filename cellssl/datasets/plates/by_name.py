"""by_name: image files that no index lists in -> planes, by their names, their folders and what their headers say."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import PurePosixPath
from statistics import median

from cellssl.datasets.plates.file_names import NamedFiles, Parts, is_channel_folder, is_structure, read_names, stem
from cellssl.datasets.plates.folder import Listing
from cellssl.datasets.plates.headers import Headers, Kind, spread
from cellssl.datasets.plates.layout import WELL, Found, Optics, Plane, canonical_well, nucleus_channel, well_at
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
SLIDE = re.compile(r"slide--S\d+", re.I)
"""The folder of Leica's matrix screener around all wells of a plate."""
PROCESSED = re.compile(
    r"(small|max|min|mean|proj\w*|decon\w*|denois\w*|processed|corrected|registered|aligned|resized|downsampled|"
    r"scaled|8[-_ ]?bit|png|jpe?g|rgb|exported?)[-_ ]?(images?)?",
    re.I,
)
"""Folders of images that are made of others."""
LABELS = re.compile(r"(cells?|nuclei|nucleus|cytoplasm|cyto|objects?|spots)([-_ ]?\d)?", re.I)
"""Names of label images, as programs that segment cells write them."""
MOST_SECOND = 0.2
"""Share of the images that may say the same as another one; of more, the names are not understood."""


def recognise_by_name(listing: Listing, headers: Headers, pattern: str | None) -> list[Found]:
    """Return the planes of all images that are left in the listing, one result per pattern of names.

    Images of no pattern, of a rare one, and small or coloured copies are moved to what the listing leaves out.
    """
    _leave_out_copies(listing, headers)
    _leave_out_processed(listing)
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
    found = [_found(listing, one, headers) for one in taken]
    _leave_out_projections(listing, found, taken)
    if pattern is None:
        _leave_out_labels(listing, found)
    return [one for one in found if one.planes]


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


def _leave_out_labels(listing: Listing, found: Sequence[Found]) -> None:
    """Leave out images called Cells or Nuclei beside a stain of nuclei: programs write label images so; else say it."""
    labels = {p.channel for one in found for p in one.planes if LABELS.fullmatch(p.channel)}
    stains = sorted({p.channel for one in found for p in one.planes} - labels)
    if not labels:
        return
    words = ", ".join(sorted(labels))
    if not stains or not nucleus_channel(stains)[1]:
        listing.doubts.append(f"channels are called {words}; take them out of the recipe if they are label images")
        return
    files = sorted({p.file for one in found for p in one.planes if p.channel in labels})
    for one in found:
        one.planes = [plane for plane in one.planes if plane.channel not in labels]
    listing.leave_out("label images by their names", files)
    listing.doubts.append(
        f"{len(files):,} images called {words} beside {nucleus_channel(stains)[0]} are taken as label images and left "
        "out; --pattern with {channel} in it takes them"
    )


def _leave_out_processed(listing: Listing) -> None:
    """Leave out images in folders such as deconvolved beside an image of the same name that is in none."""
    around: dict[str, str] = {}
    raw: set[tuple[str, str]] = set()
    for file in listing.images():
        *folders, name = file.split("/")
        depth = next((number for number, folder in enumerate(folders) if PROCESSED.fullmatch(folder)), None)
        if depth is not None:
            around[file] = "/".join(folders[:depth])
        else:
            raw |= {("/".join(folders[:number]), name.casefold()) for number in range(len(folders) + 1)}
    copies = [file for file, above in around.items() if (above, file.rpartition("/")[2].casefold()) in raw]
    listing.leave_out("processed copies of images, by the names of their folders", copies)
    others = sorted(set(around) - set(copies))
    if others and raw:
        listing.doubts.append(
            f"{len(others):,} images lie in folders that sound like processed images, and no original of theirs is "
            f"there, so they are taken, such as {others[0]}"
        )


def _leave_out_projections(listing: Listing, found: Sequence[Found], named: Sequence[NamedFiles]) -> None:
    """Leave out images without a z plane beside those of the same field and channel that have one."""
    stacked = {
        (plane.field, plane.channel, plane.t)
        for one, names in zip(found, named, strict=True)
        for plane in one.planes
        if names.parts[plane.file].get("z")
    }
    for one, names in zip(found, named, strict=True):
        flat = [
            plane
            for plane in one.planes
            if not names.parts[plane.file].get("z") and (plane.field, plane.channel, plane.t) in stacked
        ]
        if flat:
            gone = set(flat)
            one.planes = [plane for plane in one.planes if plane not in gone]
            listing.doubts.append(
                f"{len(flat):,} images name no z plane beside others of their field that do, such as {flat[0].file}; "
                "they are taken as projections and left out"
            )
            listing.leave_out("images without a z plane beside a stack", sorted({plane.file for plane in flat}))


def _nameless(files: Sequence[str]) -> NamedFiles:
    """Return one field per file, in a well of the file's name, where names say nothing."""
    parts: dict[str, Parts] = {file: {"well": re.sub(r"[^\w.+-]+", "_", stem(file)) or "image"} for file in files}
    doubt = "no wells can be read from the file names, so every file is a well; --pattern says how names are built"
    return NamedFiles("{well}", "", parts, [doubt])


def _found(listing: Listing, named: NamedFiles, headers: Headers) -> Found:
    """Turn named files into planes; a file with several channels, z planes or images gives several."""
    _read_channel_folders(named)
    plates = _plates(named, listing.root.name)
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
    found.doubts += _contradicting_series(named, kinds)
    found.doubts += _letter_for_time(named)
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


def _read_channel_folders(named: NamedFiles) -> None:
    """Take folders such as DAPI and GFP as the channel where names say none, or the same one in several of them."""
    depths = min(file.count("/") for file in named.parts)
    for depth in range(depths):
        folders = {file: file.split("/")[depth] for file in named.parts}
        if depth in named.explained:
            continue
        distinct = set(folders.values())
        if not all(map(is_channel_folder, distinct)):
            named.doubts += _part_channels(named, distinct)
            continue
        named.explained.add(depth)
        if named.source == "--pattern" and "{channel}" in named.pattern:
            continue
        by_folder: dict[str, set[str]] = defaultdict(set)
        for file, parts in named.parts.items():
            by_folder[folders[file]].add(parts.get("channel", ""))
        said = set().union(*by_folder.values())
        is_apart = len(said) == sum(map(len, by_folder.values()))  # no channel is in two folders
        if is_apart and not all(text.isdigit() for text in said):
            continue
        of_one = all(len(channels) == 1 for channels in by_folder.values())
        if is_apart and not of_one:
            continue
        for file, parts in named.parts.items():
            parts["channel"] = folders[file] if of_one else f"{folders[file]} {parts.get('channel', '')}".strip()
        named.doubts.append(f"the folders {', '.join(sorted(by_folder)[:4])} are taken as the channels")


def _part_channels(named: NamedFiles, folders: Set[str]) -> list[str]:
    """Say that folders such as P1_DAPI, which are taken as plates, contain the name of a channel that no file says."""
    mixed = sorted(one for one in folders if any(map(is_channel_folder, re.split(r"[\s_.-]+", one))))
    if not mixed or any("channel" in parts or "plate" in parts for parts in named.parts.values()):
        return []
    return [
        f"the folders {', '.join(mixed[:4])} are taken as plates, though they contain names of channels; "
        "--pattern '{plate}_{channel}/...' takes them apart"
    ]


def _plates(all_named: NamedFiles, root: str) -> dict[str, str]:
    """Return file -> plate: what the names say, unless folders tell more plates apart than names do.

    A plate that the user names in a pattern stands as it is.
    """
    named = all_named.parts
    if all_named.source == "--pattern" and "{plate}" in all_named.pattern:
        return {file: parts["plate"] for file, parts in named.items()}
    slides = {folder for file in named for folder in file.split("/")[:-1] if SLIDE.fullmatch(folder)}
    ignored = slides if len(slides) == 1 else set()
    folders = {file: _plate_folder(file, parts, root, all_named.explained, ignored) for file, parts in named.items()}
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


def _plate_folder(file: str, parts: Parts, root: str, explained: Set[int], ignored: Set[str]) -> str:
    """Return the folders that name the plate: those that are no wells, channels, time points or z planes."""
    named = [
        folder
        for depth, folder in enumerate(PurePosixPath(file).parts[:-1])
        if not SHAPELESS.fullmatch(folder)
        and not is_structure(folder)
        and depth not in explained
        and folder not in ignored
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
            well=one.well if WELL.fullmatch(one.well) else dict(kind.series_wells).get(number, one.well),
        )
        for number in range(kind.series)
        for one in of_one
    ]


def _contradicting_series(named: NamedFiles, kinds: Mapping[str, Kind]) -> list[str]:
    """Say where the name of a file and the names of the images in it are different wells."""
    other = [
        f"{file} and {well} in it"
        for file, parts in named.parts.items()
        for _, well in kinds[file].series_wells
        if WELL.fullmatch(parts.get("well", "")) and canonical_well(parts["well"]) != well
    ]
    if not other:
        return []
    return [
        f"{len(other):,} images in files name another well than their file, such as {other[0]}; the file's is taken, "
        "and --pattern without {well} takes theirs"
    ]


def _letter_for_time(named: NamedFiles) -> list[str]:
    """Say that folders such as T1 and T2 are taken as time points, which could be treatments as well."""
    folders = {folder for file in named.parts for folder in file.split("/")[:-1] if re.fullmatch(r"T[_-]?\d+", folder)}
    if len(folders) < 2:
        return []
    return [f"the folders {', '.join(sorted(folders)[:4])} are taken as time points; --pattern says if they are not"]


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
    files = sorted(set(second))
    if len(files) > MOST_SECOND * len({plane.file for plane in found.planes}):
        plane = next(plane for plane in found.planes if plane.file == files[0])
        other = first[plane.field, plane.channel, plane.z, plane.t, plane.series]
        raise DataError(
            f"{len(files):,} of {len({one.file for one in found.planes}):,} images say the same plate, well, site and "
            f"channel as another one, such as {other} and {files[0]}",
            hint="say with --pattern what tells them apart, such as --pattern '{plate}_{well}_s{site}_{channel}.tif'; "
            "{any} stands for what does not matter",
        )
    if second:
        listing.leave_out("second files of one field and channel", files)
        found.doubts.append(
            f"{len(files):,} files say the same plate, well, site and channel as another one, such as "
            f"{second[0]}; they are left out, and --pattern says what tells them apart"
        )
        found.planes = kept
