"""platemap: a plate map, a long table or grids of a plate, in -> the compound, dose and kind of every well out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cellssl.config.plugins import did_you_mean
from cellssl.config.settings import SettingsModel
from cellssl.counting import counted
from cellssl.datasets.base import ControlType, Remark
from cellssl.datasets.tables.controls import CONTROL_TYPES, control_type_of
from cellssl.datasets.tables.doses import SOURCE_PLATE, DoseColumn, Unit, parse_doses, unit_doubts, unit_of_header
from cellssl.datasets.tables.sheets import Sheet, read_sheets
from cellssl.datasets.tables.usual_names import is_filler, is_meaning_only, meaning_of_title, usual_columns
from cellssl.datasets.tables.wells import canonical_well, listed, plate_key, row_number, well_of
from cellssl.errors import DataError, UsageError
from cellssl.letters import letters_of, number_of

HEADER_ROWS = 30
"""So many rows may stand above the header of a long table."""
VALUES = ("compound", "dose", "moa", "control_type", "solvent")
SHARED = ("compound", "dose_micromolar", "moa", "control_type", "solvent")
"""What a grid for all plates can add to the wells of one plate."""
DEFAULT_SHEET = re.compile(r"(?:sheet|tabelle|feuil|hoja|foglio|blad|ark|list|planilha|лист)[\s_-]*\d*", re.IGNORECASE)
"""A sheet that has the name that the program gave it."""
PLATE_NAME = re.compile(r"[A-Za-z]{1,6}[\s_-]?\d+|.*\bplate[\s_#-]*\w*\d.*", re.IGNORECASE)
"""What plates are often called: `P3`, `plate 3`, `BR-27801`."""
NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?")
DATE = re.compile(
    r"\d{1,2}[-. /](?:jan|feb|mar|mär|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez)[a-z]*\.?(?:[-. /]\d{2,4})?"
    r"|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}[-/]\d{2,4}"
    r"|\d{4}-\d{2}-\d{2}(?: 00:00:00)?|\d{1,2}[./]\d{1,2}[./]\d{2,4}",
    re.IGNORECASE,
)
"""What a spreadsheet makes of names such as SEPT2, MARCH1 or 1-2."""
NO_NAMES = frozenset({"na", "n/a", "n.a.", "nan", "none", "null", "-", "empty", "blank", "unknown", "?", "tbd"})
WITH_DOSE = re.compile(r".+[\s_@(-]\d+(?:[.,]\d+)?\s*[pnuµμm]?M\)?")
"""A name such as `taxol 3 uM`, which holds compound and dose."""
DOSE_WORD = re.compile(r"(?:^|[\W_]|(?<=[a-z]))(?:dose|dosage|conc|concentration)s?(?![a-z])", re.IGNORECASE)
SPREADSHEET_ERROR = re.compile(r"#(?:N/A|REF!|VALUE!|NAME\?|DIV/0!|NUM!|NULL!)")


class PlatemapColumns(SettingsModel):
    """Which column of the plate map holds what: the name of a column, or the title or sheet of a grid."""

    plate: str | None = None
    """Column with the plate; without one, the map goes for all plates, or a sheet for the plate that it is named
    after."""
    well: str | None = None
    """Column with the well."""
    row: str | None = None
    """Column with the row of the well, a letter or a number from 1, instead of `well`."""
    column: str | None = None
    """Column with the column of the well, instead of `well`."""
    compound: str | None = None
    """Column or grid with the compound."""
    dose: str | None = None
    """Column or grid with the dose; its unit is that in the cell, or in the name of the column, or micromolar."""
    dose_unit: str | None = None
    """Column with the unit of the dose."""
    moa: str | None = None
    """Column or grid with the mechanism of action."""
    control_type: str | None = None
    """Column or grid that says which wells are negative and positive controls, treated, or empty."""
    solvent: str | None = None
    """Column or grid with the solvent, which is the compound of a well that has no other."""


@dataclass(frozen=True)
class MapWell:
    """What a plate map says of one well."""

    where: str
    """Place in the plate map."""
    compound: str | None = None
    dose_micromolar: float | None = None
    moa: str | None = None
    control_type: ControlType | None = None
    solvent: str | None = None
    extra: dict[str, str | None] = field(default_factory=dict)
    """Further columns that were asked for."""


@dataclass(frozen=True)
class Platemap:
    """A plate map: its wells by plate and well, and how it was read."""

    wells: dict[tuple[str | None, str], MapWell]
    """(plate, well) -> what the map says of it; the plate is None where the map goes for all plates."""
    taken: dict[str, str]
    """Meaning, such as `dose` -> the column or grid that it was taken from."""
    remarks: list[Remark]
    """How the map was read, and what in it is doubtful."""
    names_plates: bool
    """Whether a column of the map gives plates."""

    def well(self, plate: str, well: str) -> MapWell | None:
        """Return what the map says of a well of a plate; what it says of all plates fills what is missing."""
        found = self.wells.get((plate_key(plate), well_key(well)))
        shared = self.wells.get((None, well_key(well)))
        if found is None or shared is None:
            return found or shared
        missing = {name: getattr(shared, name) for name in SHARED if getattr(found, name) is None}
        return replace(found, **missing, extra=shared.extra | found.extra)


def well_key(name: str) -> str:
    """Return the form of a well by which tables are joined; a name that is no well is joined letter by letter."""
    return canonical_well(name) or name


@dataclass(frozen=True)
class _Cell:
    """One value of one well, and where it stands."""

    plate: str | None
    well: str
    text: str
    where: str
    unit: str = ""
    is_date: bool = False


@dataclass(frozen=True)
class _Part:
    """The values of one meaning in one column or grid."""

    meaning: str
    name: str
    cells: list[_Cell]
    delimiter: str = ""
    """What separates the cells of its file; "" in a workbook."""


@dataclass(frozen=True)
class _Grid:
    """A rectangle of wells in a sheet, under a row of numbers and right of a column of letters."""

    sheet: Sheet
    top: int
    left: int
    """Place of the corner above the letters."""
    rows: int
    columns: int
    title: str

    def names(self) -> list[str]:
        """Return what may name its meaning or its plate, the nearest first."""
        return [text for text in (self.sheet.text(self.top, self.left), self.title, self.sheet.name) if text]

    def cells(self, plate: str | None) -> list[_Cell]:
        found = []
        for row in range(self.top + 1, self.top + 1 + self.rows):
            for column in range(self.left + 1, self.left + 1 + self.columns):
                well = well_of(self.sheet.text(row, self.left), self.sheet.text(self.top, column))
                if well is not None and (text := self.sheet.text(row, column)):
                    where = self.sheet.where(row, column) + ("" if self.sheet.name else f", well {well}")
                    found.append(_Cell(plate, well, text, where, is_date=(row, column) in self.sheet.dates))
        return found


def read_platemap(
    path: Path,
    columns: PlatemapColumns | None = None,
    plates: Sequence[str] = (),
    dose_unit: Unit | None = None,
    keep: Sequence[str] = (),
) -> Platemap:
    """Read a plate map: CSV, TSV or XLSX, as a long table or as grids; all sheets that hold one.

    `plates` are the plates of the images: sheets and titles that bear their names go for these plates only. `keep`
    names further columns of long tables. Raises DataError where the map is damaged, says a well twice or is no map,
    UsageError where a column is named that it does not have, or where only the user knows what is meant.
    """
    columns = columns or PlatemapColumns()
    remarks: list[Remark] = []
    unread: dict[str, None] = {}
    others: list[str] = []
    grids: list[_Grid] = []
    tables: list[_Long] = []
    sheets = read_sheets(path)
    for sheet in sheets:
        if here := _grids(sheet):
            grids += here
        elif (top := _header_row(sheet, columns)) is not None:
            tables.append(_Long(sheet, top, columns, plates))
        else:
            others.append(sheet.title)
    header = [name for grid in grids for name in grid.names()] + [name for table in tables for name in table.header]
    grids, tables = _of_these_plates(grids, tables, columns, plates, remarks)
    remarks += _file_of_one_plate(path, grids, tables, plates)
    parts = _parts_of_grids(grids, columns, plates, remarks)
    for table in tables:
        parts += table.parts(keep)
        remarks += table.remarks
        unread |= dict.fromkeys(table.unread(keep))
    names_plates = any(table.plate is not None for table in tables)
    if not parts:
        raise _no_map(path, sheets, columns)
    if others:
        remarks.append(Remark("note", "plate map", f"these sheets hold no wells and are left out: {listed(others)}"))
    _check_named(columns, parts, path, header)
    wells = _wells(parts, dose_unit, remarks)
    if not wells:
        raise DataError(f"{path} names no well", hint="give a plate map with one row per well, or a grid of a plate")
    remarks += _doubtful_compounds(parts)
    taken = {
        meaning: listed(dict.fromkeys(part.name for part in parts if part.meaning == meaning), 3)
        for meaning in dict.fromkeys(part.meaning for part in parts)
        if not meaning.startswith("keep:")
    }
    return Platemap(wells, taken, [_how_it_was_read(path, taken, wells, list(unread)), *remarks], names_plates)


def holds_grids(path: Path) -> bool:
    """Return whether a file is a plate map of grids, and so no table of images; False where it cannot be read."""
    try:
        return any(_grids(sheet) for sheet in read_sheets(path))
    except DataError:
        return False


def _how_it_was_read(
    path: Path, taken: dict[str, str], wells: dict[tuple[str | None, str], MapWell], unread: Sequence[str]
) -> Remark:
    columns = ", ".join(f"{meaning.replace('_', ' ')} from {name}" for meaning, name in taken.items())
    plates = {plate for plate, _ in wells if plate is not None}
    where = counted(len(wells), "well") + (f" of {counted(len(plates), 'plate')}" if plates else ", on every plate")
    rest = f"; not read: {listed(unread)}" if unread else ""
    return Remark("note", "plate map", f"the plate map {path.name} gives {where}: {columns}{rest}", items=tuple(unread))


def _no_map(path: Path, sheets: Sequence[Sheet], columns: PlatemapColumns) -> DataError:
    if not sheets:
        return DataError(f"{path} is empty", hint="give a plate map with one row per well, or a grid of a plate")
    first = next((row for row in sheets[0].rows if any(row)), [])
    shown = listed([repr(cell) for cell in first if cell])
    wanted = f"a column {columns.well!r}" if columns.well else "a column of wells that is known by its name"
    return DataError(
        f"{path} is no plate map: it has neither {wanted} nor a grid with letters and numbers; it begins with {shown}",
        hint='name its columns: platemap_columns = { well = "…", compound = "…", dose = "…" }',
    )


# ------------------------------------------------------------------------------------------------------------ grids


def _grids(sheet: Sheet) -> list[_Grid]:
    """Return the grids of a sheet from the top down: a row of consecutive numbers above a column of letters."""
    found: list[_Grid] = []
    row = 0
    while row < len(sheet.rows):
        here = list(_grids_under(sheet, row, found))
        found += here
        row += 1 + max((grid.rows for grid in here), default=0)
    return found


def _grids_under(sheet: Sheet, top: int, above: Sequence[_Grid]) -> Iterator[_Grid]:
    numbers = [_whole(text) for text in sheet.rows[top]]
    place = 1
    while place < len(numbers):
        end = place
        while end + 1 < len(numbers) and numbers[end] is not None and numbers[end + 1] == (numbers[end] or 0) + 1:
            end += 1
        rows = _rows_of_letters(sheet, top, place - 1) if end > place and (numbers[place] or 0) > 0 else 0
        if rows:
            floor = max((grid.top + grid.rows for grid in above), default=-1)
            yield _Grid(sheet, top, place - 1, rows, end - place + 1, _title_above(sheet, top, place - 1, floor))
        place = end + 1


def _whole(text: str) -> int | None:
    found = re.fullmatch(r"0*(\d{1,2})(?:\.0+)?", text)
    return int(found.group(1)) if found else None


def _rows_of_letters(sheet: Sheet, top: int, left: int) -> int:
    """Return how many consecutive letters stand under the corner; 0 where there is at most one."""
    if re.fullmatch(r"[A-Za-z]{1,2}", sheet.text(top, left)) and row_number(sheet.text(top, left)):
        return 0  # a row of a long table, such as A,1,2
    first = row_number(sheet.text(top + 1, left)) if top + 1 < len(sheet.rows) else None
    if first is None:
        return 0
    count = 0
    while top + 1 + count < len(sheet.rows):
        text = sheet.text(top + 1 + count, left)
        if text.upper() != (letters_of(first + count) if first + count <= 32 else ""):
            break
        count += 1
    return count if count > 1 else 0


def _title_above(sheet: Sheet, top: int, left: int, floor: int) -> str:
    """Return the nearest text above a grid, in its column or the ones beside it; "" where there is none."""
    for row in range(top - 1, max(floor, top - 4), -1):
        texts = [text for place, text in enumerate(sheet.rows[row]) if text and left <= place <= left + 48]
        if texts:
            return texts[0] if len(texts) <= 2 else ""
    return ""


def _parts_of_grids(
    grids: Sequence[_Grid], columns: PlatemapColumns, plates: Sequence[str], remarks: list[Remark]
) -> list[_Part]:
    named = [(grid, _meaning_of(grid, columns, plates), _plate_of(grid, plates)) for grid in grids]
    compounds = [(grid.sheet, plate) for grid, (meaning, _), plate in named if meaning == "compound"]
    unnamed = [grid for grid, (meaning, _), _ in named if meaning is None]
    parts, unknown = [], list[str]()
    for grid, (meaning, name), plate in named:
        cells = grid.cells(plate)
        _check_grid_ends(grid)
        _check_merged(grid.sheet, (grid.top + 1, grid.left + 1), (grid.top + grid.rows, grid.left + grid.columns))
        if meaning is None:
            title = _own_title(grid, plates)
            if title and any(of in (None, plate) or sheet is grid.sheet for sheet, of in compounds):
                unknown.append(f"{title!r} ({grid.sheet.where(grid.top)})")
                continue
            has_compound = any(of == plate or sheet is grid.sheet for sheet, of in compounds)
            numeric = bool(cells) and all(NUMBER.match(cell.text) for cell in cells)
            of_sheet = [one for one in unnamed if one.sheet is grid.sheet]
            names = [one.names()[0] for one in of_sheet if one.names()]
            is_twice = _same_plate_twice(of_sheet, plates)
            if is_twice and not has_compound and not numeric and all(map(PLATE_NAME.fullmatch, names or [""])):
                raise _unknown_plates(grid.sheet, names, plates)
            if has_compound or numeric or is_twice:
                raise UsageError(
                    f"{grid.sheet.where(grid.top)}: the grid has no title that says what it holds",
                    hint=f"write `compound`, `dose` or `control type` above it or into its corner cell "
                    f"{letters_of(grid.left + 1)}{grid.sheet.lines[grid.top]}, or name it: "
                    f'platemap_columns = {{ dose = "{(grid.names() or ["title"])[0]}" }}',
                )
        parts.append(
            _Part(meaning or "compound", name or next(iter(grid.names()), "the grid"), cells, grid.sheet.delimiter)
        )
    if unknown:
        text = f"grids whose titles say neither compound nor dose, left out ({len(unknown):,}): {listed(unknown, 5)}"
        hint = 'where one is meant: platemap_columns = { dose = "its title" }'
        remarks.append(Remark("warning", "plate map", text, hint, tuple(unknown)))
    return parts


def _unknown_plates(sheet: Sheet, names: Sequence[str], plates: Sequence[str]) -> DataError:
    return DataError(
        f"{sheet.title} has grids called {listed(map(repr, names), 5)}, and the images are of {listed(plates, 5)}",
        hint="write the names of the plates of the images above the grids",
    )


def _own_title(grid: _Grid, plates: Sequence[str]) -> str:
    """Return the nearest name of a grid that is neither a plate nor what the program calls new sheets."""
    names = (name for name in grid.names() if not DEFAULT_SHEET.fullmatch(name) and len(name) > 1)
    return next((name for name in names if _named_plate(name, plates) is None and not PLATE_NAME.fullmatch(name)), "")


def _check_grid_ends(grid: _Grid) -> None:
    """Raise DataError where a row of a grid in a CSV file is longer than the row with its numbers."""
    if grid.sheet.name:
        return
    width = len(grid.sheet.rows[grid.top])
    for row in range(grid.top + 1, grid.top + 1 + grid.rows):
        if any(grid.sheet.rows[row][width:]):
            raise _wrong_length(grid.sheet, row, width)


def _wrong_length(sheet: Sheet, row: int, width: int) -> DataError:
    return DataError(
        f"{sheet.where(row)} has {len(sheet.rows[row])} cells where the header has {width}",
        hint="put cells that hold a delimiter into quotes, such as names and numbers with a comma"
        if len(sheet.rows[row]) > width
        else "write all cells of the row, the empty ones too",
    )


def _of_these_plates(
    grids: list[_Grid], tables: list[_Long], columns: PlatemapColumns, plates: Sequence[str], remarks: list[Remark]
) -> tuple[list[_Grid], list[_Long]]:
    """Return the grids and tables without those of other plates, which are said.

    Where one of them bears the name of a plate of the images, one that bears another name is of another plate. Only a
    grid that is named by a meaning alone, such as `Doses`, which no plate has of its own, goes for all plates.
    """
    own = [grid for grid in grids if _plate_of(grid, plates) is not None]
    if not own and not any(table.sheet_plate for table in tables):
        _remark_on_other_plate(grids, tables, plates, remarks)
        return grids, tables
    meanings = {_meaning_of(grid, columns, plates)[0] or "compound" for grid in own}
    meanings |= {meaning for table in tables if table.sheet_plate for meaning in VALUES if meaning in table.usual}
    shared = [
        grid
        for grid in grids
        if grid not in own
        and (meaning := _meaning_of(grid, columns, plates)[0]) is not None
        and meaning not in meanings
        and all(is_meaning_only(name) or DEFAULT_SHEET.fullmatch(name) for name in grid.names())
    ]
    kept = [grid for grid in grids if grid in own or grid in shared]
    kept_tables = [
        table
        for table in tables
        if table.plate
        or table.sheet_plate
        or (is_meaning_only(table.sheet.name) and not meanings & {one for one in VALUES if one in table.usual})
    ]
    left = [_name_and_sheet(grid) for grid in grids if grid not in kept]
    left += [repr(table.sheet.name) for table in tables if table not in kept_tables]
    if left:
        remarks.append(
            Remark(
                "warning",
                "plate map",
                f"sheets or grids that name none of the plates of the images, left out ({len(left):,}): {listed(left)}",
                "where they are of these plates, name them like the plates",
                tuple(left),
            )
        )
    return kept, kept_tables


def _name_and_sheet(grid: _Grid) -> str:
    name = (grid.names() or [grid.sheet.where(grid.top)])[0]
    return repr(name) + (f" (sheet {grid.sheet.name!r})" if grid.sheet.name not in ("", name) else "")


def _file_of_one_plate(
    path: Path, grids: Sequence[_Grid], tables: Sequence[_Long], plates: Sequence[str]
) -> list[Remark]:
    """Return a warning where a map for all plates is called like one of them."""
    named = _named_plate(path.name.partition(".")[0], plates) if len(plates) > 1 else None
    own = any(_plate_of(grid, plates) for grid in grids) or any(table.plate or table.sheet_plate for table in tables)
    if named is None or own:
        return []
    text = f"the plate map {path.name} is called like the plate {named}, and is taken for all {len(plates):,} plates"
    hint = "where it is of one plate only, add a column with the plate"
    return [Remark("warning", "plate map", text, hint, (named,))]


def _remark_on_other_plate(
    grids: Sequence[_Grid], tables: Sequence[_Long], plates: Sequence[str], remarks: list[Remark]
) -> None:
    """Add a warning where a sheet or title that goes for all plates looks like the name of another plate."""
    names = [name for grid in grids for name in grid.names()]
    names += [title for table in tables if not table.plate for title in table.titles]
    shapes = {_shape(plate) for plate in plates}
    alike = [
        repr(name)
        for name in dict.fromkeys(names)
        if name
        and not DEFAULT_SHEET.fullmatch(name)
        and (
            _shape(name) in shapes
            or any(_shape(word) in shapes for word in name.split() if len(word) > 1)
            or (plates and PLATE_NAME.fullmatch(name) and meaning_of_title(name) is None)
        )
    ]
    is_sure = len(plates) == 1 and not any(_shape(name) in shapes for name in names)
    if alike:
        remarks.append(
            Remark(
                "note" if is_sure else "warning",
                "plate map",
                f"{listed(alike, 5)} in the plate map looks like the name of a plate, and the images are of "
                f"{listed(plates, 5)}: the map is taken for all of them",
                "check that it is the map of these plates, and name its sheets or titles like them",
                tuple(alike),
            )
        )


def _shape(name: str) -> str:
    """Return a name with its numbers made equal, and one letter for any: `P1` and `P3` have one shape."""
    plain = re.sub(r"\d+", "0", plate_key(name).casefold())
    return "a" if len(plain) == 1 and plain.isalpha() else plain


def _without_separators(name: str) -> str:
    """Return `plate1` for `Plate 1` and `plate-1`; between two digits a separator stays, as in `P1-1`."""
    return re.sub(r"(?<!\d)[\s_-]+|[\s_-]+(?!\d)", "", plate_key(name)).casefold()


def _same_plate_twice(grids: Sequence[_Grid], plates: Sequence[str]) -> bool:
    """Return whether two grids without a meaning are of one plate, so that they cannot both hold compounds."""
    found = [_plate_of(grid, plates) for grid in grids]
    return len(set(found)) < len(found)


def _meaning_of(grid: _Grid, columns: PlatemapColumns, plates: Sequence[str]) -> tuple[str | None, str]:
    """Return what a grid holds, and the corner, title or sheet that says so; None and "" where nothing does."""
    names = grid.names()
    for meaning in VALUES:
        if (wanted := getattr(columns, meaning)) is not None and wanted in names:
            return meaning, wanted
    keys = {plate_key(one) for one in plates}
    found = ((meaning_of_title(name), name) for name in names if plate_key(name) not in keys)
    return next((pair for pair in found if pair[0] is not None), (None, ""))


def _plate_of(grid: _Grid, plates: Sequence[str]) -> str | None:
    """Return the plate that the grid's corner, title or sheet names; None where it names none of the images' plates."""
    return next((plate for name in grid.names() if (plate := _named_plate(name, plates)) is not None), None)


def _named_plate(name: str, plates: Sequence[str]) -> str | None:
    """Return the plate whose name is `name`, or stands in it as a word: `P1`, `P1 doses`, `plate P1`."""
    exact = [plate for plate in plates if plate_key(plate).casefold() == plate_key(name).casefold()]
    if exact:
        return plate_key(exact[0])
    form = _without_separators(name)
    alike = [plate for plate in plates if form and _without_separators(plate) == form]
    if len(alike) == 1:
        return plate_key(alike[0])
    bare = re.sub(r"^plate[\s_#:-]*", "", name, flags=re.IGNORECASE).casefold()
    numbered = [plate for plate in plates if bare and plate_key(plate).casefold() == bare]
    if len(numbered) == 1:
        return plate_key(numbered[0])
    words = [plate for plate in plates if _stands_in(plate_key(plate), name)]
    return plate_key(words[0]) if len(words) == 1 and not words[0].isdigit() else None


def _stands_in(plate: str, name: str) -> bool:
    """Return whether a plate stands in a name as a word; one without a digit is written alike and no usual word.

    `A` stands in `A doses`, and the plate `plate` does not stand in `Plate layout`.
    """
    flags = re.IGNORECASE if any(letter.isdigit() for letter in plate) else re.NOFLAG
    if not flags and is_filler(plate):
        return False
    return re.search(rf"(?<![^\W_]){re.escape(plate)}(?![^\W_])", name, flags) is not None


# -------------------------------------------------------------------------------------------------------- long tables


def _header_row(sheet: Sheet, columns: PlatemapColumns) -> int | None:
    """Return the row with the names of the columns, which may stand below a title; None where no row has any well."""
    for row, cells in enumerate(sheet.rows[:HEADER_ROWS]):
        header = [cell for cell in cells if cell]
        usual = usual_columns(header)
        well = columns.well in header if columns.well else "well" in usual
        pair = (columns.row in header) if columns.row else "row" in usual and "column" in usual
        if len(header) > 1 and (well or pair):
            return row
    return None


class _Long:
    """A long table in a sheet: one row per well."""

    def __init__(self, sheet: Sheet, top: int, columns: PlatemapColumns, plates: Sequence[str]) -> None:
        self.sheet, self.top, self.columns = sheet, top, columns
        self.header = sheet.rows[top]
        named = [name for name in self.header if name]
        if len(set(named)) < len(named):
            twice = next(name for name in named if named.count(name) > 1)
            raise DataError(f"{sheet.where(top)} names several columns {twice!r}", hint="rename all but one of them")
        self.usual = usual_columns(named)
        self.remarks: list[Remark] = []
        self.plate = self._column("plate")
        self.titles = [sheet.name, *(text for cells in sheet.rows[:top] for text in cells)]
        short = [title for title in self.titles if title and (title == sheet.name or len(title.split()) <= 3)]
        of_titles = {plate for title in short if (plate := _named_plate(title, plates))}
        self.sheet_plate = of_titles.pop() if len(of_titles) == 1 and not self.plate else None
        self.rows = [row for row in range(top + 1, len(sheet.rows)) if any(sheet.rows[row])]
        _check_merged(sheet, (top + 1, 0), (len(sheet.rows) - 1, len(self.header) - 1))

    def parts(self, keep: Sequence[str]) -> list[_Part]:
        """Return the columns that mean something, and those to keep, each with one cell per well."""
        wells = self._wells()
        taken = {meaning: name for meaning in VALUES if (name := self._column(meaning)) is not None}
        kept = {f"keep:{name}": name for name in keep if name in self.header}
        self._remark_on_source_doses(taken)
        unit = self._column("dose_unit") if "dose" in taken else None
        parts = []
        for meaning, name in {**taken, **kept}.items():
            place = self.header.index(name)
            cells = [
                _Cell(
                    plate,
                    well,
                    self.sheet.text(row, place),
                    self.sheet.where(row, place),
                    self.sheet.text(row, self.header.index(unit)) if unit and meaning == "dose" else "",
                    (row, place) in self.sheet.dates,
                )
                for row, plate, well in wells
            ]
            parts.append(_Part(meaning, name, cells, self.sheet.delimiter))
        place = self.header.index(self._column("well") or self._column("row") or "")
        parts.append(
            _Part("well", self.header[place], [_Cell(p, w, w, self.sheet.where(r, place)) for r, p, w in wells])
        )
        return parts

    def unread(self, keep: Sequence[str]) -> list[str]:
        """Return the columns that are taken for nothing."""
        meanings = ("plate", "well", "row", "column", "dose_unit", *VALUES)
        taken = {*keep, *(self._column(meaning) for meaning in meanings)}
        return [name for name in self.header if name and name not in taken]

    def _wells(self) -> list[tuple[int, str | None, str]]:
        """Return row, plate and well of every row that names a well."""
        found, without = [], []
        self._check_ends()
        self._check_well_columns()
        self._check_blank_plates()
        for row in self.rows:
            well = self._well(row)
            plate = plate_key(self._text(row, self.plate)) if self.plate else self.sheet_plate
            if not well:
                without.append(self.sheet.where(row))
            else:
                found.append((row, plate or None, well_key(well)))
        if without:
            self.remarks.append(
                Remark(
                    "warning",
                    "plate map",
                    f"rows of the plate map without a well, left out ({len(without):,}): {listed(without, 3)}",
                    "correct them, or remove them",
                    tuple(without),
                )
            )
        return found

    def _check_ends(self) -> None:
        """Raise DataError where a row of a CSV file that names a well has more or fewer cells than the header."""
        if self.sheet.name:
            return
        named = max(place for place, name in enumerate(self.header) if name) + 1
        for row in self.rows:
            cells = self.sheet.rows[row]
            if any(cells[len(self.header) :]) or (len(cells) < named and len(list(filter(None, cells))) > 1):
                raise _wrong_length(self.sheet, row, len(self.header))

    def _check_well_columns(self) -> None:
        """Raise DataError where the well and the columns with row and column name different wells."""
        well, row, column = (self._column(meaning) for meaning in ("well", "row", "column"))
        is_index = any("index" in name.casefold() for name in (row, column) if name)  # often counted from 0
        if well is None or row is None or column is None or self.columns.well or is_index:
            return
        wrong = []
        for line in self.rows:
            one, other = (
                canonical_well(self._text(line, well)),
                well_of(self._text(line, row), self._text(line, column)),
            )
            if one and other and one != other:
                wrong.append(f"{one} and {other} ({self.sheet.where(line)})")
        if wrong:
            raise DataError(
                f"the columns {well!r} and {row!r}, {column!r} of the plate map name different wells "
                f"({len(wrong):,}): {listed(wrong)}",
                hint=f'correct them, or say that the well counts: platemap_columns = {{ well = "{well}" }}',
            )

    def _check_blank_plates(self) -> None:
        """Raise DataError where some rows name their plate, and others with a well do not."""
        if self.plate is None or not any(self._text(row, self.plate) for row in self.rows):
            return
        blank = [self.sheet.where(row) for row in self.rows if not self._text(row, self.plate) and self._well(row)]
        if blank:
            raise DataError(
                f"rows of the plate map without a plate in the column {self.plate!r} ({len(blank):,}): {listed(blank)}",
                hint="write the plate into every row, or leave the whole column empty where the map is for all plates",
            )

    def _well(self, row: int) -> str:
        if (name := self._column("well")) is not None:
            return self._text(row, name)
        of_row, of_column = self._text(row, self._column("row")), self._text(row, self._column("column"))
        if not of_row and not of_column:
            return ""
        well = well_of(of_row, of_column)
        if well is None:
            raise DataError(
                f"{self.sheet.where(row)}: row {of_row!r} and column {of_column!r} are no well",
                hint="rows are letters or numbers from 1, columns are numbers from 1",
            )
        return well

    def _text(self, row: int, column: str | None) -> str:
        return "" if column is None else self.sheet.text(row, self.header.index(column))

    def _column(self, meaning: str) -> str | None:
        """Return the column of a meaning, as the user named it, or the most usual one."""
        wanted: str | None = getattr(self.columns, meaning)
        if wanted is not None:
            return wanted if wanted in self.header else None
        usual = [name for name in self.usual.get(meaning, ()) if name not in self.columns.model_dump().values()]
        if len(usual) > 1 and meaning in ("well", "compound", "dose", "plate", "control_type"):
            remark = Remark(
                "warning",
                "plate map",
                f"the {meaning.replace('_', ' ')} is taken from the column {usual[0]!r} of the plate map, and "
                f"{' and '.join(map(repr, usual[1:]))} may mean it too",
                f'to choose another: platemap_columns = {{ {meaning} = "{usual[1]}" }}',
            )
            if remark not in self.remarks:
                self.remarks.append(remark)
        return usual[0] if usual else None

    def _remark_on_source_doses(self, taken: dict[str, str]) -> None:
        if "dose" in taken:
            return
        source = next((name for name in self.header if SOURCE_PLATE.match(name)), None)
        if source is not None:
            self.remarks.append(
                Remark(
                    "warning",
                    "doses",
                    f"no dose is read: the column {source!r} may be the concentration in the source plate",
                    f'where it is the dose in the well: platemap_columns = {{ dose = "{source}" }} and '
                    'dose_unit = "uM", or "mM"',
                )
            )
        elif like := [name for name in self.header if DOSE_WORD.search(name) and name not in self._all_usual()]:
            self.remarks.append(
                Remark(
                    "warning",
                    "doses",
                    f"no dose is read: {listed(map(repr, like), 3)} may be doses, and their unit or their meaning is "
                    "not known",
                    f'where they are molar: platemap_columns = {{ dose = "{like[0]}" }}; convert units of mass to '
                    "micromolar",
                    tuple(like),
                )
            )

    def _all_usual(self) -> set[str]:
        """Return the columns that are known by their usual names."""
        return {name for names in self.usual.values() for name in names}


# ------------------------------------------------------------------------------------------------------------- values


def _check_named(columns: PlatemapColumns, parts: Sequence[_Part], path: Path, header: Sequence[str]) -> None:
    """Raise UsageError where a column or grid is named that no sheet has."""
    names = tuple(dict.fromkeys(name for name in header if name))
    for wanted in columns.model_dump().values():
        if wanted is not None and wanted not in names:
            raise UsageError(f"{path} has no column or grid {wanted!r}", hint=did_you_mean(wanted, names))


def _check_merged(sheet: Sheet, first: tuple[int, int], last: tuple[int, int]) -> None:
    """Raise DataError where cells between two corners (row, column) are merged: only the first of them has a value."""
    first_line, last_line = sheet.lines[min(first[0], len(sheet.lines) - 1)], sheet.lines[last[0]]
    inside = []
    for area in sheet.merged:
        corners = re.findall(r"([A-Z]+)(\d+)", area)
        rows = [int(number) for _, number in corners]
        places = [number_of(letters) - 1 for letters, _ in corners]
        if max(rows) >= first_line and min(rows) <= last_line and max(places) >= first[1] and min(places) <= last[1]:
            inside.append(area)
    if inside:
        raise DataError(
            f"{sheet.title}: the cells {listed(inside, 5)} are merged, so that only the first of them has a value",
            hint="unmerge them, and write the value into every cell",
        )


def _wells(
    parts: Sequence[_Part], dose_unit: Unit | None, remarks: list[Remark]
) -> dict[tuple[str | None, str], MapWell]:
    """Return the values of all parts by well; DataError where a well is given twice."""
    values: dict[tuple[str | None, str], dict[str, object]] = {}
    places: dict[tuple[str | None, str, str], str] = {}
    for part in parts:
        parsed = _parsed(part, dose_unit, remarks)
        for cell, value in zip(part.cells, parsed, strict=True):
            key = (cell.plate, cell.well, part.meaning)
            if key in places:
                raise DataError(
                    f"the plate map gives the {part.meaning.replace('_', ' ')} of well {cell.well}"
                    f"{f' of plate {cell.plate}' if cell.plate else ''} twice: {places[key]}, and {cell.where}",
                    hint="keep one row per well; for several plates, add a column with the plate, or name the sheets "
                    "like the plates",
                )
            places[key] = cell.where
            row = values.setdefault((cell.plate, cell.well), {"where": cell.where})
            if part.meaning.startswith("keep:"):
                row.setdefault("extra", {})[part.meaning.removeprefix("keep:")] = value  # type: ignore[index]
            elif part.meaning != "well":
                row["dose_micromolar" if part.meaning == "dose" else part.meaning] = value
    return {key: MapWell(**row) for key, row in values.items()}  # type: ignore[arg-type]


def _parsed(part: _Part, dose_unit: Unit | None, remarks: list[Remark]) -> Sequence[object]:
    texts = [cell.text for cell in part.cells]
    match part.meaning:
        case "dose":
            units = [cell.unit for cell in part.cells]
            places = [cell.where for cell in part.cells]
            column = DoseColumn(texts, places, part.name, units if any(units) else None, part.delimiter == ";")
            doses = parse_doses(column, dose_unit)
            remarks += unit_doubts(column, dose_unit)
            if (unit := dose_unit or unit_of_header(part.name)) not in (None, "uM"):
                remarks.append(
                    Remark("note", "doses", f"doses of {part.name!r} without a unit of their own are taken as {unit}")
                )
            return doses
        case "control_type":
            return parse_control_types(texts, part.name, remarks)
        case _:
            return [text or None for text in texts]


def parse_control_types(texts: Sequence[str], name: str, remarks: list[Remark]) -> list[ControlType | None]:
    """Return what a column of control types says of every row; a warning is added for words that are not known."""
    flags = {"yes": "negative", "true": "negative", "no": "treatment", "false": "treatment"}
    kinds = {text: flags.get(text.casefold(), control_type_of(text)) for text in set(texts)}
    unknown = sorted(text for text, kind in kinds.items() if text and kind is None)
    if unknown:
        known = ", ".join(words[0] for words in CONTROL_TYPES.values())
        remarks.append(
            Remark(
                "warning",
                "controls",
                f"the column {name!r} says {listed([repr(text) for text in unknown], 5)}, which is no known type of "
                "well; these wells count by their compound",
                f"write one of: {known}",
                tuple(unknown),
            )
        )
    return [kinds[text] for text in texts]  # type: ignore[misc]


def _doubtful_compounds(parts: Sequence[_Part]) -> Iterator[Remark]:
    cells = [cell for part in parts if part.meaning == "compound" for cell in part.cells if cell.text]
    if broken := [cell for cell in cells if SPREADSHEET_ERROR.fullmatch(cell.text)]:
        shown = listed([f"{cell.text} ({cell.where})" for cell in broken], 3)
        raise DataError(
            f"the spreadsheet could not compute {counted(len(broken), 'compound')}: {shown}", hint="correct them there"
        )
    yield from doubtful_compounds([(cell.text, cell.where, cell.is_date) for cell in cells])


def doubtful_compounds(cells: Sequence[tuple[str, str, bool]]) -> Iterator[Remark]:
    """Yield warnings on compounds (text, place, whether it is a date) that look like something other than names."""
    kinds: dict[str, list[str]] = {"date": [], "number": [], "none": [], "dose": []}
    for text, where, is_date in cells:
        kind = "date" if is_date or DATE.fullmatch(text) else "number" if NUMBER.fullmatch(text) else ""
        kind = kind or ("none" if text.casefold() in NO_NAMES else "dose" if WITH_DOSE.fullmatch(text) else "")
        if kind:
            kinds[kind].append(f"{text!r} ({where})")
    sentences = {
        "date": ("dates among the compounds, which a spreadsheet makes of names such as SEPT2 ({n}): {first}",
                 "format the cells as text, and write the names again"),
        "number": ("numbers among the compounds ({n}): {first}", "check that the column of compounds is the right one"),
        "none": ("words for no compound among the compounds, which count as names ({n}): {first}",
                 "leave the cells empty, or name the controls in fetch.controls"),
        "dose": ("names of compounds that hold a dose, so that every dose counts as a compound ({n}): {first}",
                 "write the doses into a column or grid of their own"),
    }  # fmt: skip
    for kind, found in kinds.items():
        if found:
            sentence, hint = sentences[kind]
            text = sentence.format(n=f"{len(found):,}", first=listed(found, 3))
            yield Remark("warning", "compounds", text, hint, tuple(found))
