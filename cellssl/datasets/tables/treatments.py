"""treatments: a table of images, and a plate map, in -> plate, well, site and treatment of every row out."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cellssl.counting import counted
from cellssl.datasets.base import ControlType, Field, Remark, Value
from cellssl.datasets.tables.columns import (
    ImageColumns,
    doses_of,
    extra_values,
    field_id_of,
    names_of,
    sites_of,
    texts_of,
    treatment_name,
)
from cellssl.datasets.tables.controls import usual_controls
from cellssl.datasets.tables.csv_table import Table
from cellssl.datasets.tables.doses import (
    DoseColumn,
    JoinedDoses,
    Unit,
    molar_unit,
    near_doses,
    unit_doubts,
    unit_of_header,
)
from cellssl.datasets.tables.platemap import (
    MapWell,
    Platemap,
    PlatemapColumns,
    doubtful_compounds,
    parse_control_types,
    read_platemap,
    well_key,
)
from cellssl.datasets.tables.usual_names import usual_columns
from cellssl.datasets.tables.wells import listed, plate_key, unified_plates, unified_wells, well_of
from cellssl.errors import DataError, UsageError

NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
JOINED_SHOWN = 20
"""So many joined doses are shown in a message; all of them are in the items of the remark."""


@dataclass(frozen=True)
class TreatmentSettings:
    """How the columns of a table, and a plate map, are read."""

    columns: ImageColumns
    stem: str
    """Name of the plate where no column gives plates."""
    pixel_um: float | None = None
    platemap: Path | None = None
    platemap_columns: PlatemapColumns = field(default_factory=PlatemapColumns)
    dose_unit: Unit | None = None
    dose_tolerance: float = 0.0
    keep: tuple[str, ...] = ()


@dataclass
class _Treatments:
    """The columns of a treatment, one value per row."""

    compound: list[str | None]
    dose: list[float | None]
    moa: list[str | None]
    control_type: list[ControlType | None]
    solvent: list[str | None]


def read_treatments(table: Table, settings: TreatmentSettings) -> tuple[list[Field], list[Remark]]:
    """Return one field per row, without images, and how they were read; the site is 0 where no column holds it.

    Raises DataError where a cell has a value that its column cannot have, or where table and plate map contradict each
    other; UsageError where a column is missing, or where only the user knows what is meant.
    """
    remarks: list[Remark] = []
    columns = settings.columns
    plates = _plates(table, columns, settings.stem, remarks)
    wells = _wells(table, columns, remarks)
    found = _of_table(table, settings, remarks)
    extra: list[dict[str, Value]] = extra_values(table, [name for name in settings.keep if name in table.header])
    if settings.platemap is not None:
        _join_platemap(table, settings, (plates, wells), found, extra, remarks)
    _check_kept(table, settings, extra)
    _name_by_solvent(found, remarks)
    dispensed = _join_doses(found, plates, settings.dose_tolerance, remarks)
    if any(dispensed) and "dose_dispensed" in settings.keep:
        raise UsageError("the table's column dose_dispensed would hide the one that this tool writes", hint="rename it")
    if not wells:
        wells = [treatment_name(*pair) for pair in zip(found.compound, found.dose, strict=True)]
    batch, sites = texts_of(table, columns.batch), sites_of(table, columns.site)
    planes = list(zip(*(texts_of(table, name) for name in (columns.z, columns.t)), strict=True))
    if columns.well is not None and columns.site is not None:
        sites = _sites_of_unified_wells(table.column(columns.well), (plates, wells, sites, batch, planes), remarks)
    if columns.well is not None or columns.row is not None:
        remarks += _several_treatments(plates, wells, batch, found)
    remarks += _contradictory_types(found)
    plates = _plates_by_batch(plates, [*zip(plates, wells, sites, planes, strict=True)], batch, columns, remarks)
    pixels = _pixel_sizes(table, columns.pixel_um, settings.pixel_um)
    fields = [
        Field(
            field_id=field_id_of(plates[row], wells[row], sites[row]),
            plate=plates[row],
            well=wells[row],
            site=sites[row],
            images={},
            batch=batch[row],
            compound=found.compound[row],
            dose_micromolar=found.dose[row],
            moa=found.moa[row],
            pixel_um=pixels[row],
            extra={**extra[row], **dispensed[row]},
            control_type=found.control_type[row],
        )
        for row in range(len(table.rows))
    ]
    return fields, remarks


def _plates(table: Table, columns: ImageColumns, stem: str, remarks: list[Remark]) -> list[str]:
    names = names_of(table, columns.plate)
    plates, groups = unified_plates(names)
    if groups:
        shown = listed([" and ".join(map(repr, group)) for group in groups], 3)
        remarks.append(Remark("note", "plates", f"these names are of one plate, and taken as one: {shown}"))
    return plates or [stem] * len(table.rows)


def _wells(table: Table, columns: ImageColumns, remarks: list[Remark]) -> list[str]:
    """Return the well of every row; none where no column holds it."""
    if columns.row is not None and columns.column is not None:
        return _wells_of_two_columns(table, columns.row, columns.column)
    wells, groups = unified_wells(names_of(table, columns.well))
    if groups:
        items = tuple(" = ".join(group) for group in groups)
        remarks.append(
            Remark(
                "note",
                "wells",
                f"wells are written in several ways, such as {items[0]} ({len(items):,}): all are named like A01",
                items=items,
            )
        )
    return wells


def _wells_of_two_columns(table: Table, row_column: str, column_column: str) -> list[str]:
    rows, columns = table.column(row_column), table.column(column_column)
    wells = [well_of(*pair) for pair in zip(rows, columns, strict=True)]
    wrong = [row for row, well in enumerate(wells) if well is None]
    if wrong:
        cells = [f"{rows[row]!r}, {columns[row]!r} (line {table.lines[row]})" for row in wrong]
        raise DataError(
            f"{table.name}: these are no row and column of a well: {listed(cells)}",
            hint="rows are letters or numbers from 1, columns are numbers from 1",
        )
    return [well for well in wells if well is not None]


def _of_table(table: Table, settings: TreatmentSettings, remarks: list[Remark]) -> _Treatments:
    columns = settings.columns
    compounds = texts_of(table, columns.compound)
    first = {text: row for row, text in reversed(list(enumerate(compounds))) if text}
    remarks += doubtful_compounds([(text, f"line {table.lines[row]}", False) for text, row in first.items()])
    types: list[ControlType | None] = [None] * len(table.rows)
    if columns.control_type is not None:
        types = parse_control_types(table.column(columns.control_type), columns.control_type, remarks)
    return _Treatments(
        compound=compounds,
        dose=_table_doses(table, settings, remarks),
        moa=texts_of(table, columns.moa),
        control_type=types,
        solvent=texts_of(table, columns.solvent),
    )


def _table_doses(table: Table, settings: TreatmentSettings, remarks: list[Remark]) -> list[float | None]:
    name = settings.columns.dose_micromolar
    if name is None:
        return [None] * len(table.rows)
    unit_column = _unit_column(table)
    units = table.column(unit_column) if unit_column else None
    doses = doses_of(table, name, settings.dose_unit, units)
    places = [f"line {line}" for line in table.lines]
    remarks += unit_doubts(DoseColumn(table.column(name), places, name, units), settings.dose_unit)
    if unit_column:
        remarks.append(Remark("note", "doses", f"the unit of the doses is that in the column {unit_column!r}"))
    if settings.dose_unit is None and (unit := unit_of_header(name)) not in (None, "uM"):
        remarks.append(Remark("note", "doses", f"doses of {name!r} without a unit of their own are taken as {unit}"))
    return doses


def _unit_column(table: Table) -> str | None:
    """Return the column that says in which unit each dose is; None where there is none."""
    for name in usual_columns(table.header).get("dose_unit", ()):
        texts = {text for text in table.column(name) if text}
        if texts and (name.casefold() not in ("unit", "units") or all(map(molar_unit, texts))):
            return name
    return None


# ---------------------------------------------------------------------------------------------------------- plate map


def _join_platemap(
    table: Table,
    settings: TreatmentSettings,
    places: tuple[list[str], list[str]],
    found: _Treatments,
    extra: list[dict[str, Value]],
    remarks: list[Remark],
) -> None:
    """Add what the plate map says of every row's well; DataError where the table says something else."""
    assert settings.platemap is not None
    plates, wells = places
    if not wells:
        raise UsageError(
            "a plate map is joined by the well, and no column of the table holds it",
            hint='name it: columns.well = "…", or columns.row and columns.column',
        )
    keep = [name for name in settings.keep if name not in table.header]
    names = tuple(dict.fromkeys(plates))
    platemap = read_platemap(settings.platemap, settings.platemap_columns, names, settings.dose_unit, keep)
    platemap = _with_plates_of(platemap, names, settings, remarks)
    remarks += platemap.remarks
    if "compound" not in platemap.taken and settings.columns.compound is None:
        remarks.append(_no_compound(platemap, settings.platemap))
    of_rows = [platemap.well(plate, well) for plate, well in zip(plates, wells, strict=True)]
    _remark_on_unmatched(platemap, settings.platemap, places, of_rows, remarks)
    _check_agreement(table, settings, found, of_rows)
    for row, well in enumerate(of_rows):
        if well is not None:
            found.compound[row] = found.compound[row] or well.compound
            found.dose[row] = well.dose_micromolar if found.dose[row] is None else found.dose[row]
            found.moa[row] = found.moa[row] or well.moa
            found.control_type[row] = found.control_type[row] or well.control_type
            found.solvent[row] = found.solvent[row] or well.solvent
        extra[row].update({name: well.extra.get(name) if well is not None else None for name in keep})


