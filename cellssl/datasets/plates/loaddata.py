"""loaddata: CellProfiler's LoadData tables in a folder of images in -> planes."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

from cellssl.datasets.plates.by_name import SHAPELESS as NO_PLATE
from cellssl.datasets.plates.file_names import read_names
from cellssl.datasets.plates.folder import Listing
from cellssl.datasets.plates.headers import Headers
from cellssl.datasets.plates.layout import Found, Plane, canonical_well, well_at
from cellssl.datasets.tables.csv_table import Table, read_table
from cellssl.errors import DataError, UsageError

FILE_COLUMN = re.compile(r"(FileName|URL)_(?!Illum)(.+)", re.I)
OF_AN_IMAGE = re.compile(r"(FileName|PathName|URL|Frame|Series|Width|Height|MD5Digest|Scaling|Group)_", re.I)
NAMES = {
    "plate": ("plate", "assayplatebarcode", "plateid", "platename", "platebarcode", "barcode"),
    "batch": ("batch", "measurement", "measurementid"),
    "well": ("well", "wellposition", "wellid", "wellname"),
    "site": (
        *("site", "field", "fieldid", "siteid", "position", "fov", "fieldindex", "siteindex", "sitenumber"),
        *("fieldnumber", "fieldofview", "fovid", "fovindex", "fovnumber", "pos", "tile", "view", "sitename"),
    ),
    "row": ("row", "wellrow", "rowid"),
    "column": ("col", "column", "wellcolumn", "wellcol", "columnid", "colid"),
    "z": ("planeid", "z", "zplane", "zpos", "zposition", "zindex", "zslice", "zstep", "plane", "slice", "zlevel"),
    "t": ("timepointid", "t", "time", "timepoint", "timeindex", "timestep"),
}
"""Role -> columns that hold it, without `Metadata_` and in small letters and digits, the surest first."""
SHAPELESS = re.compile(r"(load_?-?data|images?|file_?-?list)\W*.*", re.I)
"""Names of tables that name no plate."""
NUMBERED = re.compile(r"([A-Za-z_ -]*)(\d+)(?:\.0+)?")

Parts = tuple[str, ...]
"""The parts of a path, as a table states it."""


@dataclass
class _Listed:
    """A table, and what its columns are."""

    source: str
    table: Table
    doubts: list[str] = field(default_factory=list)

    @cached_property
    def lower(self) -> dict[str, str]:
        return {column.lower(): column for column in self.table.header}

    @cached_property
    def roles(self) -> dict[str, str]:
        """Return role -> its column; where nothing names a well or site, the number of the image set is the site."""
        plain = {re.sub(r"[^a-z0-9]", "", re.sub(r"^(image_)?metadata_", "", one)): one for one in self.lower}
        found = {role: next((plain[name] for name in names if name in plain), "") for role, names in NAMES.items()}
        roles = {role: self.lower[column] for role, column in found.items() if column}
        if not roles.keys() & {"well", "row", "site"} and "imagenumber" in plain:
            roles["site"] = self.lower[plain["imagenumber"]]
        return roles

    @cached_property
    def channels(self) -> dict[str, str]:
        """Return channel -> the column with its file or address."""
        channels: dict[str, str] = {}
        for column in self.table.header:
            if match := FILE_COLUMN.fullmatch(column):
                channels.setdefault(match[2], column)
        return channels

    def has_wells(self) -> bool:
        """Return whether a column names wells, or two their rows and columns."""
        return "well" in self.roles or {"row", "column"} <= self.roles.keys()

    def texts(self, role: str) -> list[str]:
        """Return what the rows say of a role; "" where no column does."""
        return self.table.column(self.roles[role]) if role in self.roles else [""] * len(self.table.rows)

    def beside(self, word: str, channel: str) -> list[str]:
        """Return a column of a channel, such as PathName_DNA; "" where there is none."""
        column = self.lower.get(f"{word}_{channel}".lower())
        return self.table.column(column) if column else [""] * len(self.table.rows)

    def numbers(self, role: str, default: int) -> list[int]:
        """Return the numbers of a role; texts that are no numbers are numbered in their order, which is said."""
        texts = self.texts(role)
        said = sorted(set(texts) - {""})
        matches = [NUMBERED.fullmatch(text) for text in said]
        prefixes = {match[1] for match in matches if match}
        if all(matches) and len(prefixes) < 2:
            return [int(NUMBERED.fullmatch(text)[2]) if text else default for text in texts]  # type: ignore[index]
        with contextlib.suppress(ValueError):
            said.sort(key=float)
        self.doubts.append(
            f"{self.source}, column {self.roles[role]}: {said[0]}, {said[1] if len(said) > 1 else ''} ... are no whole "
            f"numbers, so they are numbered in their order, from 1"
        )
        return [said.index(text) + 1 if text else default for text in texts]

    def wells(self) -> list[str]:
        """Return the well of every row; "none" where nothing says it."""
        rows, columns = self.texts("row"), self.texts("column")
        from_zero = all(one.isdigit() for one in rows + columns) and ("0" in rows or "0" in columns)
        placed = [_well_of(*pair, int(from_zero)) for pair in zip(rows, columns, strict=True)]
        if "well" not in self.roles:
            if from_zero:
                self.doubts.append(f"{self.source}: rows and columns are counted from 0, so that 0 and 0 is A01")
            return [well or "none" for well in placed]
        wells = [canonical_well(text) or "none" for text in self.texts("well")]
        if odd := [n for n, pair in enumerate(zip(wells, placed, strict=True)) if pair[1] and len(set(pair)) > 1]:
            self.doubts.append(
                f"{self.source}: the well contradicts row and column in {len(odd):,} lines, such as "
                f"{wells[odd[0]]} and {placed[odd[0]]}; the well is taken"
            )
        return wells

    def plate(self, root: Path) -> str:
        """Return the plate of rows that name none: the folder of the table, or the table."""
        path = PurePosixPath(self.source)
        stem = path.name.partition(".")[0]
        return path.parent.name or (root.resolve().name if SHAPELESS.fullmatch(stem) else stem) or "plate"


def recognise_loaddata(listing: Listing, headers: Headers) -> list[Found]:
    """Return the fields of every LoadData table; images that the tables list leave the listing.

    Tables that name no wells are left aside where file names or other tables do. Raises DataError where rows of a
    table contradict each other, or tables do.
    """
    tables = []
    for file in listing.named(".csv", ".csv.gz"):
        table = _table(listing.root / file)
        if table is not None and table.rows:
            tables.append(_Listed(file, table))
    if any(one.has_wells() for one in tables) or (tables and _names_say_wells(listing)):
        for one in tables:
            if not one.has_wells():
                listing.doubts.append(f"{one.source} lists images and names no wells, so it is not used")
        tables = [one for one in tables if one.has_wells()]
    places = _Places(listing)
    rows = [list(_planes(one, listing.root, places)) for one in tables]
    taken: dict[tuple[str, int, int | None], tuple[str, Plane]] = {}
    found = [
        _found(places, headers, listing.doubts, one, planes, taken) for one, planes in zip(tables, rows, strict=True)
    ]
    for one_found in found:
        for plane in one_found.planes if one_found else ():
            listing.sizes.pop(plane.file, None)
    return [one for one in found if one is not None]


def _table(path: Path) -> Table | None:
    with path.open("rb") as opened:
        head = opened.read(65536)
    if not path.name.endswith(".gz") and b"FileName_" not in head and b"URL_" not in head:
        return None
    try:
        table = read_table(path)
    except (DataError, UsageError):
        return None
    return table if any(FILE_COLUMN.fullmatch(column) for column in table.header) else None


def _names_say_wells(listing: Listing) -> bool:
    named, _ = read_names(listing.images())
    return bool(named) and all(parts.get("well") or parts.get("number") for parts in named[0].parts.values())


class _Places:
    """Finds the files that tables state, by the longest common end of both paths; one file is that of one place."""

    def __init__(self, listing: Listing) -> None:
        self.root = tuple(listing.root.resolve().parts[1:])
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for file in listing.sizes:
            self.by_name[PurePosixPath(file).name.casefold()].append(file)
        self.found: dict[Parts, tuple[str, int]] = {}
        self.claims: dict[str, dict[Parts, set[tuple[object, ...]]]] = defaultdict(lambda: defaultdict(set))

    def stated(self, name: str, folder: str, source: str) -> Parts:
        """Return the parts of the path in a row; one that is relative lies beside its table."""
        if "://" in name or name.startswith("file:"):
            name = unquote(urlsplit(name).path)
        windows = "\\" in folder + name or re.match(r"[A-Za-z]:", folder + name) is not None
        path = PureWindowsPath(folder, name) if windows else PurePosixPath(folder, name)
        parts = tuple(part for part in path.parts if part not in ("/", "\\", "."))
        if not parts or not name:
            return ()
        is_whole = path.is_absolute() or bool(path.drive)
        return parts if is_whole else (*self.root, *PurePosixPath(source).parent.parts, *parts)

    def claim(self, stated: Parts, key: tuple[object, ...]) -> None:
        """Note that a row states the image of a field."""
        if not stated:
            return
        if stated not in self.found:
            ends = {file: self._common(stated, file) for file in self.by_name.get(stated[-1].casefold(), [])}
            most = max(ends.values(), default=0)
            best = [file for file, length in ends.items() if length == most]
            self.found[stated] = (best[0], most) if len(best) == 1 else ("", 0)
        self.claims[self.found[stated][0]][stated].add(key)

    def file(self, stated: Parts) -> str:
        """Return the file of a stated path; "" where there is none, or where it is rather that of another path."""
        file, length = self.found.get(stated, ("", 0))
        claims = self.claims[file] if file else {}
        if len(claims) < 2 or len({frozenset(keys) for keys in claims.values()}) == 1:
            return file
        lengths = [self.found[other][1] for other in claims]
        return file if length == max(lengths) and lengths.count(length) == 1 else ""

    def is_elsewhere(self, stated: Parts) -> bool:
        """Return whether the file was found by its name alone, in a folder of another name."""
        return self.found.get(stated, ("", 0))[1] == 1 and len(stated) > 1

    def is_of_another_plate(self, stated: Parts, plate: str) -> bool:
        """Return whether a row says its plate in the path, and the file of that name lies in a folder of another."""
        file = self.found.get(stated, ("", 0))[0]
        folders = [one for one in PurePosixPath(file).parts[:-1] if not NO_PLATE.fullmatch(one)]
        return (
            self.is_elsewhere(stated)
            and any(plate.casefold() in part.casefold() for part in stated[:-1])
            and bool(folders)
            and not any(plate.casefold() in one.casefold() for one in (*self.root, *folders))
        )

    def _common(self, stated: Parts, file: str) -> int:
        """Return the number of parts at the end that two paths have in common."""
        here = (*self.root, *PurePosixPath(file).parts)
        pairs = zip(reversed(stated), reversed(here), strict=False)
        count = 0
        for one, other in pairs:
            if one.casefold() != other.casefold():
                break
            count += 1
        return count


def _planes(one: _Listed, root: Path, places: _Places) -> Iterator[tuple[int, Parts, Plane]]:
    """Yield row, stated path and plane of every image of a table, and note which file it claims."""
    wells, plates, batches = one.wells(), one.texts("plate"), one.texts("batch")
    sites, z, t = one.numbers("site", 1), one.numbers("z", 0), one.numbers("t", 0)
    fallback = one.plate(root)
    columns = {
        channel: [one.table.column(column), *(one.beside(word, channel) for word in ("PathName", "Frame", "Series"))]
        for channel, column in one.channels.items()
    }
    for row in range(len(one.table.rows)):
        plate = plates[row] or fallback
        key = (plate, batches[row], wells[row], sites[row], z[row], t[row])
        for channel, (names, folders, frames, series) in columns.items():
            stated = places.stated(names[row], folders[row], one.source)
            places.claim(stated, key)
            page, number = _whole(frames[row]), _whole(series[row])
            yield (
                row,
                stated,
                Plane(
                    *("", plate, wells[row], sites[row], channel, batches[row], z[row], t[row]),
                    in_file=page,
                    is_page=page is not None,
                    series=number or 0,
                ),
            )


def _found(
    places: _Places,
    headers: Headers,
    doubts: list[str],
    one: _Listed,
    rows: Sequence[tuple[int, Parts, Plane]],
    taken: dict[tuple[str, int, int | None], tuple[str, Plane]],
) -> Found | None:
    """Return the planes of a table without those that another table lists, too."""
    _check_unique(one, rows)
    planes, absent, elsewhere, others, again = [], 0, "", 0, defaultdict[str, int](int)
    for _, stated, of_row in rows:
        file = places.file(stated)
        if file and places.is_of_another_plate(stated, of_row.plate):
            others, file = others + 1, ""
        absent += not file
        if file and places.is_elsewhere(stated):
            elsewhere = elsewhere or f"{'/'.join(stated)} is taken to be {file}"
        plane = replace(of_row, file=file)
        place = (file, plane.series, plane.in_file)
        source, former = taken.get(place, (one.source, plane))
        if not file or source == one.source:
            planes.append(plane)
            taken[place] = (one.source, plane)
        elif (former.field, former.z, former.t) != (plane.field, plane.z, plane.t):
            raise DataError(
                f"{source} and {one.source} contradict each other: {file} is {_words(former)} in the one and "
                f"{_words(plane)} in the other",
                hint="move one of the tables out of the folder, or say with --pattern how the files are called",
            )
        else:
            again[source] += 1
    if others:
        one.doubts.append(
            f"{others:,} images in {one.source} are of plates whose folders are not here; images of the same names in "
            "folders of other plates are not taken for them"
        )
    if not any(plane.file for plane in planes) and not again:
        doubts.extend(one.doubts)
        return None
    found = Found(f"CellProfiler LoadData table {one.source}", _without_frames(planes, headers), doubts=one.doubts)
    if absent:
        found.doubts.append(f"{absent:,} of {len(rows):,} images in {one.source} are not in the folder")
    if elsewhere:
        found.doubts.append(f"{one.source} names folders that are called otherwise here: {elsewhere}")
    for source, number in again.items():
        found.doubts.append(f"{one.source} lists {number:,} images that {source} lists, too; they are read once")
    return found


def _words(plane: Plane) -> str:
    return f"plate {plane.plate}, well {plane.well}, site {plane.site}"


def _check_unique(one: _Listed, rows: Sequence[tuple[int, Parts, Plane]]) -> None:
    """Raise DataError where two rows say the same plane and give different files for it."""
    first: dict[Plane, tuple[int, object]] = {}
    for row, stated, plane in rows:
        key = replace(plane, in_file=None, is_page=False, series=0)
        image = (stated, plane.in_file, plane.series)
        former, other = first.setdefault(key, (row, image))
        if image != other:
            lines = one.table.lines
            apart = _tells_apart(one, rows)
            raise DataError(
                f"{one.source}: lines {lines[former]} and {lines[row]} are both {_words(plane)}, channel "
                f"{plane.channel}, and name different images: no column that is known tells them apart",
                hint=f"{f'rename {apart}' if apart else 'call the column that does'} to Metadata_Site (or "
                "Metadata_Batch, Metadata_Z, Metadata_T), or say with --pattern how the files are called",
            )


def _tells_apart(one: _Listed, rows: Sequence[tuple[int, Parts, Plane]]) -> str:
    """Return the columns, at most three, of which each alone would tell all rows apart."""
    fields = {row: (plane.field, plane.z, plane.t) for row, _, plane in rows}
    columns = []
    for column in one.table.header:
        if column in one.roles.values() or OF_AN_IMAGE.match(column):
            continue
        texts = one.table.column(column)
        if len({(of_row, texts[row]) for row, of_row in fields.items()}) == len(fields):
            columns.append(column)
    columns.sort(key=lambda column: not column.lower().startswith("metadata_"))
    return " or ".join(columns[:3])


def _without_frames(planes: list[Plane], headers: Headers) -> list[Plane]:
    """Return the planes without numbers of pages where files hold one; a page of named channels is a channel."""
    first = next((plane.file for plane in planes if plane.file), "")
    header = headers.of(first) if first else None
    if header is None or header.is_one_plane:
        return [replace(plane, in_file=None, is_page=False) for plane in planes]
    if header.channels > 1 and header.z_planes == header.time_points == 1:
        return [replace(plane, is_page=False) for plane in planes]
    return planes


def _whole(text: str) -> int | None:
    match = re.fullmatch(r"(\d{1,9})(?:\.0+)?", text)
    return int(match[1]) if match else None


def _well_of(row: str, column: str, more: int) -> str:
    """Return the well at a row and column as a table writes them; "" where it does not."""
    if row.isdigit() and column.isdigit():
        return well_at(int(row) + more, int(column) + more)
    return canonical_well(f"{row}{column}") if row and column else ""
