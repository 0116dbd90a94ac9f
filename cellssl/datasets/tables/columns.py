"""columns: a table, and which of its columns means what, in -> plate, well, site and treatment of every row out."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import AfterValidator

from cellssl.config.plugins import did_you_mean
from cellssl.config.settings import SettingsModel
from cellssl.datasets.base import Field, Value
from cellssl.datasets.tables.csv_table import Table, number_hint
from cellssl.errors import DataError, UsageError

RESERVED_COLUMNS = (
    *("field_id", "plate", "well", "site", "batch", "compound", "dose_micromolar", "moa", "pixel_um"),
    *("control", "part", "cell_id", "stack_row", "crop_row", "label", "split", "drawn"),
)
"""Columns of the field and cell tables that this tool writes itself."""
SITE = re.compile(r"[A-Za-z_]*(\d+)(?:\.0+)?")


def _check_not_reserved(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name in RESERVED_COLUMNS or name.startswith(("path_", "sha256_")):
            raise ValueError(f"a column called {name!r} would hide the column that this tool writes; rename it")
    if len(set(names)) < len(names):
        raise ValueError("must name each column once")
    return names


ExtraColumns = Annotated[tuple[str, ...], AfterValidator(_check_not_reserved)]
"""Further columns of the user's table that are copied into the field or cell table."""


class Columns(SettingsModel):
    """Which column of the table holds what: each setting is the name of a column."""

    plate: str | None = None
    """Column with the plate; if not given, all rows are of one plate, named after the table."""
    well: str | None = None
    """Column with the well; if not given, all rows of one treatment count as one well."""
    site: str | None = None
    """Column with the number of the field in its well, such as 1 or s1."""
    batch: str | None = None
    """Column with the batch: plates that were made together, such as a week or a run."""
    compound: str | None = None
    """Column with the compound; the names of controls are listed in fetch.controls."""
    dose_micromolar: str | None = None
    """Column with the dose in micromolar; an empty cell means that the dose is unknown."""
    moa: str | None = None
    """Column with the mechanism of action."""


class RowColumns(Columns):
    """Which column holds what, in a table with one row per cell."""

    cell_id: str | None = None
    """Column with the name of the cell; if not given, cells are numbered within their field."""


@dataclass(frozen=True)
class FieldSelection:
    """The compounds, plates and wells whose fields are selected; an empty list means all."""

    compounds: Sequence[str] = ()
    plates: Sequence[str] = ()
    wells: Sequence[str] = ()

    def rows(self, fields: Sequence[Field]) -> list[int]:
        """Return the positions of the selected fields.

        Raises UsageError where a compound, plate or well is named that no field has.
        """
        _check_known(self.compounds, {field.compound for field in fields}, "compound")
        _check_known(self.plates, {field.plate for field in fields}, "plate")
        _check_known(self.wells, {field.well for field in fields}, "well")
        return [
            row
            for row, field in enumerate(fields)
            if (not self.compounds or field.compound in self.compounds)
            and (not self.plates or field.plate in self.plates)
            and (not self.wells or field.well in self.wells)
        ]


def fields_of_rows(table: Table, columns: Columns, stem: str, pixel_um: float | None) -> list[Field]:
    """Return one field per row, without images; the site is 0 where no column holds it.

    `stem` names the plate where no column does. Raises DataError where a cell has a value that its column cannot have.
    """
    batch, compound, moa = (_texts(table, name) for name in (columns.batch, columns.compound, columns.moa))
    doses = _doses(table, columns.dose_micromolar)
    sites = _sites(table, columns.site)
    plates = _names(table, columns.plate) or [stem] * len(table.rows)
    wells = _names(table, columns.well) or [_treatment_name(*pair) for pair in zip(compound, doses, strict=True)]
    return [
        Field(
            field_id=_field_id(plates[row], wells[row], sites[row]),
            plate=plates[row],
            well=wells[row],
            site=sites[row],
            images={},
            batch=batch[row],
            compound=compound[row],
            dose_micromolar=doses[row],
            moa=moa[row],
            pixel_um=pixel_um,
        )
        for row in range(len(table.rows))
    ]


def with_site(field: Field, site: int) -> Field:
    """Return the field with another site, and so with another field_id."""
    return replace(field, site=site, field_id=_field_id(field.plate, field.well, site))


def extra_values(table: Table, keep: Iterable[str]) -> list[dict[str, Value]]:
    """Return the further columns as text, one dict per row: `01`, `NA` and `1e3` are labels and stay as they stand."""
    columns = {name: _texts(table, name) for name in keep}
    return [{name: values[row] for name, values in columns.items()} for row in range(len(table.rows))]


def _field_id(plate: str, well: str, site: int) -> str:
    return f"{plate}_{well}_s{site}"


def _treatment_name(compound: str | None, dose: float | None) -> str:
    """Return a name for the well of a treatment that can be part of a file name."""
    words = [compound or "", "" if dose is None else f"{dose:g}"]
    return re.sub(r"[^\w.+-]+", "-", "_".join(word for word in words if word)) or "all"


def _texts(table: Table, column: str | None) -> list[str | None]:
    if column is None:
        return [None] * len(table.rows)
    return [text or None for text in table.column(column)]


def _names(table: Table, column: str | None) -> list[str]:
    """Return the names of plates or wells, which must be valid in file names; none where no column is given."""
    if column is None:
        return []
    names = table.column(column)
    for row, name in enumerate(names):
        if not name or name.startswith(".") or re.search(r"[/\\\x00-\x1f]", name):
            raise DataError(
                f"{table.where(row)}, column {column!r}: {name!r} cannot name a plate or well",
                hint="use a name without slashes that does not begin with a dot",
            )
    return names


def _doses(table: Table, column: str | None) -> list[float | None]:
    if column is None:
        return [None] * len(table.rows)
    return [_dose(text, table, row, column) for row, text in enumerate(table.column(column))]


def _dose(text: str, table: Table, row: int, column: str) -> float | None:
    try:
        dose = float(text.replace("_", "?")) if text else None  # Python reads 1_000 as a number
    except ValueError:
        dose = math.nan
    if dose is not None and not 0 <= dose < math.inf:
        raise DataError(
            f"{table.where(row)}, column {column!r}: {text!r} is not a dose in micromolar",
            hint=f"{number_hint(text)}; 0 is for controls, and an empty cell is an unknown dose",
        )
    return dose


def _sites(table: Table, column: str | None) -> list[int]:
    if column is None:
        return [0] * len(table.rows)
    sites = []
    for row, text in enumerate(table.column(column)):
        number = SITE.fullmatch(text)
        if number is None:
            raise DataError(
                f"{table.where(row)}, column {column!r}: {text!r} is not the number of a site",
                hint="write a whole number, such as 1 or s1",
            )
        sites.append(int(number.group(1)))
    return sites


def _check_known(wanted: Sequence[str], present: set[str | None], what: str) -> None:
    known = tuple(sorted(name for name in present if name))
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"the table has no {what} {name!r}",
                hint=did_you_mean(name, known) if known else f"give the name of its column: columns.{what}",
            )