def _no_compound(platemap: Platemap, path: Path) -> Remark:
    unread = [name for name in platemap.remarks[0].items if name]
    columns = f"; its columns {listed(map(repr, unread), 5)} are not read" if unread else ""
    return Remark(
        "warning",
        "plate map",
        f"the plate map {path.name} gives no compound, so that no well has one{columns}",
        f'name its column or grid: platemap_columns = {{ compound = "{unread[0] if unread else "…"}" }}',
        tuple(unread),
    )


def _with_plates_of(
    platemap: Platemap, plates: Sequence[str], settings: TreatmentSettings, remarks: list[Remark]
) -> Platemap:
    """Return the map for images whose table names no plate; DataError where map and images share no plate."""
    of_map = {plate for plate, _ in platemap.wells if plate is not None}
    if not of_map or of_map & {plate_key(plate) for plate in plates}:
        return platemap
    if settings.columns.plate is None and len(of_map) == 1:
        only = next(iter(of_map))
        remarks.append(
            Remark("note", "plate map", f"the table names no plate, and is taken for the plate {only} of the map")
        )
        return replace(platemap, wells={(None, well): found for (_, well), found in platemap.wells.items()})
    if any(plate is None for plate, _ in platemap.wells):
        return platemap
    raise DataError(
        f"the plate map has the plates {listed(sorted(of_map), 5)}, and the images are of {listed(plates, 5)}",
        hint="write the same names into both, or say which columns hold them: columns.plate, platemap_columns.plate",
    )


