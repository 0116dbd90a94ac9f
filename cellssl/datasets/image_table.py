"""image_table: a CSV with one row per field, and a path or address per channel, in -> fields of a lab's own images.

Images on this machine stay where they are; images with an address are fetched.
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
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, field_validator
from pydantic import Field as Setting

from cellssl.config.paths import NAME, InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT, ORDERED
from cellssl.datasets.base import Field, Forecast, Value
from cellssl.datasets.tables.columns import (
    Columns,
    ExtraColumns,
    FieldSelection,
    extra_values,
    fields_of_rows,
    with_site,
)
from cellssl.datasets.tables.csv_table import Table, read_table
from cellssl.datasets.transfer.settings import OnlineDataset
from cellssl.disk import raise_fault
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Progress


def _columns_of_path(given: object) -> object:
    """Return the columns of a path as a tuple; one column may be given as a string."""
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


UNTIDY = re.compile(r"//|/\.(/|$)|/$")
"""What `Path` tidies up; for other paths it is left out, because it is slow for tens of thousands of images."""
SUFFIX = re.compile(r"\.\w{1,5}")
_LAST_READ: dict[tuple[int, int, str], list[tuple[Field, dict[str, str]]]] = {}
"""Rows read last, by size and time of the table and by the settings: every plate asks for the same rows again."""
PathColumns = Annotated[tuple[str, ...], BeforeValidator(_columns_of_path), Setting(min_length=1)]


class Settings(OnlineDataset):
    """A lab's own images: a table with one row per field of view, and the path of one grey image per channel.

    Images on this machine stay where they are; images with an http, https or s3 address are fetched.
    """

    table: InputPath = Setting(json_schema_extra=NOT_IN_FINGERPRINT)
    """The CSV file (comma, tab or semicolon); its content counts, its path does not."""
    channels: dict[str, PathColumns] = Setting(min_length=1, json_schema_extra=ORDERED)
    """Channel -> the column with the paths of its images, or several columns that are joined, such as
    `dna = ["PathName_DAPI", "FileName_DAPI"]` of a CellProfiler file list. Their order is that of the
    channels of the crops."""
    columns: Columns = Columns()
    """Names of the columns with plate, well, site, batch, compound, dose_micromolar and moa; none is required."""
    root: InputPath | None = Setting(None, json_schema_extra=NOT_IN_FINGERPRINT)
    """Folder that relative paths start from; if not given, the folder of the table."""
    pixel_um: float | None = Setting(None, gt=0)
    """Side of a pixel in micrometres."""
    compounds: tuple[str, ...] = ()
    """Only fields of these compounds (name the controls too); empty means all."""
    plates: tuple[str, ...] = ()
    """Only fields of these plates; empty means all."""
    wells: tuple[str, ...] = ()
    """Only fields of these wells; empty means all."""
    keep: ExtraColumns = ()
    """Further columns of the table that are copied into the field table, as the text that stands there."""

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, channels: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name in channels:
            if not NAME.fullmatch(name):
                raise ValueError(f"a channel cannot be called {name!r}; use letters, digits, '.', '_', '+' and '-'")
        return channels

    def external_files(self) -> Mapping[str, Path]:
        """Return the table, and all images on this machine, because both may change under the same name."""
        images = {
            f"{field.field_id}/{channel}": Path(place)
            for field in self._fields()
            for channel, place in field.images.items()
        }
        readable = {role: image for role, image in images.items() if image.is_absolute() and _can_be_read(image)}
        return {"table": self.table, **readable}

    def plan(self, cache: Path) -> list[Field]:
        """Return one field for every selected row."""
        return sorted(self._fields(), key=lambda field: (field.plate, field.well, field.site))

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """Return a hash of the addresses; for images on this machine, `fetch` counts their bytes."""
        addresses = self._addresses(fields)
        if not addresses:
            return {}
        return {"addresses": hashlib.sha256(json.dumps(addresses, sort_keys=True).encode()).hexdigest()}

    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Event, None, dict[str, str]]:
        """Fetch the images that have an address, and record their checksums; copy no image of this machine."""
        addresses = self._addresses(fields)
        if not addresses:
            yield Progress(len(fields), len(fields), "fields")
            return {}
        from cellssl.datasets.transfer.checksums import read_record
        from cellssl.datasets.transfer.single_files import FilesToFetch, fetch_files

        targets = {place: folder / place for place in addresses}
        files = FilesToFetch(addresses, targets, folder / "scratch", read_record(self.checksums))
        faults = yield from fetch_files(files, self.connections, self.retry_policy())
        reasons = {
            field.field_id: faults[place] for field in fields for place in field.images.values() if place in faults
        }
        whole = {place for field in fields if field.field_id not in reasons for place in field.images.values()}
        yield from self.write_record({place: targets[place] for place in sorted(whole & set(targets))}, folder)
        return reasons

    def forecast(self, fields: Sequence[Field], folder: Path) -> Forecast:
        """Return the sizes that servers give for the images that are not in `folder` yet; http images come twice."""
        missing = {place: url for place, url in self._addresses(fields).items() if not (folder / place).is_file()}
        if not missing:
            return Forecast(0, 0, 0)
        from cellssl.datasets.transfer.single_files import file_sizes, times_moved

        found = file_sizes(missing, self.connections, self.retry_policy())
        known = {place: size for place, size in found.items() if size is not None}
        if len(known) < len(found):
            return Forecast(None, None, len(missing) - len(found))
        moved = sum(size * times_moved(missing[place]) for place, size in known.items())
        return Forecast(moved, sum(known.values()), len(missing) - len(found))

    def absent_images(self) -> list[str]:
        """Return the paths in the table at which there is no image that can be read."""
        places = [place for field in self._fields() for place in field.images.values()]
        return [place for place in places if Path(place).is_absolute() and not _can_be_read(Path(place))]

    def _fields(self) -> list[Field]:
        return [field for field, _ in self._rows()]

    def _addresses(self, fields: Sequence[Field]) -> dict[str, str]:
        """Return place in the artifact -> address, for every image of these fields that has an address."""
        ids = {field.field_id for field in fields}
        rows = [(field, images) for field, images in self._rows() if field.field_id in ids]
        pairs = (zip(_places(field, images).values(), images.values(), strict=True) for field, images in rows)
        return {place: image for of_row in pairs for place, image in of_row if _is_address(image)}

    def _rows(self) -> list[tuple[Field, dict[str, str]]]:
        """Return the selected fields, each with its images as the table names them; read once for all plates."""
        table, stat = read_table(self.table), self.table.stat()
        key = (stat.st_size, stat.st_mtime_ns, self.model_dump_json())
        rows = _LAST_READ.get(key)
        if rows is None:
            rows = self._read(table)
            _LAST_READ.clear()
            _LAST_READ[key] = rows
        return rows

    def _read(self, table: Table) -> list[tuple[Field, dict[str, str]]]:
        rows = fields_of_rows(table, self.columns, self.table.name.partition(".")[0], self.pixel_um)
        if self.columns.site is None:
            rows = _with_numbered_sites(rows)
        _check_unique(rows, table)
        images, extra = self._images(table), extra_values(table, self.keep)
        selected = FieldSelection(self.compounds, self.plates, self.wells).rows(rows)
        return [
            (replace(rows[row], extra=extra[row], images=_places(rows[row], images[row])), images[row])
            for row in selected
        ]

    def _images(self, table: Table) -> list[dict[str, str]]:
        root = (self.root or self.table.parent).absolute()
        parts = {channel: [table.column(name) for name in names] for channel, names in self.channels.items()}
        return [
            {channel: _place([texts[row] for texts in columns], root, table, row) for channel, columns in parts.items()}
            for row in range(len(table.rows))
        ]


def _can_be_read(image: Path) -> bool:
    try:
        return image.is_file() and os.access(image, os.R_OK)
    except (OSError, ValueError) as error:  # too long a name, or a folder that may not be entered: `fetch` reports it
        raise_fault(error, image)
        return False


def _place(parts: list[str], root: Path, table: Table, row: int) -> str:
    """Join the cells of a row to an address or absolute path; a row without a file gets a path that does not exist.

    Raises UsageError for addresses of other kinds.
    """
    if not parts[-1]:
        return str(root / f"no file is named in line {table.lines[row]}")
    first = urlsplit(parts[0] if ":" in parts[0] else "")
    if first.scheme == "file" and not first.netloc:
        parts = [unquote(first.path), *parts[1:]]
    elif "://" in parts[0]:
        if first.scheme not in ("http", "https", "s3") or not first.netloc:
            raise UsageError(
                f"{table.where(row)}: {parts[0]} is not an address that images can be fetched from",
                hint="use http, https, s3 or file:///, or download the images and give their folder as root",
            )
        return "/".join(part.strip("/") for part in parts)
    text = "/".join(parts).replace("\\", "/")
    place = text if text.startswith("/") else f"{root}/{text}"
    return str(Path(root, text)) if UNTIDY.search(place) else place


def _is_address(image: str) -> bool:
    return "://" in image


def _places(field: Field, images: dict[str, str]) -> dict[str, str]:
    """Return where the images lie: an absolute path as it is; an image with an address in a folder of the plate."""
    return {
        channel: _place_in_artifact(field, channel, image) if _is_address(image) else image
        for channel, image in images.items()
    }


def _place_in_artifact(field: Field, channel: str, address: str) -> str:
    """Return the place of a fetched image, relative to the artifact of its plate."""
    suffix = PurePosixPath(urlsplit(address).path).suffix
    return f"{field.plate}/{field.field_id}_{channel}{suffix if SUFFIX.fullmatch(suffix) else '.tif'}"


def _with_numbered_sites(fields: list[Field]) -> list[Field]:
    """Number the sites by the order of the table, from 1 in every well."""
    counts: Counter[tuple[str, str]] = Counter()
    numbered = []
    for field in fields:
        counts[field.plate, field.well] += 1
        numbered.append(with_site(field, counts[field.plate, field.well]))
    return numbered


def _check_unique(fields: list[Field], table: Table) -> None:
    first: dict[str, int] = {}
    for row, field in enumerate(fields):
        if field.field_id in first:
            raise DataError(
                f"{table.where(row)} is plate {field.plate}, well {field.well}, site {field.site}, "
                f"and so is line {table.lines[first[field.field_id]]}",
                hint="keep one row per field, or give the column that distinguishes them: columns.site",
            )
        first[field.field_id] = row
