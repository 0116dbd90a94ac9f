"""recognise: a folder of images in; its plates, fields and channels, what is left out and what is doubtful out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cellssl.datasets.plates.by_name import recognise_by_name
from cellssl.datasets.plates.folder import Listing, list_folder, sort_out
from cellssl.datasets.plates.headers import Headers, spread
from cellssl.datasets.plates.indexed import recognise_indexed
from cellssl.datasets.plates.layout import Found, Plane, channel_key
from cellssl.datasets.plates.loaddata import recognise_loaddata
from cellssl.datasets.plates.metamorph import recognise_metamorph
from cellssl.datasets.plates.ome_zarr import recognise_ome_zarr
from cellssl.errors import DataError
from cellssl.images.header import ImageHeader

HEADERS_READ = 24
"""Headers of each measurement that are read to see sizes and types; `cellssl check` reads all."""
USUAL_SHARE = 0.5
"""Share of the fields that a channel needs, so that the recipe takes it."""
NEARLY_ALL = 0.9
"""The same, where so few fields would have all of the channels: plates with different stains."""
INDEXED = ("Harmony", "ImageXpress", "CellVoyager", "OME-Zarr", "MetaMorph", "CellProfiler LoadData")
"""How formats begin whose results are measurements: a second one of a plate is no second copy of its files."""
MEASURED = ("Harmony", "ImageXpress", "CellVoyager", "OME-Zarr")
"""How formats begin of which every result is a measurement: two of one plate are no parts of one measurement."""
EXPERIMENTAL = ("CZI", "ND2", "LIF")

FieldKey = tuple[str, str, str, int]
"""Plate, batch, well and site."""


@dataclass
class Survey:
    """What a folder holds."""

    root: Path
    found: list[Found]
    left_out: dict[str, list[str]]
    doubts: list[str]
    headers: list[ImageHeader]
    """Headers of a sample of the images."""

    @cached_property
    def planes(self) -> list[Plane]:
        """Return the planes of all plates, with the keys of channels as their names, sorted by field."""
        planes = [replace(plane, channel=self.keys[plane.channel]) for one in self.found for plane in one.planes]
        return sorted(planes, key=lambda plane: (plane.field, plane.t, plane.z, plane.channel))

    @cached_property
    def channel_names(self) -> list[str]:
        """Return the channels as the files name them, in their order."""
        return list(dict.fromkeys(plane.channel for one in self.found for plane in sorted_by_channel(one)))

    @cached_property
    def keys(self) -> dict[str, str]:
        """Return name of a channel in the files -> its name in the recipe; every one its own."""
        keys: dict[str, str] = {}
        for name in self.channel_names:
            key = channel_key(name)
            while key in keys.values():
                key += "_2"
            keys[name] = key
        return keys

    @cached_property
    def fields(self) -> dict[FieldKey, list[Plane]]:
        """Return the planes of every field."""
        fields: dict[FieldKey, list[Plane]] = defaultdict(list)
        for plane in self.planes:
            fields[plane.field].append(plane)
        return dict(fields)

    @cached_property
    def channels(self) -> list[str]:
        """Return the channels that the recipe takes, so that most of the fields have all of them."""
        sets = [frozenset(plane.channel for plane in planes if plane.file) for planes in self.fields.values()]
        for share in (USUAL_SHARE, NEARLY_ALL):
            counts = Counter(channel for of_field in sets for channel in of_field)
            usual = {channel for channel, number in counts.items() if number >= share * len(sets)}
            if usual and sum(usual <= of_field for of_field in sets) >= USUAL_SHARE * len(sets):
                return [key for key in self.keys.values() if key in usual]
        frequent = Counter(sets).most_common(1)[0][0]
        return [key for key in self.keys.values() if key in frequent]

    @cached_property
    def z_planes(self) -> int:
        """Return the most z planes of a field, in files of their own or within one file."""
        return max(self.separate_z, *(one.held[0] for one in self.found))

    @cached_property
    def time_points(self) -> int:
        """Return the most time points of a field."""
        return max(self.separate_t, *(one.held[1] for one in self.found))

    @cached_property
    def separate_z(self) -> int:
        """Return the most z planes that are files of their own."""
        return max(len({plane.z for plane in planes if plane.file}) for planes in self.fields.values())

    @cached_property
    def separate_t(self) -> int:
        """Return the most time points that are files of their own."""
        return max(len({plane.t for plane in planes if plane.file}) for planes in self.fields.values())

    @cached_property
    def time_point(self) -> int | None:
        """Return the time point that is taken; None is the first of every field.

        That is another one where a channel was taken later only: the first at which most fields have all channels.
        """
        times = [_by_time(planes) for planes in self.fields.values()]
        least = USUAL_SHARE * len(times)
        if self.separate_t == 1 or sum(self._has_all(next(iter(of_field.values()), [])) for of_field in times) >= least:
            return None
        whole = Counter(t for of_field in times for t, planes in of_field.items() if self._has_all(planes))
        return min((t for t, number in whole.items() if number >= least), default=None)

    def _has_all(self, planes: Sequence[Plane]) -> bool:
        return set(self.channels) <= {plane.channel for plane in planes}

    def _taken(self, planes: Sequence[Plane]) -> list[Plane]:
        """Return the planes of a field at the time point that is taken."""
        times = _by_time(planes)
        return next(iter(times.values()), []) if self.time_point is None else times.get(self.time_point, [])

    @cached_property
    def incomplete(self) -> dict[FieldKey, str]:
        """Return field -> what it lacks: a channel that the recipe takes, or planes that most fields of its plate have.

        Channels may have different numbers of planes. A channel without an image at the time point that is taken lacks.
        """
        counts = {key: _planes_per_channel(planes, self.channels) for key, planes in self.fields.items()}
        by_plate: dict[tuple[str, str], Counter[tuple[tuple[str, int], ...]]] = defaultdict(Counter)
        for key, of_field in counts.items():
            by_plate[key[:2]][of_field] += 1
        usual = {plate: dict(of_plate.most_common(1)[0][0]) for plate, of_plate in by_plate.items()}
        lacking = {}
        for key, planes in self.fields.items():
            here, there = dict(counts[key]), usual[key[:2]]
            taken = {plane.channel for plane in self._taken(planes)}
            at_time = " at the time point that is taken"
            if missing := [channel for channel in self.channels if channel not in taken]:
                lacking[key] = f"no image of {', '.join(missing)}{at_time if here[missing[0]] else ''}"
            elif short := [channel for channel in self.channels if here[channel] < there[channel]]:
                lacking[key] = f"fewer z planes or time points of {', '.join(short)}"
        return lacking

    def plates(self) -> list[str]:
        """Return the names of the plates."""
        return sorted({plate for plate, *_ in self.fields})

    def wells(self) -> dict[str, set[str]]:
        """Return plate -> its wells."""
        wells: dict[str, set[str]] = defaultdict(set)
        for plate, _, well, _ in self.fields:
            wells[plate].add(well)
        return dict(wells)

    def pixel_um(self) -> list[float]:
        """Return the pixel sizes that indexes and headers say, in micrometres, each once."""
        said = [one.optics.pixel_um for one in self.found]
        return sorted({round(one, 6) for one in said if one})


def sorted_by_channel(found: Found) -> list[Plane]:
    """Return the planes in the order of their channels: by number in their file, else by name."""
    if found.format.startswith(("Harmony", "ImageXpress", "CellVoyager", "MetaMorph")):
        return found.planes
    return sorted(found.planes, key=lambda plane: (plane.in_file or 0, plane.channel))


def survey(root: Path, pattern: str | None = None) -> Survey:
    """Recognise what a folder holds; reads indexes, names and a sample of headers, and no pixels.

    Raises UsageError where there is no such folder, or no image follows the pattern; DataError without images.
    """
    listing = list_folder(root)
    headers = Headers(root)
    found: list[Found] = []
    if pattern is None:
        found += recognise_ome_zarr(listing)
        found += recognise_indexed(listing)
        found += recognise_metamorph(listing, headers)
        found += recognise_loaddata(listing, headers)
    sort_out(listing, not_all=not found)
    found += recognise_by_name(listing, headers, pattern) if not found else _leftovers(listing, found)
    if not found:
        raise _nothing(listing)
    _leave_out_repeats([one for one in found if one.format.startswith(INDEXED)], listing)
    _separate_measurements([one for one in found if one.format.startswith(INDEXED)])
    _leave_out_second([one for one in found if not one.format.startswith(INDEXED)], listing)
    listing.doubts += [doubt for one in found if not one.planes for doubt in one.doubts]
    found = [one for one in found if one.planes]
    known = _sample_headers(found, headers)
    _complete_optics(found, headers)
    result = Survey(root, found, _merged_left_out(listing, found), [], known)
    if len(result.incomplete) == len(result.fields):
        field, lacks = next(iter(result.incomplete.items()))
        raise DataError(
            f"no field of {root} has all its images; plate {field[0]}, well {field[2]}, site {field[3]}: {lacks}",
            hint="copy the plate again, or say with --pattern how its files are called",
        )
    result.doubts = [*listing.doubts, *(doubt for one in found for doubt in one.doubts), *_doubts(result, headers)]
    return result


def _leftovers(listing: Listing, found: list[Found]) -> list[Found]:
    """Leave out images that no index names, beside plates that have one."""
    folders = {plane.file.rpartition("/")[0] for one in found for plane in one.planes if plane.file}
    files = listing.images()
    listing.leave_out(
        "images that the index of their plate does not list",
        [file for file in files if file.rpartition("/")[0] in folders],
    )
    if elsewhere := listing.images():
        listing.doubts.append(
            f"{len(elsewhere):,} images belong to no plate with an index ({elsewhere[0]}), so they are left out; "
            "cellssl init with their folder takes them"
        )
        listing.leave_out("images that belong to no index", elsewhere)
    return []


def _nothing(listing: Listing) -> DataError:
    left = {reason: len(files) for reason, files in listing.left_out.items()}
    words = [f"{number:,} {reason}" for reason, number in left.items()]
    words += listing.doubts
    others = sum(listing.others.values()) + len(listing.sizes)
    what = "; ".join(words) if words else f"{others:,} other files" if others else "nothing"
    return DataError(
        f"{listing.root} holds no images of fields that can be read: it holds {what}",
        hint="give the folder that holds the plate: TIFF, OME-Zarr, OME-TIFF, CZI, ND2 or LIF, below it at any depth",
    )


def _separate_measurements(found: list[Found]) -> None:
    """Keep the batch only of plates with several measurements; number measurements without a name."""
    _name_by_folder(found)
    by_plate: dict[str, list[Found]] = defaultdict(list)
    for one in found:
        for plate in {plane.plate for plane in one.planes}:
            by_plate[plate].append(one)
    for plate, several in by_plate.items():
        keys = [{(p.well, p.site, p.channel, p.z, p.t) for p in one.planes if p.plate == plate} for one in several]
        overlap = any(keys[a] & keys[b] for a in range(len(keys)) for b in range(a))
        apart = overlap or sum(one.format.startswith(MEASURED) for one in several) > 1
        inside = [sorted({p.batch for p in one.planes if p.plate == plate}) for one in several]
        labels = _labels(several, inside) if apart else [""] * len(several)
        for one, batches, label in zip(several, inside, labels, strict=True):
            names = {batch: f"{label} {batch}".strip() if len(batches) > 1 else label for batch in batches}
            one.planes = [replace(p, batch=names[p.batch]) if p.plate == plate else p for p in one.planes]
        if overlap:
            several[0].doubts.append(
                f"plate {plate} was measured {len(several)} times; the column batch tells the measurements apart"
            )
        elif apart:
            several[0].doubts.append(
                f"plate {plate} comes from {len(several)} measurements of different wells or sites; the column batch "
                "tells them apart. If they are different plates, give each folder to cellssl init"
            )
        for batches in inside:
            if len(batches) > 1:
                several[0].doubts.append(f"plate {plate} has several batches, kept apart: {', '.join(batches)}")


def _labels(several: list[Found], inside: list[list[str]]) -> list[str]:
    """Return a name for each measurement of a plate: its own, else that of its folder, else a number."""
    own = [batches[0] if len(batches) == 1 else "" for batches in inside]
    for names in (own, [one.folder for one in several]):
        if all(names) and len(set(names)) == len(names):
            return names
    return [" ".join(filter(None, (name, f"measurement {n}"))) for n, name in enumerate(own, start=1)]


def _name_by_folder(found: list[Found]) -> None:
    """Name plates by their folders, where several have one name inside and their folders tell them apart."""
    by_plate: dict[str, list[Found]] = defaultdict(list)
    for one in found:
        if one.format.startswith(("Harmony", "OME-Zarr")) and one.folder and one.planes:
            by_plate[one.planes[0].plate].append(one)
    for plate, several in by_plate.items():
        folders = list(dict.fromkeys(one.folder for one in several))
        if len(folders) < 2:
            continue
        for one in several:
            one.planes = [replace(plane, plate=one.folder) for plane in one.planes]
        several[0].doubts.append(
            f"{len(several)} measurements are called plate {plate} inside, and their folders {', '.join(folders[:5])}: "
            "they contradict each other, so the plates are named by their folders"
        )


def _leave_out_repeats(found: list[Found], listing: Listing) -> None:
    """Leave out images that an index lists as the same plane as another, and say which."""
    for one in found:
        first: dict[tuple[object, ...], Plane] = {}
        kept, second = [], []
        for plane in one.planes:
            former = first.setdefault((plane.field, plane.channel, plane.z, plane.t), plane)
            if former is plane:
                kept.append(plane)
            elif not former.file and plane.file:
                first[plane.field, plane.channel, plane.z, plane.t] = plane
                kept.append(plane)
            elif plane.file and _image(plane) != _image(former):
                second.append((former, plane))
        one.planes = kept
        if second:
            former, plane = second[0]
            where = f"plate {plane.plate}, well {plane.well}, site {plane.site}, channel {plane.channel}"
            one.doubts.append(
                f"{len(second):,} images are listed as planes that others are, and left out, such as {plane.file}: "
                f"{where}, plane {plane.z}, time point {plane.t} is {former.file}, too"
            )
            used = {plane.file for plane in kept}
            listing.leave_out(
                "images that are listed as the same plane as another",
                sorted({plane.file for _, plane in second} - used),
            )


def _image(plane: Plane) -> tuple[object, ...]:
    return plane.file, plane.series, plane.in_file


def _leave_out_second(found: list[Found], listing: Listing) -> None:
    """Leave out images that say the same as those of a more frequent pattern of names."""
    taken: set[tuple[object, ...]] = set()
    for one in found:
        places = {plane: (plane.field, plane.channel, plane.z, plane.t) for plane in one.planes}
        second = sorted({plane.file for plane, place in places.items() if place in taken})
        one.planes = [plane for plane in one.planes if plane.file not in set(second)]
        taken |= set(places.values())
        listing.leave_out("second files of one field and channel", second)
        if second:
            one.doubts.append(
                f"{len(second):,} files say the same well, site and channel as another, such as {second[0]}"
            )


def _sample_headers(found: list[Found], headers: Headers) -> list[ImageHeader]:
    sampled = []
    for one in found:
        by_channel: dict[str, list[str]] = defaultdict(list)
        for plane in one.planes:
            if plane.file:
                by_channel[plane.channel].append(plane.file)
        for files in by_channel.values():
            number = max(3, HEADERS_READ // len(by_channel))
            sampled += [header for file in spread(sorted(set(files)), number) if (header := headers.of(file))]
    return sampled


def _complete_optics(found: list[Found], headers: Headers) -> None:
    """Fill what an index does not say with what the header of an image says."""
    for one in found:
        first = next((header for plane in one.planes if plane.file and (header := headers.of(plane.file))), None)
        if first:
            one.optics = replace(
                one.optics,
                pixel_um=one.optics.pixel_um or first.pixel_um,
                objective=one.optics.objective or first.objective,
                acquired=one.optics.acquired or first.acquired,
            )


def _merged_left_out(listing: Listing, found: list[Found]) -> dict[str, list[str]]:
    merged: dict[str, list[str]] = defaultdict(list)
    for left_out in (listing.left_out, *(one.left_out for one in found)):
        for reason, files in left_out.items():
            merged[reason] += files
    return dict(merged)


def _by_time(planes: Sequence[Plane]) -> dict[int, list[Plane]]:
    """Return the planes that are there by time point, in order."""
    times: dict[int, list[Plane]] = defaultdict(list)
    for plane in sorted((plane for plane in planes if plane.file), key=lambda plane: plane.t):
        times[plane.t].append(plane)
    return dict(times)


def _planes_per_channel(planes: Sequence[Plane], channels: Sequence[str]) -> tuple[tuple[str, int], ...]:
    counts = Counter(plane.channel for plane in planes if plane.file)
    return tuple((channel, counts[channel]) for channel in channels)


def _doubts(result: Survey, headers: Headers) -> list[str]:
    doubts = []
    for file, fault in headers.faults.items():
        doubts.append(f"the header of {file} cannot be read: {fault}")
    if absent := [name for name, key in result.keys.items() if key not in result.channels]:
        doubts.append(f"channels that many fields lack are not in the recipe: {', '.join(absent)}")
    if result.incomplete:
        (plate, _, well, site), lacks = next(iter(result.incomplete.items()))
        doubts.append(
            f"{len(result.incomplete):,} of {len(result.fields):,} fields are incomplete and stand in incomplete.csv, "
            f"not in fields.csv, such as plate {plate}, well {well}, site {site}: {lacks}"
        )
    doubts += [*_mixtures(result), *_unlike_channels(result)]
    sites = Counter(Counter((plate, batch, well) for plate, batch, well, _ in result.fields).values())
    if len(sites) > 1:
        words = ", ".join(f"{number:,} wells with {count}" for count, number in sorted(sites.items()))
        doubts.append(f"wells have different numbers of sites: {words}")
    if nameless := [plate for plate, wells in result.wells().items() if "none" in wells]:
        doubts.append(f"images of {', '.join(nameless[:5])} name no well; their well is called none")
    if not result.pixel_um():
        doubts.append("no file says the size of a pixel; give it as pixel_um in the recipe, in micrometres")
    elif len(result.pixel_um()) > 1:
        doubts.append(f"pixel sizes differ: {', '.join(f'{one:g}' for one in result.pixel_um())} um")
    for one in result.found:
        if any(mark in one.format for mark in EXPERIMENTAL):
            doubts.append(
                f"reading {one.format.partition(' files')[0]} is experimental: compare a field with your viewer"
            )
            break
    return doubts


def _unlike_channels(result: Survey) -> list[str]:
    """Name channels with different numbers of z planes or time points, which are files of their own."""
    z: dict[str, set[int]] = defaultdict(set)
    t: dict[str, set[int]] = defaultdict(set)
    for plane in result.planes:
        if plane.file and plane.channel in result.channels:
            z[plane.channel].add(plane.z)
            t[plane.channel].add(plane.t)
    doubts = []
    if len({len(planes) for planes in z.values()}) > 1:
        words = ", ".join(f"{channel} {len(planes)}" for channel, planes in z.items())
        doubts.append(f"channels have different numbers of z planes: {words}; each is made one plane on its own")
    taken = "the first one of every field" if result.time_point is None else f"time point {result.time_point}"
    if len({len(times) for times in t.values()}) > 1:
        words = ", ".join(f"{channel} {len(times)}" for channel, times in t.items())
        doubts.append(f"channels have different numbers of time points: {words}; {taken} is taken")
    firsts = Counter(next(iter(_by_time(planes)), 0) for planes in result.fields.values())
    if result.separate_t > 1 and result.time_point is None and len(firsts) > 1:
        words = ", ".join(f"{number:,} with {time}" for time, number in sorted(firsts.items()))
        doubts.append(f"fields begin with different time points: {words}; {taken} is taken")
    return doubts


def _mixtures(result: Survey) -> list[str]:
    """Name what differs among the headers of the sample."""
    doubts = []
    sizes = Counter((header.rows, header.columns) for header in result.headers)
    types = Counter(header.dtype for header in result.headers)
    if len(sizes) > 1:
        words = ", ".join(f"{rows} x {columns} ({number})" for (rows, columns), number in sizes.most_common())
        doubts.append(f"images differ in size, in a sample of {len(result.headers)}: {words}")
    if len(types) > 1:
        words = ", ".join(f"{name} ({number})" for name, number in types.most_common())
        doubts.append(f"images differ in type, in a sample of {len(result.headers)}: {words}")
    if any(header.samples > 1 for header in result.headers):
        doubts.append("images are in colour; they can be read where the colours of every pixel are equal")
    return doubts


def as_json(result: Survey) -> dict[str, Any]:
    """Return the facts of a survey as one object."""
    optics = [one.optics for one in result.found]
    return {
        "folder": str(result.root),
        "formats": sorted({one.format for one in result.found}),
        "plates": {plate: len(wells) for plate, wells in sorted(result.wells().items())},
        "batches": sorted({batch for _, batch, _, _ in result.fields if batch}),
        "wells": sum(len(wells) for wells in result.wells().values()),
        "fields": len(result.fields),
        "incomplete_fields": len(result.incomplete),
        "channels": {key: name for name, key in result.keys.items()},
        "channels_in_recipe": result.channels,
        "z_planes": result.z_planes,
        "time_points": result.time_points,
        "pixel_um": result.pixel_um(),
        "types": sorted({header.dtype for header in result.headers}),
        "sizes_px": sorted({(header.rows, header.columns) for header in result.headers}),
        "objectives": sorted({one.objective for one in optics if one.objective}),
        "acquired": sorted({one.acquired for one in optics if one.acquired}),
        "left_out": {reason: len(files) for reason, files in sorted(result.left_out.items())},
        "doubts": result.doubts,
    }