def _remark_on_unmatched(
    platemap: Platemap,
    path: Path,
    places: tuple[list[str], list[str]],
    of_rows: Sequence[MapWell | None],
    remarks: list[Remark],
) -> None:
    """Add the wells that only the images or only the plate map has; DataError where no well is in both."""
    wells = dict.fromkeys(zip(*places, strict=True))
    matched = {pair for pair, well in zip(zip(*places, strict=True), of_rows, strict=True) if well is not None}
    if not matched:
        images, in_map = listed(dict.fromkeys(places[1]), 5), listed(dict.fromkeys(w for _, w in platemap.wells), 5)
        raise DataError(
            f"no well of the images is in the plate map {path.name}: the images have {images}, and the map {in_map}",
            hint="check that it is the map of these plates, and that both write wells as A01",
        )
    without = [f"{plate} {well}" for plate, well in wells if (plate, well) not in matched]
    if absent := sorted({plate for plate, _ in wells} - {plate for plate, _ in matched}):
        text = f"{counted(len(absent), 'plate')} without a plate map in {path.name}: {listed(absent)}"
        hint = "add a sheet or rows with their names; until then their compounds are unknown"
        remarks.append(Remark("warning", "plate map", text, hint, tuple(absent)))
    if without:
        remarks.append(
            Remark(
                "warning",
                "plate map",
                f"the plate map has no entry for {len(without):,} of {counted(len(wells), 'well')} with images: "
                f"{listed(without)}",
                "add them to the map; until then their compound is unknown",
                tuple(without),
            )
        )
    imaged = {(plate_key(plate), well_key(well)) for plate, well in wells}
    imaged_anywhere = {well for _, well in imaged}
    unused = [
        " ".join(filter(None, key))
        for key in platemap.wells
        if (key not in imaged if key[0] is not None else key[1] not in imaged_anywhere)
    ]
    if unused:
        text = f"wells of the plate map without an image ({len(unused):,} of {len(platemap.wells):,}): {listed(unused)}"
        remarks.append(Remark("note", "plate map", text, items=tuple(unused)))


