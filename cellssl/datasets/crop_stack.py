"""crop_stack: a stack of crops and a CSV with one row per crop in -> one stack and one cell table per plate."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field as Setting
from pydantic import field_validator

from cellssl.config.paths import NAME, InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT
from cellssl.datasets.base import Dataset, Field, Value
from cellssl.datasets.crops.npy_stack import Axes, Stack
from cellssl.datasets.crops.precut import BLOCK, CellRows, write_precut
from cellssl.datasets.tables.columns import ExtraColumns, FieldSelection, RowColumns, fields_of_rows, with_site
from cellssl.datasets.tables.csv_table import Table, read_table
from cellssl.errors import DataError, UsageError
from cellssl.events import Event

ALGORITHM = 2  # 2: kept columns are the text of the table, also where it looks like numbers or missing values


@dataclass(frozen=True)
class Cell:
    """One row of the table; `stack_row` is its crop in the stack, `extra` its values of the columns to keep."""

    cell_id: str
    field: Field
    stack_row: int
    extra: tuple[str, ...]


class Settings(Dataset):
    """Crops of single cells that are already cut: a stack of crops, and a table whose row i describes crop i."""

    stack: InputPath = Setting(json_schema_extra=NOT_IN_FINGERPRINT)
    """The .npy or .npz file with the crops, uint8 or uint16; its content counts, its path does not."""
    table: InputPath = Setting(json_schema_extra=NOT_IN_FINGERPRINT)
    """The CSV file (comma, tab or semicolon) with as many rows as the stack has crops."""
    array: str | None = None
    """Name of the array in an .npz; only needed if it holds several."""
    axes: Axes = "nyxc"
    """The dimensions of the stack in their order: n cells, y rows, x columns, c channels."""
    channels: tuple[str, ...] = Setting(min_length=1)
    """Names of the channels, in the order of the stack."""
    columns: RowColumns = RowColumns()
    """Names of the columns with plate, well, site, batch, compound, dose_micromolar, moa, cell_id; none is required."""
    pixel_um: float | None = Setting(None, gt=0)
    """Side of a pixel in micrometres."""
    compounds: tuple[str, ...] = ()
    """Only cells of these compounds (name the controls too); empty means all."""
    plates: tuple[str, ...] = ()
    """Only cells of these plates; empty means all."""
    wells: tuple[str, ...] = ()
    """Only cells of these wells; empty means all."""
    keep: ExtraColumns = ()
    """Further columns of the table that are copied into the cell table, as the text that stands there."""

    gives_crops: ClassVar[bool] = True

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, channels: tuple[str, ...]) -> tuple[str, ...]:
        for name in channels:
            if not NAME.fullmatch(name):
                raise ValueError(f"a channel cannot be called {name!r}; use letters, digits, '.', '_', '+' and '-'")
        if len(set(channels)) < len(channels):
            raise ValueError("must name each channel once")
        return channels

    def external_files(self) -> Mapping[str, Path]:
        """Return the stack and its table."""
        return {"stack": self.stack, "table": self.table}

    def plan(self, cache: Path) -> list[Field]:
        """Return the fields that the selected crops were cut from."""
        self._check(read_table(self.table))
        fields = {cell.field.field_id: cell.field for cell in self._cells()}
        return sorted(fields.values(), key=lambda field: (field.plate, field.well, field.site))

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """Return the hash of the stack, how it is read, and which rows of it are this plate's cells."""
        rows = [[cell.cell_id, cell.field.field_id, cell.stack_row, *cell.extra] for cell in self._cells_of(fields)]
        return {
            "stack": sha256(self.stack),
            "array": self.array,
            "axes": self.axes,
            "channels": ",".join(self.channels),
            "keep": ",".join(self.keep),
            "rows": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
        }

    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Event, None, dict[str, str]]:
        """Write this plate's crops, then their table, then the names of the channels."""
        cells, stack = self._cells_of(fields), self._stack()
        rows = np.array([cell.stack_row for cell in cells])
        blocks = (stack.crops(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK))
        yield from write_precut(folder, _cell_table(cells, self.keep), blocks, stack.shape()[1:], self.channels)
        return {}

    def _stack(self) -> Stack:
        return Stack(self.stack, self.axes, self.array)

    def _check(self, table: Table) -> None:
        """Raise DataError or UsageError where the stack's shape does not fit the table or the names of the channels."""
        n, c, _, _ = self._stack().shape()
        if n != len(table.rows):
            raise DataError(
                f"{self.stack} holds {n:,} crops and {self.table} {len(table.rows):,} rows",
                hint="row i of the table must be crop i of the stack",
            )
        if c != len(self.channels):
            raise UsageError(
                f"{self.stack} has {c} channels, and {len(self.channels)} are named: {', '.join(self.channels)}",
                hint=f"name all channels in their order, or correct axes, which is {self.axes!r}",
            )

    def _cells_of(self, fields: Sequence[Field]) -> list[Cell]:
        ids = {field.field_id for field in fields}
        return [cell for cell in self._cells() if cell.field.field_id in ids]

    def _cells(self) -> list[Cell]:
        """Return the selected rows."""
        read_table(self.table)  # raises DataError where there is no such file, before its size is asked for
        stat = self.table.stat()
        return _cells(self, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1)
def _cells(settings: Settings, size: int, changed_ns: int) -> list[Cell]:
    """Return the selected rows; cells without a name are numbered within their field, over all rows of it.

    Called once per plate; the table is read once while it does not change.
    """
    table, columns = read_table(settings.table), settings.columns
    rows = fields_of_rows(table, columns, settings.table.name.partition(".")[0], settings.pixel_um)
    if columns.site is None:
        rows = [with_site(field, 1) for field in rows]
    _check_one_treatment_per_field(rows, table)
    names = table.column(columns.cell_id) if columns.cell_id else _numbered_names(rows)
    _check_unique(names, table)
    extra = [table.column(name) for name in settings.keep]
    selected = FieldSelection(settings.compounds, settings.plates, settings.wells).rows(rows)
    return [Cell(names[row], rows[row], row, tuple(texts[row] for texts in extra)) for row in selected]


def _cell_table(cells: Sequence[Cell], keep: Sequence[str]) -> CellRows:
    columns = ["cell_id", "field_id", "stack_row", *keep]
    return CellRows(columns, [(cell.cell_id, cell.field.field_id, cell.stack_row, *cell.extra) for cell in cells])


def _numbered_names(fields: Sequence[Field]) -> list[str]:
    counts: Counter[str] = Counter()
    names = []
    for field in fields:
        counts[field.field_id] += 1
        names.append(f"{field.field_id}_{counts[field.field_id]:04d}")
    return names


def _check_one_treatment_per_field(fields: Sequence[Field], table: Table) -> None:
    """Raise DataError where two cells of one field have different treatments."""
    first: dict[str, int] = {}
    for row, field in enumerate(fields):
        before = first.setdefault(field.field_id, row)
        if fields[before] != field:
            raise DataError(
                f"{table.where(row)} and line {table.lines[before]} belong to one field, {field.field_id}, "
                "but differ in batch, compound, dose or mechanism",
                hint="correct the table, or give the columns that distinguish the fields: columns.well, columns.site",
            )


def _check_unique(names: Sequence[str], table: Table) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        before = first.setdefault(name, row)
        if before != row or not name:
            raise DataError(
                f"{table.where(row)}: the cell_id {name!r} is empty, or also in line {table.lines[before]}",
                hint="give every cell another name, or leave columns.cell_id out",
            )
