"""image_table: a CSV with one row a field and a path or address per channel in -> fields of a lab's own images.

Images on this machine stay where they are; those that have an address are fetched.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, field_validator
from pydantic import Field as Knob

from cellssl.config.paths import NAME, InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT, ORDERED
from cellssl.datasets.base import Field, Forecast, Value
from cellssl.datasets.tables.columns import Chosen, Columns, Keep, at_site, carried, fields_of_rows
from cellssl.datasets.tables.csv_table import Table, read_table
from cellssl.datasets.transfer.settings import OnlineSettings
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Progress


def _columns_of_path(given: Any) -> Any:
    """One column, or several whose texts are joined: always several."""
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


SUFFIX = re.compile(r"\.\w{1,5}")
_LAST: dict[tuple[int, int, str], list[tuple[Field, dict[str, str]]]] = {}
"""The rows that were read last, by size and time of the table and the knobs: every plate asks for them."""
PathColumns = Annotated[tuple[str, ...], BeforeValidator(_columns_of_path), Knob(min_length=1)]


class Settings(OnlineSettings):
    """A lab's own images: a table with one row a field of view, and the path of one grey image per channel.

    Paths stay where they are; images with an http, https or s3 address are fetched.
    """

    table: InputPath = Knob(json_schema_extra=NOT_IN_FINGERPRINT)
    """The CSV (comma, tab or semicolon); its content counts, its place does not."""
    channels: dict[str, PathColumns] = Knob(min_length=1, json_schema_extra=ORDERED)
    """Channel -> the column with its images' paths, or several columns that are joined, such as
    `dna = ["PathName_DAPI", "FileName_DAPI"]` of a CellProfiler file list. Their order is that of the
    crops' channels."""
    columns: Columns = Columns()
    """Which column holds plate, well, site, batch, compound, dose_micromolar and moa; none is required."""
    root: InputPath | None = Knob(None, json_schema_extra=NOT_IN_FINGERPRINT)
    """Folder that relative paths start from; the table's own where nothing is given."""
    pixel_um: float | None = Knob(None, gt=0)
    """Side of a pixel in micrometres."""
    compounds: tuple[str, ...] = ()
    """Only fields of these compounds, so name the controls too; all where nothing is given."""
    plates: tuple[str, ...] = ()
    """Only fields of these plates; all where nothing is given."""
    wells: tuple[str, ...] = ()
    """Only fields of these wells; all where nothing is given."""
    keep: Keep = ()
    """Further columns that go along into the field table."""

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, channels: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name in channels:
            if not NAME.fullmatch(name):
                raise ValueError(f"a channel cannot be called {name!r}; use letters, digits, '.', '_', '+' and '-'")
        return channels

    def external_files(self) -> Mapping[str, Path]:
        """The table, and all images that are there: both may change under the same name."""
        images = {
            f"{field.field_id}/{channel}": Path(place)
            for field in self._fields()
            for channel, place in field.images.items()
        }
        here = {role: image for role, image in images.items() if image.is_absolute() and _can_be_read(image)}
        return {"table": self.table, **here}

    def plan(self, cache: Path) -> list[Field]:
        """A field for every row that is chosen."""
        return sorted(self._fields(), key=lambda field: (field.plate, field.well, field.site))

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """The addresses, of whose bytes nothing else is known; of images that are here the bytes say it all."""
        addresses = self._addresses(fields)
        if not addresses:
            return {}
        return {"addresses": hashlib.sha256(json.dumps(addresses, sort_keys=True).encode()).hexdigest()}

    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Event, None, dict[str, str]]:
        """Images that are here are not copied; those with an address are brought, and written down with checksums."""
        addresses = self._addresses(fields)
        if not addresses:
            yield Progress(len(fields), len(fields), "fields")
            return {}
        from cellssl.datasets.transfer.single_files import bring

        places = {place: folder / place for place in addresses}
        faults = yield from bring(addresses, places, folder / "scratch", self.connections, self.patience())
        lacking = {
            field.field_id: faults[place] for field in fields for place in field.images.values() if place in faults
        }
        whole = {place for field in fields if field.field_id not in lacking for place in field.images.values()}
        yield from self.recorded({place: places[place] for place in sorted(whole & set(places))}, folder)
        return lacking

    def forecast(self, fields: Sequence[Field], folder: Path) -> Forecast:
        """By what servers say of the images that are not in `folder` yet."""
        missing = {place: url for place, url in self._addresses(fields).items() if not (folder / place).is_file()}
        if not missing:
            return Forecast(0, 0, 0)
        from cellssl.datasets.transfer.single_files import sizes

        found = sizes(missing, self.connections, self.patience())
        known = [size for size in found.values() if size is not None]
        total = sum(known) if len(known) == len(found) else None
        return Forecast(total, total, len(missing) - len(found))

    def tables(self, fields: Sequence[Field], cache: Path) -> dict[str, str]:
        """None: the field table holds what was asked for."""
        return {}

    def _fields(self) -> list[Field]:
        return [replace(field, images=_places(field, images)) for field, images in self._rows()]

    def _addresses(self, fields: Sequence[Field]) -> dict[str, str]:
        """Place and address of every image of these fields that has one."""
        ids = {field.field_id for field in fields}
        rows = [(field, images) for field, images in self._rows() if field.field_id in ids]
        pairs = (zip(_places(field, images).values(), images.values(), strict=True) for field, images in rows)
        return {place: image for of_row in pairs for place, image in of_row if _is_address(image)}

    def _rows(self) -> list[tuple[Field, dict[str, str]]]:
        """The chosen fields, each with the path or address of its images by channel; read once for all plates."""
        table, stat = read_table(self.table), self.table.stat()
        key = (stat.st_size, stat.st_mtime_ns, self.model_dump_json())
        rows = _LAST.get(key)
        if rows is None:
            rows = self._read(table)
            _LAST.clear()
            _LAST[key] = rows
        return rows

    def _read(self, table: Table) -> list[tuple[Field, dict[str, str]]]:
        rows = fields_of_rows(table, self.columns, self.table.name.partition(".")[0], self.pixel_um)
        if self.columns.site is None:
            rows = _numbered(rows)
        _check_unique(rows, table)
        images, extra = self._images(table), carried(table, self.keep)
        chosen = Chosen(self.compounds, self.plates, self.wells).rows(rows)
        return [(replace(rows[row], extra=extra[row]), images[row]) for row in chosen]

    def _images(self, table: Table) -> list[dict[str, str]]:
        root = self.root or self.table.parent
        parts = {channel: [table.column(name) for name in names] for channel, names in self.channels.items()}
        return [
            {channel: _place([texts[row] for texts in columns], root, table, row) for channel, columns in parts.items()}
            for row in range(len(table.rows))
        ]


