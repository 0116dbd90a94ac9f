"""columns: a table, and which of its columns means what, in -> plate, well, site and treatment of every row out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import AfterValidator, ValidationInfo, WithJsonSchema, model_validator

from cellssl.config.plugins import did_you_mean
from cellssl.config.settings import SettingsModel
from cellssl.datasets.base import Field, Value
from cellssl.datasets.tables.csv_table import Table
from cellssl.datasets.tables.doses import DoseColumn, Unit, parse_doses
from cellssl.datasets.tables.wells import listed
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


ROW_AND_COLUMN = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}
WELL = {"anyOf": [{"type": "string"}, ROW_AND_COLUMN]}
"""What `well` may be; it is read by `_well_of_two_columns`."""


class ImageColumns(Columns):
    """Which column of a table of images holds what: each setting is the name of a column."""

    well: Annotated[str | None, WithJsonSchema(WELL)] = None
    """Column with the well, or the columns with its row and its column, such as ["Row", "Column"]; if not given, all
    rows of one treatment count as one well."""
    row: str | None = None
    """Column with the row of the well, a letter or a number from 1; with `column`, in place of `well`."""
    column: str | None = None
    """Column with the column of the well, a number from 1."""
    z: str | None = None
    """Column with the z plane, where the table has one row per plane: the rows of a field become one stack."""
    t: str | None = None
    """Column with the time point, where the table has one row per time point."""
    series: str | None = None
    """Column with the number of the image in its file, from 0, such as Series_DAPI of a CellProfiler file list."""
    pixel_um: str | None = None
    """Column with the side of a pixel in micrometres; where it is empty, the setting `pixel_um` counts."""
    control_type: str | None = None
    """Column that says what a well is: negcon, poscon, trt, empty, and other words for these. Negative controls are
    controls whatever their compound is called."""
    solvent: str | None = None
    """Column with the solvent, which becomes the compound of wells that have no other."""

    @model_validator(mode="before")
    @classmethod
    def _well_of_two_columns(cls, given: Any, info: ValidationInfo) -> Any:
        """Take a well that is given as two columns as its row and its column."""
        if isinstance(given, dict) and isinstance(given.get("well"), list | tuple) and len(given["well"]) == 2:
            row, column = given["well"]
            return {**{key: value for key, value in given.items() if key != "well"}, "row": row, "column": column}
        return given

    @model_validator(mode="after")
    def _check_well(self) -> ImageColumns:
        if (self.row is None) != (self.column is None):
            raise ValueError("row and column go together: give both, or `well`")
        if self.row is not None and self.well is not None:
            raise ValueError("give `well`, or `row` and `column`, and not both")
        return self


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
    batch, compound, moa = (texts_of(table, name) for name in (columns.batch, columns.compound, columns.moa))
    doses = doses_of(table, columns.dose_micromolar)
    sites = sites_of(table, columns.site)
    plates = names_of(table, columns.plate) or [stem] * len(table.rows)
    wells = names_of(table, columns.well) or [treatment_name(*pair) for pair in zip(compound, doses, strict=True)]
    return [
        Field(
            field_id=field_id_of(plates[row], wells[row], sites[row]),
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
    return replace(field, site=site, field_id=field_id_of(field.plate, field.well, site))


def extra_values(table: Table, keep: Iterable[str]) -> list[dict[str, Value]]:
    """Return the further columns as text, one dict per row: `01`, `NA` and `1e3` are labels and stay as they stand."""
    columns = {name: texts_of(table, name) for name in keep}
    return [{name: values[row] for name, values in columns.items()} for row in range(len(table.rows))]


def field_id_of(plate: str, well: str, site: int) -> str:
    """Return the name of a field."""
    return f"{plate}_{well}_s{site}"


def treatment_name(compound: str | None, dose: float | None) -> str:
    """Return a name for the well of a treatment that can be part of a file name."""
    words = [compound or "", "" if dose is None else f"{dose:g}"]
    return re.sub(r"[^\w.+-]+", "-", "_".join(word for word in words if word)) or "all"


def texts_of(table: Table, column: str | None) -> list[str | None]:
    """Return the text of a column; None where a cell is empty, or where no column is given."""
    if column is None:
        return [None] * len(table.rows)
    return [text or None for text in table.column(column)]


def names_of(table: Table, column: str | None) -> list[str]:
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


def doses_of(
    table: Table, column: str | None, unit: Unit | None = None, units: Sequence[str] | None = None
) -> list[float | None]:
    """Return the doses in micromolar; DataError or UsageError where a cell, or the column, is none."""
    if column is None:
        return [None] * len(table.rows)
    places = [table.where(row) for row in range(len(table.rows))]
    return parse_doses(DoseColumn(table.column(column), places, column, units, table.delimiter == ";"), unit)


def sites_of(table: Table, column: str | None) -> list[int]:
    """Return the numbers of the fields in their wells, 0 where no column is given; DataError lists all other cells."""
    if column is None:
        return [0] * len(table.rows)
    found = [SITE.fullmatch(text) for text in table.column(column)]
    wrong = [row for row, number in enumerate(found) if number is None]
    if wrong:
        cells = table.column(column)
        more = [f"{cells[row]!r} (line {table.lines[row]})" for row in wrong[1:]]
        raise DataError(
            f"{table.where(wrong[0])}, column {column!r}: {cells[wrong[0]]!r} is not the number of a site"
            + (f", and so are {listed(more)}" if more else ""),
            hint="write a whole number, such as 1 or s1, or remove these rows",
        )
    return [int(number.group(1)) for number in found if number is not None]


def _check_known(wanted: Sequence[str], present: set[str | None], what: str) -> None:
    known = tuple(sorted(name for name in present if name))
    for name in wanted:
        if name not in known:
            raise UsageError(
                f"the table has no {what} {name!r}",
                hint=did_you_mean(name, known) if known else f"give the name of its column: columns.{what}",
            )
