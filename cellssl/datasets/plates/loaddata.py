"""loaddata: CellProfiler's LoadData tables in a folder of images in -> planes."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote, urlsplit

from cellssl.datasets.plates.folder import Listing
from cellssl.datasets.plates.layout import Found, Plane, canonical_well, well_at
from cellssl.datasets.tables.csv_table import Table, read_table
from cellssl.errors import DataError, UsageError

FILE_COLUMN = re.compile(r"(FileName|URL)_(?!Illum)(.+)", re.I)
NAMES = {
    "plate": ("metadata_plate", "metadata_assay_plate_barcode", "metadata_plateid", "plate"),
    "well": ("metadata_well", "metadata_well_position", "metadata_wellid", "well"),
    "site": ("metadata_site", "metadata_field", "metadata_fieldid", "site"),
    "row": ("metadata_row", "metadata_wellrow"),
    "column": ("metadata_col", "metadata_column", "metadata_wellcolumn"),
    "z": ("metadata_planeid", "metadata_z", "metadata_zplane"),
    "t": ("metadata_timepointid", "metadata_t", "metadata_time"),
}
"""Role -> columns that hold it, in lower case."""


def recognise_loaddata(listing: Listing) -> list[Found]:
    """Return the fields of every LoadData table; images that the tables list leave the listing."""
    found = []
    for file in listing.named(".csv", ".csv.gz"):
        table = _table(listing.root / file)
        if table is not None and (one := _read(listing, file, table)) is not None:
            found.append(one)
    return found


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


def _read(listing: Listing, source: str, table: Table) -> Found | None:
    lower = {column.lower(): column for column in table.header}
    columns = {
        role: table.column(lower[next(name for name in names if name in lower)])
        for role, names in NAMES.items()
        if any(name in lower for name in names)
    }
    channels: dict[str, str] = {}
    for column in table.header:
        if (match := FILE_COLUMN.fullmatch(column)) and match[2] not in channels:
            channels[match[2]] = column
    names = {channel: table.column(column) for channel, column in channels.items()}
    folders = {channel: _folders(table, lower, channel) for channel in channels}
    planes, absent = [], 0
    for row in range(len(table.rows)):
        said = {role: values[row] for role, values in columns.items()}
        for channel in channels:
            file = _file(listing, names[channel][row], folders[channel][row])
            absent += not file
            planes.append(_plane(file, said, channel, PurePosixPath(source).name.partition(".")[0]))
    if not any(plane.file for plane in planes):
        return None
    found = Found(f"CellProfiler LoadData table {source}", planes)
    if absent:
        found.doubts.append(f"{absent:,} of {len(planes):,} images in {source} are not in the folder")
    for plane in planes:
        listing.sizes.pop(plane.file, None)
    return found


def _folders(table: Table, lower: dict[str, str], channel: str) -> list[str]:
    column = lower.get(f"pathname_{channel.lower()}")
    return table.column(column) if column else [""] * len(table.rows)


def _plane(file: str, said: dict[str, str], channel: str, stem: str) -> Plane:
    well = said.get("well", "")
    if not well and said.get("row", "").isdigit() and said.get("column", "").isdigit():
        well = well_at(int(said["row"]), int(said["column"]))
    elif not well and "row" in said and "column" in said:
        well = f"{said['row']}{said['column']}"
    numbers = {
        role: int(digits[0]) for role in ("site", "z", "t") if (digits := re.findall(r"\d+", said.get(role, "")))
    }
    plate = said.get("plate") or stem
    return Plane(
        file,
        plate,
        canonical_well(well) or "none",
        numbers.get("site", 1),
        channel,
        z=numbers.get("z", 0),
        t=numbers.get("t", 0),
    )


def _file(listing: Listing, name: str, folder: str) -> str:
    """Return the listed file that a row names: the end of its path, or the only one of that name; else ""."""
    if "://" in name or name.startswith("file:"):
        name = unquote(urlsplit(name).path)
    path = PureWindowsPath(folder, name) if "\\" in folder + name else PurePosixPath(folder, name)
    parts = [part for part in path.parts if part not in ("/", "\\", ".")]
    for start in range(len(parts)):
        if (place := "/".join(parts[start:])) in listing.sizes:
            return place
    same = listing.by_name.get(parts[-1].casefold(), []) if parts else []
    return same[0] if len(same) == 1 else ""