def _check_agreement(
    table: Table, settings: TreatmentSettings, found: _Treatments, of_rows: Sequence[MapWell | None]
) -> None:
    """Raise DataError where the table and the plate map say different things of one well."""
    wrong = []
    for row, well in enumerate(of_rows):
        if well is None:
            continue
        for name, here, there in (
            ("compound", found.compound[row], well.compound),
            ("dose", found.dose[row], well.dose_micromolar),
            ("mechanism", found.moa[row], well.moa),
            ("control type", found.control_type[row], well.control_type),
            ("solvent", found.solvent[row], well.solvent),
        ):
            if here is not None and there is not None and not _equal(here, there):
                wrong.append(f"{name} {here!r} (line {table.lines[row]}) and {there!r} ({well.where})")
    if wrong:
        raise DataError(
            f"{table.name} and the plate map contradict each other: {listed(wrong, 3)}",
            hint="correct one of them, or leave the column of the table out of `columns`",
        )


def _equal(here: object, there: object) -> bool:
    if isinstance(here, float) and isinstance(there, float):
        return math.isclose(here, there, rel_tol=1e-9)
    return here == there


def _check_kept(table: Table, settings: TreatmentSettings, extra: Sequence[dict[str, Value]]) -> None:
    """Raise UsageError where a column to keep is neither in the table nor in the plate map."""
    for name in settings.keep:
        if name not in table.header and not any(row.get(name) is not None for row in extra):
            table.column(name)


# --------------------------------------------------------------------------------------------------- controls and doses


def _name_by_solvent(found: _Treatments, remarks: list[Remark]) -> None:
    """Name wells without a compound after their solvent, unless their type says that they are treated or empty."""
    named: Counter[str] = Counter()
    columns = zip(found.compound, found.solvent, found.control_type, strict=True)
    for row, (compound, solvent, kind) in enumerate(columns):
        if compound is None and solvent is not None and kind in (None, "negative"):
            found.compound[row] = solvent
            named[solvent] += 1
    for solvent, count in named.items():
        text = f"{counted(count, 'field')} without a compound, named after the solvent: {solvent}"
        remarks.append(Remark("note", "controls", text))


