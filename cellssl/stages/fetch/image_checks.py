"""image_checks: the fields of one plate and the headers of their images in; what does not fit together out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellssl.counting import counted
from cellssl.datasets.base import Field
from cellssl.datasets.plates.layout import MARKS_A_NUCLEUS, channel_key
from cellssl.datasets.tables.planes import NO_FILE
from cellssl.errors import DataError
from cellssl.images.reference import PROJECTIONS, ImageReference
from cellssl.stages.fetch import findings as kinds
from cellssl.stages.fetch.findings import Finding
from cellssl.stages.fetch.image_headers import Unreadable

if TYPE_CHECKING:
    from cellssl.images.described import ImageHeader
    from cellssl.stages.fetch.image_headers import Header, Place

SAME_PIXEL_UM = 0.05
"""Pixel sizes that differ by more than this share of the larger one contradict each other."""
THUMBNAIL_SHARE = 0.5
"""A thumbnail has at most this share of the height and width of the other images of its plate."""
CHOOSE_Z = 'in [fetch.dataset]: z = "max" (or "mean", "focus", or a number from 0)'
SIDES = "pixel_sides_um"
"""What `ImageHeader.extra` calls the two sides of a pixel, where they differ."""
FEWER_PLANES = "the brightest of fewer planes is darker: check that these fields were taken like the others"
AS_THEY_ARE = ("uint8", "uint16")
"""Types of pixels that are read without a scale."""


@dataclass(frozen=True)
class Image:
    """The image of one channel of one field, with the headers of its files."""

    field: Field
    channel: str
    reference: ImageReference
    headers: tuple[ImageHeader, ...]

    @property
    def header(self) -> ImageHeader:
        """The header of its first file."""
        return self.headers[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.header.rows, self.header.columns

    def finding(self, kind: str, what: str, cure: str) -> Finding:
        """Return a finding about this image."""
        return finding_of(self.field, kind, what, cure, self.channel, self.reference.files[0])


def finding_of(field: Field, kind: str, what: str, cure: str, channel: str = "", file: str = "") -> Finding:
    """Return a finding about a field."""
    return Finding(kind, what, cure, field.plate, field.well, field.field_id, channel, file)


def own_images(field: Field) -> dict[str, ImageReference]:
    """Return channel -> image, for the images that are files of this machine and stay where they are."""
    from cellssl.images.reference import parse_reference

    references = {channel: parse_reference(text) for channel, text in field.images.items()}
    return {name: one for name, one in references.items() if all(Path(file).is_absolute() for file in one.files)}


def check_images(
    fields: Sequence[Field], faults: Mapping[str, str], headers: Mapping[Place, Header]
) -> tuple[list[Finding], dict[str, list[Any]]]:
    """Return the findings of one plate, and per channel the usual size, depth and name in the file of an image.

    `faults` are the files that cannot be opened, each with the rest of a sentence that begins with its name.
    """
    found: list[Finding] = []
    images: list[Image] = []
    for field in fields:
        for channel, reference in own_images(field).items():
            fault = _fault_of(field, channel, reference, faults, headers)
            if fault is not None:
                found.append(fault)
                continue
            of_files = tuple(_header(headers, file, reference.series) for file in reference.files)
            images.append(Image(field, channel, reference, of_files))
    found += [one for image in images for one in _not_chosen(image)]
    found += _experimental(images)
    found += _sizes_in_fields(images)
    usual: dict[str, list[Any]] = {}
    for channel in dict.fromkeys(image.channel for image in images):
        of_channel = [image for image in images if image.channel == channel]
        thumbnails = list(_thumbnails(of_channel))
        found += thumbnails
        small = {one.field_id for one in thumbnails}
        others = [image for image in of_channel if image.field.field_id not in small]
        name = _usual(map(_name_in_file, of_channel))
        usual[channel] = [*_usual(image.shape for image in others), _usual(map(_depth, others))[1], name]
        usual[channel].append(_usual(map(_projected_planes, of_channel)))
        found += _unlike_most(others, usual[channel])
        found += _called_otherwise(of_channel, name)
        found += _numbers_of_z(of_channel)
    found += _other_channels(images)
    found += _pixel_sizes(images)
    found += _shapes_of_pixels(images)
    found += _objectives(images)
    found += _site_numbers(fields)
    return found, usual


def check_between_plates(usual: Mapping[str, Mapping[str, Sequence[Any]]]) -> Iterator[Finding]:
    """Yield the plates whose images usually have another depth or size than those of most plates."""
    channels = dict.fromkeys(channel for of_plate in usual.values() for channel in of_plate)
    for channel in channels:
        of_channel = {plate: of_plate[channel] for plate, of_plate in usual.items() if channel in of_plate}
        depths = {plate: (_bits_of(dtype), str(dtype)) for plate, (_, _, dtype, *_) in of_channel.items()}
        sizes = {
            plate: ((rows, columns), f"{rows} x {columns} pixels") for plate, (rows, columns, *_) in of_channel.items()
        }
        names = {
            plate: (channel_key(name), f"the name {channel_key(name)} in their files")
            for plate, (*_, name, _) in of_channel.items()
            if name
        }
        yield from _unlike_other_plates(kinds.DEPTHS, channel, depths)
        yield from _unlike_other_plates(kinds.SIZES, channel, sizes)
        stacks = {plate: (count, f"{count} z planes") for plate, (*_, count) in of_channel.items() if count}
        yield from _unlike_other_plates(kinds.CHANNEL_NAMES, channel, names) if names else ()
        yield from _unlike_other_plates(kinds.Z_PLANES, channel, stacks) if stacks else ()


def _unlike_other_plates(kind: str, channel: str, values: Mapping[str, tuple[Any, str]]) -> Iterator[Finding]:
    """Yield the plates whose value is not the most frequent one; `values` are values that sort, and their words."""
    most = _usual(values.values())
    count = sum(value == most for value in values.values())
    others = "another plate" if count == 1 else f"{count} other plates"
    for plate, value in values.items():
        if value != most:
            words = f"the {channel} images of plate {plate} have {value[1]}, and those of {others} {most[1]}"
            yield Finding(kind, words, _CURES[kind], plate=plate, channel=channel)


_CURES = {
    kinds.DEPTHS: "check how the plates were saved: grey values of 8 and of 16 bits are not comparable",
    kinds.CHANNEL_NAMES: "choose it by its name, not by its number: channel = NAME",
    kinds.Z_PLANES: FEWER_PLANES,
    kinds.SIZES: "check that objective and binning are the same; give pixel sizes per field where they differ",
}


def _header(headers: Mapping[Place, Header], file: str, series: int | None) -> ImageHeader:
    header = headers[file, series or 0]
    assert not isinstance(header, Unreadable)
    return header


def _fault_of(
    field: Field,
    channel: str,
    reference: ImageReference,
    faults: Mapping[str, str],
    headers: Mapping[Place, Header],
) -> Finding | None:
    """Return why an image cannot be opened, or None."""
    for file in reference.files:
        if file in faults and Path(file).name.startswith(NO_FILE):
            cure = "name the file in the table, or take the row out"
            return finding_of(field, kinds.MISSING, Path(file).name, cure, channel, file)
        if file in faults:
            what = f"{file} {faults[file]}"
            cure = "bring the file back, or correct its path in the table"
            return finding_of(field, kinds.MISSING, what, cure, channel, file)
        header = headers[file, reference.series or 0]
        if isinstance(header, Unreadable):
            return finding_of(field, kinds.UNREADABLE, header.reason, header.cure, channel, file)
    return None


def _not_chosen(image: Image) -> Iterator[Finding]:
    """Yield what a file holds several of where the reference chooses none, and pixels that need a scale."""
    from cellssl.images.choosing import choose

    reference, header = image.reference, image.header
    try:
        if len(reference.files) > 1 and reference.z is None:
            raise DataError(f"{reference.files[0]} is one of {len(reference.files)} z planes", hint=CHOOSE_Z)
        z = reference.z if len(reference.files) == 1 else None
        for file, of_file in zip(reference.files, image.headers, strict=True):
            choose(file, of_file, replace(reference, files=(file,), z=z))
    except DataError as error:
        yield image.finding(kinds.NOT_CHOSEN, error.message, error.hint)
    if header.dtype not in AS_THEY_ARE and reference.intensity_range is None:
        yield image.finding(
            kinds.NO_RANGE,
            f"{reference.files[0]} holds {header.dtype}; unsigned 8 or 16 bits are read as they are",
            "in [fetch.dataset]: intensity_range = [LOW, HIGH], the same for all images: LOW becomes 0, HIGH 65,535",
        )


def _experimental(images: Iterable[Image]) -> Iterator[Finding]:
    """Yield once per format that its reader has not been tested with a file of an instrument."""
    from cellssl.images.formats import EXPERIMENTAL, experimental_note

    first: dict[str, Image] = {}
    for image in images:
        if image.header.format in EXPERIMENTAL:
            first.setdefault(image.header.format, image)
    for name, image in first.items():
        file = Path(image.reference.files[0]).name
        yield image.finding(kinds.EXPERIMENTAL, f"{experimental_note(name)}; {file} is one", "")


def _sizes_in_fields(images: Sequence[Image]) -> Iterator[Finding]:
    """Yield the fields whose images differ in size; the files of one image count, too."""
    for _, group in groupby(images, key=lambda image: image.field.field_id):
        of_field = list(group)
        first = of_field[0]
        for image in of_field:
            sizes = [(header.rows, header.columns) for header in image.headers]
            other = next((size for size in sizes if size != first.shape), None)
            if other is not None:
                yield image.finding(
                    kinds.SIZES_IN_FIELD,
                    f"{image.channel} has {other[0]} x {other[1]} pixels, and {first.channel} has "
                    f"{first.shape[0]} x {first.shape[1]}",
                    "give images of one size, or take this field out of the table",
                )


def _thumbnails(images: Sequence[Image]) -> Iterator[Finding]:
    """Yield the images of one channel of a plate that are much smaller than most, and of fewer bits or so named.

    Every image may have its thumbnail, so of two equally frequent sizes the larger one is that of most images.
    """
    alike = Counter((image.shape, _bits(image)) for image in images)
    usual = max(images, key=lambda image: (alike[image.shape, _bits(image)], image.shape, _bits(image)))
    for image in images:
        if _is_thumbnail(image, usual):
            yield image.finding(
                kinds.THUMBNAIL,
                f"{Path(image.reference.files[0]).name} looks like a thumbnail: {_described(image)}, and others have "
                f"{_described(usual)}",
                "take its row out of the table",
            )


def _unlike_most(images: Sequence[Image], usual: Sequence[Any]) -> Iterator[Finding]:
    """Yield the images of one channel of a plate that have another depth or size than most."""
    rows, columns, dtype, *_ = usual
    of_depth, of_size = Counter(image.header.dtype for image in images), Counter(image.shape for image in images)
    for image in images:
        where = f"{image.channel} of field {image.field.field_id} has"
        on_plate = f"of this channel on plate {image.field.plate}:"
        if image.header.dtype != dtype:
            yield image.finding(
                kinds.DEPTHS,
                f"{where} {image.header.dtype}; others {on_plate} {dtype} ({of_depth[dtype]:,})",
                "give the image as it was taken: all images of a plate share one intensity scale",
            )
        if image.shape != (rows, columns):
            yield image.finding(
                kinds.SIZES,
                f"{where} {image.shape[0]} x {image.shape[1]} pixels; others {on_plate} {rows} x {columns} "
                f"({of_size[rows, columns]:,}){_binned(image, usual)}",
                "check that it is of the same objective and binning; columns.pixel_um gives a pixel size per field",
            )


def _depth(image: Image) -> tuple[int, str]:
    """Return the type of the pixels, so that of two equally frequent ones that of more bits is the usual one."""
    return _bits(image), image.header.dtype


def _bits(image: Image) -> int:
    """Return the bits of a pixel of an image."""
    return _bits_of(image.header.dtype)


def _bits_of(dtype: str) -> int:
    """Return the bits of a pixel: the number in the name of its type."""
    return int("".join(filter(str.isdigit, dtype)) or 0)


def _described(image: Image) -> str:
    return f"{image.shape[0]} x {image.shape[1]} pixels of {_bits(image)} bits"


def _is_thumbnail(image: Image, usual: Image) -> bool:
    is_small = all(one <= THUMBNAIL_SHARE * other for one, other in zip(image.shape, usual.shape, strict=True))
    return is_small and (_bits(image) < _bits(usual) or "thumb" in Path(image.reference.files[0]).name.lower())


def _binned(image: Image, usual: Sequence[Any]) -> str:
    """Return words where both sides are the usual ones divided or multiplied by one whole number."""
    for small, large in ((image.shape, usual[:2]), (usual[:2], image.shape)):
        factor, rest = divmod(large[0], small[0])
        if factor > 1 and rest < factor and large[1] // small[1] == factor:
            return f": binning differs by {factor}"
    return ""


def _pixel_sizes(images: Sequence[Image]) -> Iterator[Finding]:
    """Yield once per plate and pair of values: a given pixel size that the file contradicts, or files that differ."""
    given: dict[tuple[float, float], list[Image]] = {}
    in_files: dict[float, list[Image]] = {}
    for image in images:
        stated, read = image.field.pixel_um, image.header.pixel_um
        if read is None:
            continue
        in_files.setdefault(_rounded(read), []).append(image)
        if stated is not None and _differ(stated, read):
            given.setdefault((stated, _rounded(read)), []).append(image)
    for (stated, read), those in given.items():
        yield those[0].finding(
            kinds.PIXEL_SIZE,
            f"pixel_um is {stated:g}, and {_count(those)} of plate {those[0].field.plate} say {read:g} um, such as "
            f"{Path(those[0].reference.files[0]).name}",
            f"if the files are right, write pixel_um = {read:g}",
        )
    most = max(in_files, key=lambda size: len(in_files[size]), default=0.0)
    for read, those in in_files.items():
        if _differ(read, most) and those[0].field.pixel_um is None:
            yield those[0].finding(
                kinds.PIXEL_SIZES,
                f"{_count(those)} of plate {those[0].field.plate} say that a pixel has {read:g} um, and most say "
                f"{most:g} um",
                "give the pixel size of every field: columns.pixel_um",
            )


def _shapes_of_pixels(images: Sequence[Image]) -> Iterator[Finding]:
    """Yield once per plate that files say another height than width of a pixel."""
    those = [image for image in images if SIDES in image.header.extra]
    if those:
        yield those[0].finding(
            kinds.PIXEL_SHAPE,
            f"{_count(those)} of plate {those[0].field.plate} say that a pixel has {those[0].header.extra[SIDES]} um, "
            f"such as {Path(those[0].reference.files[0]).name}",
            "cells are measured as if pixels were squares: correct the files, or give pixel_um",
        )


def _numbers_of_z(images: Sequence[Image]) -> Iterator[Finding]:
    """Yield once per plate and channel that images are made of different numbers of z planes."""
    stacks = [image for image in images if _projected_planes(image)]
    counts = Counter(map(_projected_planes, stacks))
    if len(counts) > 1:
        most = _usual(map(_projected_planes, stacks))
        others = [image for image in stacks if _projected_planes(image) != most]
        words = ", ".join(str(number) for number in sorted(counts) if number != most)
        yield others[0].finding(
            kinds.Z_PLANES,
            f"{len(others):,} images of {others[0].channel} on plate {others[0].field.plate} are made of {words} "
            f"z planes, such as {Path(others[0].reference.files[0]).name}, and most of {most}",
            FEWER_PLANES,
        )


def _projected_planes(image: Image) -> int:
    """Return the number of z planes that are made one: files, or planes of one file; 0 where one is chosen."""
    if image.reference.z not in PROJECTIONS:
        return 0
    if len(image.reference.files) > 1:
        return len(image.reference.files)
    return image.header.pages if image.header.has_unnamed_pages else image.header.z_planes


def _name_in_file(image: Image) -> str:
    """Return what the file calls a channel that is chosen by its number; "" where it gives no name."""
    number, names = image.reference.channel, image.header.channel_names
    return names[number] if isinstance(number, int) and number < len(names) else ""


def _called_otherwise(images: Sequence[Image], usual: str) -> Iterator[Finding]:
    """Yield once per name that the number of a channel means in some files of a plate, beside the usual one."""
    by_name: dict[str, list[Image]] = {}
    for image in images:
        by_name.setdefault(_name_in_file(image), []).append(image)
    known = {channel_key(name) for name in by_name if name}
    for name, those in by_name.items():
        if len(known) > 1 and name and channel_key(name) != channel_key(usual or next(filter(None, by_name))):
            number = those[0].reference.channel
            yield those[0].finding(
                kinds.CHANNEL_NAMES,
                f"channel {number}, which is {those[0].channel} here, is called {name} in {_count(those)} of plate "
                f"{those[0].field.plate}, such as {Path(those[0].reference.files[0]).name}, and {usual} in others",
                "choose it by its name, not by its number: channel = NAME",
            )


def _other_channels(images: Sequence[Image]) -> Iterator[Finding]:
    """Yield once per plate, channel and name that a file calls a channel like another one."""
    channels = {channel_key(image.channel) for image in images}
    seen = set()
    for image in images:
        name, key = _name_in_file(image), channel_key(image.channel)
        better = _better_name(key, name, image.header.channel_names)
        is_another = bool(name) and channel_key(name) != key and channel_key(name) in channels
        if (better or is_another) and (image.channel, name) not in seen:
            seen.add((image.channel, name))
            file = Path(image.reference.files[0]).name
            yield image.finding(
                kinds.CHANNEL_NAMES,
                f"{image.channel} is channel {image.reference.channel} of {file}, which is called {name} there"
                + (f", and another one is called {better}" if better else ""),
                f'if the file is right, write channel = "{better}"' if better else "choose it by its name in the file",
            )


def _better_name(key: str, name: str, names: Sequence[str]) -> str:
    """Return the other name in a file that says what a channel of the recipe is, where its own name does not."""
    if not name or channel_key(name) == key:
        return ""
    others = [one for one in names if one != name]
    same = [one for one in others if channel_key(one) == key]
    nuclei = [one for one in others if _shows_nuclei(one)] if _shows_nuclei(key) and not _shows_nuclei(name) else []
    return next(iter([*same, *nuclei]), "")


def _shows_nuclei(name: str) -> bool:
    return any(mark in name.lower() for mark in MARKS_A_NUCLEUS)


def _rounded(size_um: float) -> float:
    return float(f"{size_um:.4g}")


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > SAME_PIXEL_UM * max(one, other)


def _count(images: Sequence[Image]) -> str:
    return counted(len(images), "file")


def _objectives(images: Sequence[Image]) -> Iterator[Finding]:
    """Yield the objectives of a plate that are not that of most images, once each."""
    named = [image for image in images if image.header.objective]
    if not named:
        return
    most = _usual([image.header.objective for image in named])
    for objective in sorted({str(image.header.objective) for image in named} - {most}):
        those = [image for image in named if image.header.objective == objective]
        yield those[0].finding(
            kinds.OBJECTIVES,
            f"{_count(those)} of plate {those[0].field.plate} were taken with {objective}, and most with {most}",
            "cells of two magnifications are not comparable: take one of them out of the table",
        )


def same_images(fields: Sequence[Field]) -> Iterator[Finding]:
    """Yield the images that are given for two channels of a field, or for two fields."""
    first: dict[str, tuple[Field, str]] = {}
    for field in fields:
        for channel, reference in own_images(field).items():
            text = str(reference)
            former, of_channel = first.setdefault(text, (field, channel))
            if former is field and of_channel == channel:
                continue
            where = "it" if former is field else f"field {former.field_id}"
            file = reference.files[0]
            yield finding_of(
                field,
                kinds.SAME_IMAGE,
                f"{channel} of field {field.field_id} is the file that {where} has as {of_channel}: {file}",
                "correct the path in the table",
                channel,
                file,
            )


def _site_numbers(fields: Sequence[Field]) -> Iterator[Finding]:
    """Yield the wells that have fewer or more fields than most wells of the plate."""
    sites = Counter(field.well for field in fields)
    if len(sites) < 2:
        return
    most = _usual(list(sites.values()))
    for well, count in sites.items():
        if count != most:
            yield Finding(
                kinds.SITES,
                f"well {well} of plate {fields[0].plate} has {count} fields, and most wells have {most}",
                "check that no field is missing in the table, or given twice",
                plate=fields[0].plate,
                well=well,
            )


def _usual(values: Iterable[Any]) -> Any:
    """Return the most frequent value; of equally frequent ones the largest, as thumbnails come with every image."""
    counts = Counter(values)
    return max(counts, key=lambda value: (counts[value], value))
