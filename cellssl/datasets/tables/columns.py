"""columns: a table and which column means what in -> plate, well, site and treatment of every row out."""

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
from cellssl.datasets.tables.csv_table import Table
from cellssl.errors import DataError, UsageError

TAKEN = (
    *("field_id", "plate", "well", "site", "batch", "compound", "dose_micromolar", "moa", "pixel_um"),
    *("control", "part", "cell_id", "stack_row", "crop_row", "label", "split"),
)
"""Columns of the field and cell tables that have a meaning of their own."""
SITE = re.compile(r"[A-Za-z_]*(\d+)(?:\.0+)?")


def _free(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name in TAKEN or name.startswith(("path_", "sha256_")):
            raise ValueError(f"a column called {name!r} would hide the tool's own; rename it in the table")
    if len(set(names)) < len(names):
        raise ValueError("must name each column once")
    return names


Keep = Annotated[tuple[str, ...], AfterValidator(_free)]
"""Further columns of a table to carry along."""


class Columns(SettingsModel):
    """Which column of the table holds what; the names are the table's own."""

    plate: str | None = None
    """Plate; where nothing is given all rows are of one plate, named after the table."""
    well: str | None = None
    """Well; where nothing is given the rows of one treatment count as one well."""
    site: str | None = None
    """Number of the field in its well, such as 1 or s1."""
    batch: str | None = None
    """What was done together: a week, a run."""
    compound: str | None = None
    """Compound; a control's name is listed in fetch.controls."""
    dose_micromolar: str | None = None
    """Dose in micromolar; an empty cell means unknown."""
    moa: str | None = None
    """Mechanism of action."""


class RowColumns(Columns):
    """Which column of the table holds what, cell by cell."""

    cell_id: str | None = None
    """What the cell is called; numbered within its field where nothing is given."""


@dataclass(frozen=True)
class Chosen:
    """Of which compounds, plates and wells fields are taken; nothing named means all."""

    compounds: Sequence[str] = ()
    plates: Sequence[str] = ()
    wells: Sequence[str] = ()

    def rows(self, fields: Sequence[Field]) -> list[int]:
        """Which of the fields are meant.

        Raises UsageError where something is named that no field has.
        """
        for what in ("compound", "plate", "well"):
            _check_known(getattr(self, f"{what}s"), {getattr(field, what) for field in fields}, what)
        return [
            row
            for row, field in enumerate(fields)
            if (not self.compounds or field.compound in self.compounds)
            and (not self.plates or field.plate in self.plates)
            and (not self.wells or field.well in self.wells)
        ]


def fields_of_rows(table: Table, columns: Columns, stem: str, pixel_um: float | None) -> list[Field]:
    """What every row says about its field; images are yet to come, and so is the site where no column holds it (0)."""
    batch, compound, moa = (_words(table, name) for name in (columns.batch, columns.compound, columns.moa))
    doses = _doses(table, columns.dose_micromolar)
    sites = _sites(table, columns.site)
    plates = _names(table, columns.plate) or [stem] * len(table.rows)
    wells = _names(table, columns.well) or [_treatment(*pair) for pair in zip(compound, doses, strict=True)]
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


def at_site(field: Field, site: int) -> Field:
    """The same field with its site, and so its id."""
    return replace(field, site=site, field_id=_field_id(field.plate, field.well, site))


def carried(table: Table, keep: Iterable[str]) -> list[dict[str, Value]]:
    """The further columns asked for, row by row: as numbers where a whole column is made of them."""
    columns = {name: _values(table.column(name)) for name in keep}
    return [{name: values[row] for name, values in columns.items()} for row in range(len(table.rows))]


def _values(texts: list[str]) -> Sequence[Value]:
    for kind in (int, float):
        try:
            return [kind(text) if text else None for text in texts]
        except ValueError:
            continue
    return [text or None for text in texts]


def _field_id(plate: str, well: str, site: int) -> str:
    return f"{plate}_{well}_s{site}"


def _treatment(compound: str | None, dose: float | None) -> str:
    """A name for the well of a treatment, fit for a file name."""
    words = [compound or "", "" if dose is None else f"{dose:g}"]
    return re.sub(r"[^\w.+-]+", "-", "_".join(word for word in words if word)) or "all"


def _words(table: Table, column: str | None) -> list[str | None]:
    if column is None:
        return [None] * len(table.rows)
    return [text or None for text in table.column(column)]


def _names(table: Table, column: str | None) -> list[str]:
    """Plates or wells: words that can be part of a file's name."""
    if column is None:
        return []
    names = table.column(column)
    for row, name in enumerate(names):
        if not name or name.startswith(".") or re.search(r"[/\\\x00-\x1f]", name):
            raise DataError(
                f"{table.where(row)}, column {column!r}: {name!r} cannot name a plate or well",
                hint="use a word without slashes that does not begin with a dot",
            )
    return names


def _doses(table: Table, column: str | None) -> list[float | None]:
    if column is None:
        return [None] * len(table.rows)
    return [_dose(text, table, row, column) for row, text in enumerate(table.column(column))]


def _dose(text: str, table: Table, row: int, column: str) -> float | None:
    try:
        dose = float(text) if text else None
    except ValueError:
        dose = math.nan
    if dose is not None and not 0 <= dose < math.inf:
        raise DataError(
            f"{table.where(row)}, column {column!r}: {text!r} is not a dose in micromolar",
            hint="write a number such as 0.3, 0 for controls, or leave the cell empty where the dose is unknown",
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


def _check_known(wanted: Sequence[str], there: set[str | None], what: str) -> None:
    known = tuple(sorted(word for word in there if word))
    for word in wanted:
        if word not in known:
            raise UsageError(
                f"the table has no {what} {word!r}",
                hint=did_you_mean(word, known) if known else f"name its column: columns.{what}",
            )