def _several_treatments(
    plates: Sequence[str], wells: Sequence[str], batch: Sequence[str | None], found: _Treatments
) -> list[Remark]:
    """Return a warning on wells that have several compounds, or several doses of one."""
    of_wells: dict[tuple[str, str, str | None], dict[str, None]] = {}
    for row, (plate, well, one) in enumerate(zip(plates, wells, batch, strict=True)):
        dose = found.dose[row]
        text = f"{found.compound[row] or 'no compound'}{'' if dose is None else f' {dose:g} uM'}"
        of_wells.setdefault((plate, well_key(well), one), {}).setdefault(text)
    wrong = tuple(f"{key[0]} {key[1]} ({' and '.join(texts)})" for key, texts in of_wells.items() if len(texts) > 1)
    if not wrong:
        return []
    text = f"{counted(len(wrong), 'well')} with several compounds or doses: {listed(wrong, 5)}"
    hint = "one well has one treatment: correct the wells, the compounds or the plates"
    return [Remark("warning", "compounds", text, hint, wrong)]


def _contradictory_types(found: _Treatments) -> list[Remark]:
    """Return warnings on compounds that are negative controls in some wells and not in others, or look treated."""
    kinds: dict[str, set[str]] = {}
    dosed: set[str] = set()
    for compound, dose, kind in zip(found.compound, found.dose, found.control_type, strict=True):
        if compound is not None and kind not in (None, "empty"):
            kinds.setdefault(compound, set()).add(str(kind))
            if kind == "negative" and dose:
                dosed.add(compound)
    remarks = []
    several = tuple(f"{name} ({' and '.join(sorted(of))})" for name, of in kinds.items() if len(of) > 1)
    if several:
        text = f"compounds of several types of wells, each well counted by its own ({len(several):,}): "
        hint = "correct the types, where a compound is of one type"
        remarks.append(Remark("warning", "controls", text + listed(several, 5), hint, several))
    negative = [name for name, of in kinds.items() if "negative" in of]
    usual = set(usual_controls(negative))
    strange = tuple(name for name in negative if name not in usual and (usual or name in dosed))
    if strange:
        text = f"negative controls by their type, whose compound has no usual name of one ({len(strange):,}): "
        hint = "where they are treated or positive controls, correct their type: all of them count as controls"
        remarks.append(Remark("warning", "controls", text + listed(strange, 5), hint, strange))
    return remarks


def _join_doses(
    found: _Treatments, plates: Sequence[str], tolerance: float, remarks: list[Remark]
) -> list[dict[str, Value]]:
    """Make near doses of a compound one dose, and return the dispensed doses of the plates that have such doses."""
    by_compound: dict[str, set[float]] = {}
    for compound, dose in zip(found.compound, found.dose, strict=True):
        if compound is not None and dose is not None:
            by_compound.setdefault(compound, set()).add(dose)
    joined = [
        group for compound, doses in by_compound.items() for group in near_doses(compound, sorted(doses), tolerance)
    ]
    names = {(group.compound, dose): group.dose for group in joined for dose in group.written}
    new = [
        names.get((compound or "", dose), dose) if dose is not None else None
        for compound, dose in zip(found.compound, found.dose, strict=True)
    ]
    touched = {plate for plate, before, after in zip(plates, found.dose, new, strict=True) if before != after}
    dispensed: list[dict[str, Value]] = [
        {"dose_dispensed": dose} if plate in touched else {} for plate, dose in zip(plates, found.dose, strict=True)
    ]
    found.dose = new
    if joined:
        remarks.append(_joined_remark(joined, tolerance))
    return dispensed


def _joined_remark(joined: Sequence[JoinedDoses], tolerance: float) -> Remark:
    before, items = sum(len(group.written) for group in joined), tuple(map(str, joined))
    return Remark(
        "note",
        "doses",
        f"doses of one compound that lie within {100 * tolerance:g} % of each other are one dose, named by the "
        f"roundest ({before:,} became {len(joined):,}): {'; '.join(items[:JOINED_SHOWN])}"
        f"{'; …' if len(items) > JOINED_SHOWN else ''}. The column dose_dispensed keeps the values of the table",
        "to keep them apart: dose_tolerance = 0",
        items,
    )


