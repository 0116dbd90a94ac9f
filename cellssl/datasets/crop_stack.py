"""crop_stack: a stack of single cells and a CSV with a row a crop in -> one stack and cell table for every plate."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import Field as Knob
from pydantic import field_validator

from cellssl.config.paths import NAME, InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT, Plugin
from cellssl.datasets.base import Field, Forecast, Value
from cellssl.datasets.crops.npy_stack import Axes, Stack
from cellssl.datasets.crops.precut import BLOCK, Rows, write_ready
from cellssl.datasets.tables.columns import Chosen, Keep, RowColumns, at_site, fields_of_rows
from cellssl.datasets.tables.csv_table import Table, read_table
from cellssl.errors import DataError, UsageError
from cellssl.events import Event


@dataclass(frozen=True)
class Cell:
    """One row of the table."""

    cell_id: str
    field: Field
    stack_row: int
    kept: tuple[str, ...]


class Settings(Plugin):
    """Single cells that a lab has already cut: a stack of crops, and a table whose row i is crop i."""

    stack: InputPath = Knob(json_schema_extra=NOT_IN_FINGERPRINT)
    """The .npy or .npz file of uint8 or uint16; its content counts, its place does not."""
    table: InputPath = Knob(json_schema_extra=NOT_IN_FINGERPRINT)
    """The CSV (comma, tab or semicolon) with as many rows as the stack has crops."""
    array: str | None = None
    """Which array of an .npz; its only one where nothing is given."""
    axes: Axes = "nyxc"
    """What the stack's dimensions are: n cells, y rows, x columns, c channels."""
    channels: tuple[str, ...] = Knob(min_length=1)
    """Names of the channels, in the order of the stack."""
    columns: RowColumns = RowColumns()
    """Which column holds plate, well, site, batch, compound, dose_micromolar, moa and cell_id; none is required."""
    pixel_um: float | None = Knob(None, gt=0)
    """Side of a pixel in micrometres."""
    compounds: tuple[str, ...] = ()
    """Only cells of these compounds, so name the controls too; all where nothing is given."""
    plates: tuple[str, ...] = ()
    """Only cells of these plates; all where nothing is given."""
    wells: tuple[str, ...] = ()
    """Only cells of these wells; all where nothing is given."""
    keep: Keep = ()
    """Further columns that go along into the cell table."""

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
        """The stack and its table."""
        return {"stack": self.stack, "table": self.table}

    def plan(self, cache: Path) -> list[Field]:
        """The fields that the chosen crops were cut from."""
        self._check(read_table(self.table))
        fields = {cell.field.field_id: cell.field for cell in self._cells()}
        return sorted(fields.values(), key=lambda field: (field.plate, field.well, field.site))

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """The stack's bytes, how they are read, and which rows of it are this plate's cells."""
        rows = [[cell.cell_id, cell.field.field_id, cell.stack_row, *cell.kept] for cell in self._cells_of(fields)]
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
        yield from write_ready(folder, _cell_table(cells, self.keep), blocks, stack.shape()[1:], self.channels)
        return {}

    def forecast(self, fields: Sequence[Field], folder: Path) -> Forecast:
        """What lies in the stack is on this machine."""
        return Forecast(0, None, 0)

    def tables(self, fields: Sequence[Field], cache: Path) -> dict[str, str]:
        """None: the cell table holds what was asked for."""
        return {}

    def _stack(self) -> Stack:
        return Stack(self.stack, self.axes, self.array)

    def _check(self, table: Table) -> None:
        """The stack's shape against the table and the names of the channels."""
        n, c, _, _ = self._stack().shape()
        if n != len(table.rows):
            raise DataError(
                f"{self.stack} holds {n:,} crops and {self.table} {len(table.rows):,} rows",
                hint="row i of the table must be crop i of the stack",
            )
        if c != len(self.channels):
            raise UsageError(
                f"{self.stack} has {c} channels, and {len(self.channels)} are named: {', '.join(self.channels)}",
                hint=f"name them all in their order, or correct axes, which is {self.axes!r}",
            )

    def _cells_of(self, fields: Sequence[Field]) -> list[Cell]:
        ids = {field.field_id for field in fields}
        return [cell for cell in self._cells() if cell.field.field_id in ids]

    def _cells(self) -> list[Cell]:
        """The chosen rows."""
        read_table(self.table)
        stat = self.table.stat()
        return _cells(self, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1)
def _cells(settings: Settings, size: int, changed_ns: int) -> list[Cell]:
    """Cells are numbered within their field, over all rows of it, where they have no name.

    Asked for once a plate, and read once while the table does not change.
    """
    table, columns = read_table(settings.table), settings.columns
    rows = fields_of_rows(table, columns, settings.table.name.partition(".")[0], settings.pixel_um)
    if columns.site is None:
        rows = [at_site(field, 1) for field in rows]
    _check_alike(rows, table)
    names = table.column(columns.cell_id) if columns.cell_id else _numbered(rows)
    _check_unique(names, table)
    kept = [table.column(name) for name in settings.keep]
    chosen = Chosen(settings.compounds, settings.plates, settings.wells).rows(rows)
    return [Cell(names[row], rows[row], row, tuple(texts[row] for texts in kept)) for row in chosen]


def _cell_table(cells: Sequence[Cell], keep: Sequence[str]) -> Rows:
    columns = ["cell_id", "field_id", "stack_row", *keep]
    return Rows(columns, [(cell.cell_id, cell.field.field_id, cell.stack_row, *cell.kept) for cell in cells])


def _numbered(fields: Sequence[Field]) -> list[str]:
    seen: Counter[str] = Counter()
    names = []
    for field in fields:
        seen[field.field_id] += 1
        names.append(f"{field.field_id}_{seen[field.field_id]:04d}")
    return names


def _check_alike(fields: Sequence[Field], table: Table) -> None:
    """Cells of one field have one treatment."""
    first: dict[str, int] = {}
    for row, field in enumerate(fields):
        before = first.setdefault(field.field_id, row)
        if fields[before] != field:
            raise DataError(
                f"{table.where(row)} and line {table.lines[before]} are of one field, {field.field_id}, "
                "and differ in batch, compound, dose or mechanism",
                hint="correct the table, or name the columns that tell the fields apart: columns.well, columns.site",
            )


def _check_unique(names: Sequence[str], table: Table) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(names):
        before = first.setdefault(name, row)
        if before != row or not name:
            raise DataError(
                f"{table.where(row)}: the cell_id {name!r} is empty or stands in line {table.lines[before]} too",
                hint="give every cell a name of its own, or leave columns.cell_id out",
            )