def _can_be_read(image: Path) -> bool:
    try:
        return image.is_file() and os.access(image, os.R_OK)
    except (OSError, ValueError):  # too long a name, or a folder that may not be entered: `fetch` says which
        return False


def _place(parts: list[str], root: Path, table: Table, row: int) -> str:
    """The address or absolute path that the cells of a row amount to; a row without a file gets one that is not there.

    Raises UsageError for addresses of other kinds.
    """
    if not parts[-1]:
        return str(root / f"no file is named in line {table.lines[row]}")
    first = urlsplit(parts[0])
    if first.scheme == "file" and not first.netloc:
        parts = [unquote(first.path), *parts[1:]]
    elif "://" in parts[0]:
        if first.scheme not in ("http", "https", "s3") or not first.netloc:
            raise UsageError(
                f"{table.where(row)}: {parts[0]} is no address that images are fetched from",
                hint="use http, https, s3 or file:///, or download the images and give their folder as root",
            )
        return "/".join(part.strip("/") for part in parts)
    return str((root / "/".join(parts).replace("\\", "/")).absolute())


def _is_address(image: str) -> bool:
    return "://" in image


def _places(field: Field, images: dict[str, str]) -> dict[str, str]:
    """Where images lie: an absolute path as it is; what has an address goes into a folder of the plate."""
    return {channel: _own(field, channel, image) if _is_address(image) else image for channel, image in images.items()}


def _own(field: Field, channel: str, address: str) -> str:
    """The place in a plate's artifact for what comes from an address."""
    suffix = PurePosixPath(urlsplit(address).path).suffix
    return f"{field.plate}/{field.field_id}_{channel}{suffix if SUFFIX.fullmatch(suffix) else '.tif'}"


def _numbered(fields: list[Field]) -> list[Field]:
    """Sites by the order of the table, from 1 in every well."""
    seen: Counter[tuple[str, str]] = Counter()
    numbered = []
    for field in fields:
        seen[field.plate, field.well] += 1
        numbered.append(at_site(field, seen[field.plate, field.well]))
    return numbered


def _check_unique(fields: list[Field], table: Table) -> None:
    first: dict[str, int] = {}
    for row, field in enumerate(fields):
        if field.field_id in first:
            raise DataError(
                f"{table.where(row)} is plate {field.plate}, well {field.well}, site {field.site}, "
                f"and so is line {table.lines[first[field.field_id]]}",
                hint="keep one row a field, or name the column that tells them apart: columns.site",
            )
        first[field.field_id] = row