# --------------------------------------------------------------------------------------------------------------- other


def _plates_by_batch(
    plates: list[str],
    places: Sequence[tuple[object, ...]],
    batch: Sequence[str | None],
    columns: ImageColumns,
    remarks: list[Remark],
) -> list[str]:
    """Return the plates; one whose fields were measured in several batches is a plate in each of them."""
    if columns.batch is None:
        return plates
    batches: dict[tuple[object, ...], set[str | None]] = {}
    for place, one in zip(places, batch, strict=True):
        batches.setdefault(place, set()).add(one)
    twice = sorted({str(place[0]) for place, found in batches.items() if len(found) > 1})
    if not twice:
        return plates
    remarks.append(
        Remark(
            "note",
            "plates",
            f"{counted(len(twice), 'plate')} measured in several batches, where every measurement counts as a plate: "
            f"{listed(twice, 5)}",
            items=tuple(twice),
        )
    )
    again = set(twice)
    measured = [re.sub(r"[^\w.+-]+", "-", one or "no-batch") for one in batch]
    written: dict[str, set[str]] = {}
    for plate, one, name in zip(plates, batch, measured, strict=True):
        if plate in again:
            written.setdefault(name, set()).add(one or "")
    if alike := next((sorted(names) for names in written.values() if len(names) > 1), None):
        raise DataError(
            f"the batches {' and '.join(map(repr, alike))} of one plate would get one name",
            hint="write them alike where they are one batch, or give them names that differ in letters or digits",
        )
    return [f"{plate}_{one}" if plate in again else plate for plate, one in zip(plates, measured, strict=True)]


def _sites_of_unified_wells(
    written: Sequence[str],
    places: tuple[Sequence[str], Sequence[str], Sequence[int], Sequence[str | None], Sequence[tuple[str | None, ...]]],
    remarks: list[Remark],
) -> list[int]:
    """Return the sites; a site of `B2` that `B02` has, too, gets the next free number, because these are two fields."""
    plates, wells, sites, *rest = places
    found, owner = list(sites), dict[tuple[object, ...], str]()
    last: dict[tuple[str, str], int] = {}
    for plate, well, site in zip(plates, wells, sites, strict=True):
        last[plate, well] = max(last.get((plate, well), 0), site)
    renumbered: dict[tuple[str, str, int], int] = {}
    for row, key in enumerate(zip(plates, wells, sites, *rest, strict=True)):
        plate, well, site = plates[row], wells[row], sites[row]
        if owner.setdefault(key, written[row]) != written[row]:
            one = (plate, written[row], site)
            if one not in renumbered:
                last[plate, well] += 1
                renumbered[one] = last[plate, well]
            found[row] = renumbered[one]
    if renumbered:
        items = tuple(f"{plate} {well} site {site}: {new}" for (plate, well, site), new in renumbered.items())
        text = f"sites with the number of another field of their well got a new one ({len(items):,}): {listed(items)}"
        hint = "where two rows are one field, remove one of them"
        remarks.append(Remark("warning", "wells", text, hint, items))
    return found


def _pixel_sizes(table: Table, column: str | None, default: float | None) -> list[float | None]:
    """Return the side of a pixel in micrometres of every row; DataError for cells that are no size."""
    if column is None:
        return [default] * len(table.rows)
    cells, sizes, wrong = table.column(column), list[float | None](), []
    for row, text in enumerate(cells):
        size = float(text.replace(",", ".")) if NUMBER.fullmatch(text) else None
        sizes.append(size or default)
        if text and not size:
            wrong.append(f"{text!r} (line {table.lines[row]})")
    if wrong:
        raise DataError(
            f"{table.name}, column {column!r}: these are no sizes of a pixel in micrometres: {listed(wrong)}",
            hint="write a number such as 0.65, or leave the cell empty",
        )
    return sizes
