"""plain_tiff: an open TIFF of one page in, its header out, in a tenth of the time that tifffile takes; or None.

A plate has 17,000 headers, and tifffile reads the tags of MetaMorph twice. Only files that leave nothing to choose are
read here: one page, without a description of stacks. For every other file, None is returned and tifffile is asked.
"""

from __future__ import annotations

import os
import re
import struct
from typing import BinaryIO

from cellssl.images.described import ImageHeader
from cellssl.images.ome_xml import MICROMETRES, square_pixel

ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
"""First bytes of a classic TIFF -> its byte order in struct's words."""
SIZES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II"}
"""Types of the tags that are read here -> struct's letters."""
MOST_TAGS, LONGEST_TAG = 64, 2**16
"""A page with more tags, or a longer value of one that counts, is left to tifffile."""
WIDTH, HEIGHT, BITS, DESCRIPTION, OFFSETS, SAMPLES, COUNTS, DATE = 256, 257, 258, 270, 273, 277, 279, 306
X_RESOLUTION, Y_RESOLUTION, UNIT, SAMPLE_FORMAT = 282, 283, 296, 339
UIC1, UIC2, UIC3, UIC4 = 33628, 33629, 33630, 33631
"""The private tags of MetaMorph."""
WANTED = (
    *(WIDTH, HEIGHT, BITS, DESCRIPTION, OFFSETS, SAMPLES, COUNTS),
    *(X_RESOLUTION, Y_RESOLUTION, UNIT, DATE, SAMPLE_FORMAT),
)
PLAIN = frozenset((254, 259, 262, 266, 273, 274, 278, 279, 284, 285, 305, 315, 316, 317, 338, UIC1, UIC2, UIC3, UIC4))
"""Further tags that a plain page may have; any other may mean something that is not known here."""
STACKS = re.compile(rb"<|\{|shape=|ImageJ|SCANIMAGE", re.IGNORECASE)
"""How the descriptions begin that may tell of stacks, pixel sizes or colours."""
KINDS = {1: "uint", 2: "int", 3: "float"}
"""Tag SampleFormat -> numpy's name without its bits."""
COARSEST_PIXEL_UM = 10.0
"""Coarser pixels in the resolution tags are those of printers, such as 72 or 300 dots per inch."""
UM_PER_RESOLUTION_UNIT = {2: 25_400.0, 3: 10_000.0}
"""Tag ResolutionUnit -> micrometres in it: inch and centimetre."""
CALIBRATED, X_UM, Y_UM, UNITS, NAME = 3, 4, 5, 6, 7
"""Numbers of entries in MetaMorph's tag UIC1."""
LONGEST_TEXT = 1024
Values = tuple[int | bytes, ...]


def plain_header(file: BinaryIO) -> ImageHeader | None:
    """Return the header of a TIFF of one plain page, or None where it may be something else, or is damaged."""
    try:
        return _header(file)
    except (struct.error, ValueError, ZeroDivisionError, KeyError, OverflowError):
        return None  # tifffile says what is wrong with it


def _header(file: BinaryIO) -> ImageHeader | None:
    order = ORDERS.get(file.read(4))
    tags = _tags_of_only_page(file, order) if order is not None else None
    if order is None or tags is None:
        return None
    values = {tag: _values(file, order, *tags[tag]) for tag in WANTED if tag in tags}
    description = _text(values, DESCRIPTION) or ""
    if STACKS.match(description.encode(errors="replace").lstrip()) or (UIC2 in tags and tags[UIC2][1] != 1):
        return None
    bits = set(values.get(BITS, (1,)))
    if len(bits) != 1 or not {*values.get(SAMPLE_FORMAT, (1,))} <= {*KINDS}:
        return None
    if not _holds_its_strips(file, values):
        return None
    (depth,) = bits
    if depth not in (8, 16, 32, 64):
        return None
    of_metamorph = _metamorph(file, order, tags[UIC1][1], tags[UIC1][2]) if UIC1 in tags else {}
    pixel_um = _calibrated(of_metamorph) if UIC1 in tags else None
    name = of_metamorph.get(NAME)
    return ImageHeader(
        format="MetaMorph TIFF" if {UIC1, UIC2} & set(tags) else "TIFF",
        rows=_number(values, HEIGHT),
        columns=_number(values, WIDTH),
        dtype=f"{KINDS[_number(values, SAMPLE_FORMAT, 1)]}{depth!r}",
        samples=_number(values, SAMPLES, 1),
        channel_names=(name,) if isinstance(name, str) and name else (),
        pixel_um=pixel_um or _pixel_of_tags(values),
        acquired=_text(values, DATE) or None,
        extra=described_in_lines(description) if {UIC1, UIC2} & set(tags) else {},
    )


