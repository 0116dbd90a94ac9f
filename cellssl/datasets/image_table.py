"""image_table: a CSV with one row a field and a path per channel in -> fields whose images stay where they are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, field_validator
from pydantic import Field as Knob

from cellssl.datasets._columns import Chosen, Columns, Keep, at_site, carried, fields_of_rows
from cellssl.datasets._table import Table, read_table
from cellssl.datasets.field import Field, Value
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Progress
from cellssl.recipe import NAME, InputPath
from cellssl.settings import NOT_COUNTED, Part


def _columns_of_path(given: Any) -> Any:
    """One column, or several whose texts are joined: always several."""
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


PathColumns = Annotated[tuple[str, ...], BeforeValidator(_columns_of_path), Knob(min_length=1)]


class Settings(Part):
    """A lab's own images: a table with one row a field of view, and the path of one grey image per channel."""

    table: InputPath = Knob(json_schema_extra=NOT_COUNTED)
    """The CSV (comma, tab or semicolon); its content counts, its place does not."""
    channels: dict[str, PathColumns] = Knob(min_length=1)
    """Channel -> the column with its images' paths, or several columns that are joined, such as
    `dna = ["PathName_DAPI", "FileName_DAPI"]` of a CellProfiler file list."""
    columns: Columns = Columns()
    """Which column holds plate, well, site, batch, compound, dose_micromolar and moa; none is required."""
    root: InputPath | None = Knob(None, json_schema_extra=NOT_COUNTED)
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

    def outside_files(self) -> Sequence[Path]:
        """The table, and all images that are there: both may change under the same name."""
        images = (Path(place) for field in self._fields() for place in field.images.values())
        return [self.table, *sorted({image for image in images if _can_be_read(image)})]

    def plan(self, cache: Path) -> list[Field]:
        """A field for every row that is chosen."""
        return sorted(self._fields(), key=lambda field: (field.plate, field.well, field.site))

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """Nothing: the rows and the images say it all."""
        return {}

    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Event, None, dict[str, str]]:
        """Nothing is copied; whether the images are there is looked at by `fetch`."""
        yield Progress(len(fields), len(fields), "fields")
        return {}

    def tables(self, fields: Sequence[Field], cache: Path) -> dict[str, str]:
        """None: the field table holds what was asked for."""
        return {}

    def _fields(self) -> list[Field]:
        table = read_table(self.table)
        rows = fields_of_rows(table, self.columns, self.table.name.partition(".")[0], self.pixel_um)
        if self.columns.site is None:
            rows = _numbered(rows)
        _check_unique(rows, table)
        images, extra = self._images(table), carried(table, self.keep)
        chosen = Chosen(self.compounds, self.plates, self.wells).rows(rows)
        return [replace(rows[row], images=images[row], extra=extra[row]) for row in chosen]

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
    """The absolute path that the cells of a row amount to; a row that names no file gets one that is not there."""
    if not parts[-1]:
        return str(root / f"no file is named in line {table.lines[row]}")
    first = urlsplit(parts[0])
    if first.scheme == "file":
        parts = [unquote(first.path), *parts[1:]]
    elif "://" in parts[0]:
        raise UsageError(
            f"{table.where(row)}: {parts[0]} is a web address, and images must be files",
            hint="download the images, and give their folder as root",
        )
    return str((root / "/".join(parts).replace("\\", "/")).absolute())


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