def _tags_of_only_page(file: BinaryIO, order: str) -> dict[int, tuple[int, int, int, bytes]] | None:
    """Return tag -> type, count, offset and the four bytes of the value; None where there is more than one page."""
    (place,) = struct.unpack(order + "I", file.read(4))
    file.seek(place)
    (count,) = struct.unpack(order + "H", file.read(2))
    if not 0 < count <= MOST_TAGS:
        return None
    entries = file.read(12 * count)
    if file.read(4) != bytes(4):
        return None
    tags = {}
    for start in range(0, 12 * count, 12):
        tag, kind, length, offset = struct.unpack_from(order + "HHII", entries, start)
        tags[tag] = kind, length, offset, entries[start + 8 : start + 12]
    return tags if set(tags) <= {*WANTED, *PLAIN} and {WIDTH, HEIGHT, 273, 279} <= set(tags) else None


def _holds_its_strips(file: BinaryIO, values: dict[int, Values]) -> bool:
    """Return whether every strip ends within the file; a file that was copied in part has the same header."""
    size = file.seek(0, os.SEEK_END)
    pairs = zip(values[OFFSETS], values[COUNTS], strict=True)
    return all(int(offset) + int(count) <= size for offset, count in pairs)


def _values(file: BinaryIO, order: str, kind: int, count: int, offset: int, held: bytes) -> Values:
    letters = SIZES[kind]
    size = struct.calcsize("=" + letters) * count
    if size > LONGEST_TAG:
        raise ValueError("a tag is too long to be one of a plain page")
    if size > 4:
        file.seek(offset)
        held = file.read(size)
    if letters == "s":
        return (held[:count],)
    return struct.unpack(f"{order}{count * len(letters)}{letters[0]}", held[:size])


def _number(values: dict[int, Values], tag: int, default: int | None = None) -> int:
    value = values[tag][0] if default is None else values.get(tag, (default,))[0]
    if not isinstance(value, int):
        raise ValueError("a number is text")
    return value


def _text(values: dict[int, Values], tag: int) -> str | None:
    value = values.get(tag, (None,))[0]
    return value.split(b"\0")[0].decode("utf-8", errors="replace").strip() if isinstance(value, bytes) else None


def _pixel_of_tags(values: dict[int, Values]) -> float | None:
    unit = UM_PER_RESOLUTION_UNIT.get(_number(values, UNIT, 1))
    pairs = [values[tag] for tag in (X_RESOLUTION, Y_RESOLUTION) if tag in values]
    per_unit = [float(above) / float(below) for above, below in pairs if float(above) > 0 and float(below) > 0]
    return pixel_of_resolution(unit, per_unit)


def pixel_of_resolution(unit_um: float | None, per_unit: list[float]) -> float | None:
    """Return the side of a pixel from the resolution tags; None where they have no unit, or one of a printer."""
    found = square_pixel([unit_um / each for each in per_unit]) if unit_um is not None else None
    return found if found is not None and found < COARSEST_PIXEL_UM else None


def _metamorph(file: BinaryIO, order: str, count: int, offset: int) -> dict[int, int | float | str]:
    """Return those entries of UIC1 that matter here: calibration, units and the name of the image."""
    if count > LONGEST_TEXT:
        return {}
    file.seek(offset)
    entries = struct.unpack(f"{order}{2 * count}I", file.read(8 * count))
    found: dict[int, int | float | str] = {}
    for number, value in zip(entries[::2], entries[1::2], strict=True):
        if number == CALIBRATED:
            found[number] = value
        elif number in (X_UM, Y_UM) and value >= 8:
            file.seek(value)
            above, below = struct.unpack(order + "II", file.read(8))
            found[number] = above / below
        elif number in (UNITS, NAME) and value >= 8:
            found[number] = _pascal_string(file, order, value)
    return found


def _pascal_string(file: BinaryIO, order: str, offset: int) -> str:
    file.seek(offset)
    (size,) = struct.unpack(order + "I", file.read(4))
    return file.read(size).split(b"\0")[0].decode("latin-1").strip() if size < LONGEST_TEXT else ""


def _calibrated(entries: dict[int, int | float | str]) -> float | None:
    unit = MICROMETRES.get(str(entries.get(UNITS, "")))
    if unit is None or not entries.get(CALIBRATED, 1):
        return None
    return square_pixel([float(entries[axis]) * unit for axis in (X_UM, Y_UM) if axis in entries])


def described_in_lines(description: str) -> dict[str, str]:
    """Return what MetaMorph writes as "Binning: 1 x 1" into the description."""
    lines = (line.partition(":") for line in description.splitlines())
    return {name.strip().lower(): value.strip() for name, _, value in lines if name.strip() in ("Binning", "Exposure")}
