"""doses: cells of a dose column in, with units and decimal commas, doses in micromolar out; near doses made one."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from statistics import median
from typing import Annotated, Literal

from pydantic import BeforeValidator

from cellssl.datasets.base import Remark
from cellssl.datasets.tables.csv_table import number_hint
from cellssl.datasets.tables.wells import listed
from cellssl.errors import DataError, UsageError

Unit = Literal["pM", "nM", "uM", "mM", "M"]


def _with_plain_letters(given: object) -> object:
    return unicodedata.normalize("NFKC", given).replace("μ", "u") if isinstance(given, str) else given


Written = Unit | Literal["µM", "μM"]
UnitSetting = Annotated[Unit, BeforeValidator(_with_plain_letters, json_schema_input_type=Written)]
"""A unit as a recipe gives it; `µM` is uM."""
MICROMOLAR: dict[str, Decimal] = {
    "pM": Decimal("1e-6"), "nM": Decimal("1e-3"), "uM": Decimal(1), "mM": Decimal("1e3"), "M": Decimal("1e6"),
}  # fmt: skip
"""Micromolar per unit; decimal, so that 300 nM are 0.3 and not 0.30000000000000004."""
UNKNOWN = frozenset({"", "na", "n/a", "n.a.", "n.a", "#n/a", "-", "--", "–", "—", "unknown", "none", "null"})
"""Cells, without regard to case, that say that the dose is not known."""
WORDS = {
    "pico": "pM", "nano": "nM", "micro": "uM", "milli": "mM", "p": "pM", "n": "nM", "u": "uM", "μ": "uM", "m": "mM",
}  # fmt: skip
IN_HEADER = {"pm": "pM", "nm": "nM", "um": "uM", "μm": "uM", "mm": "mM"}
"""Units in small letters in the name of a column, where no length is meant: `conc_um`."""
NUMBER = r"[+]?(?:\d+(?:[.,]\d*)*|[.,]\d+)(?:[eE][+-]?\d+)?"
CELL = re.compile(rf"({NUMBER})\s*(.*)")
GROUPED = re.compile(r"[+]?[1-9]\d{0,2}(,\d{3})+")
"""A number that may have a comma between thousands: 1,000 is one thousand in some tables and 1.0 in others."""
GROUPED_BY_POINTS = re.compile(r"[+]?[1-9]\d{0,2}(\.\d{3})+")
"""The same with a point, in tables with semicolons, where a comma is the decimal sign."""
CAPITALS = {"PM": "pM", "NM": "nM", "UM": "uM"}
"""Units in capitals that mean one thing; MM may be mM, or M written twice."""
NO_UNITS = frozenset(
    {
        "ppm",
        "ppb",
        "kg",
        "g",
        "mg",
        "ug",
        "μg",
        "ng",
        "pg",
        "fold",
        "percent",
        "iu",
        "mol",
        "mmol",
        "umol",
        "μmol",
        "nmol",
        "pmol",
    }
)
"""Words in the name of a column of doses that are units, and not molar ones."""
NEUTRAL = frozenset(
    {"final", "in", "the", "of", "well", "assay", "plate", "nominal", "actual", "measured", "mean", "dose", "conc"}
    | {
        "concentration",
        "compound",
        "drug",
        "unit",
        "units",
        "molar",
        "per",
        "l",
        "liter",
        "litre",
        "a",
        "b",
        "if",
        "any",
    }
)
"""Words in brackets in the name of a column of doses that are no units."""
LOG = re.compile(r"(?:^|[\W_])(?:log(?:10|2)?|ln|p(?:ic|ec)50)(?=$|[\W_])", re.IGNORECASE)
PER_MASS = re.compile(r"(?:^|[\W_])([munpμ]?g|%)(?:\W|_)*(?:/|per)?(?:\W|_)*([mundμ]?l|liter|litre)?(?:$|[\W_])", re.I)
SOURCE_PLATE = re.compile(r"^(?:metadata_)?mmoles?_per_lit(?:er|re)$", re.IGNORECASE)
"""A column of plate maps of the Broad Institute: by its name in mM, and in many maps the number of uM in the assay."""
NOISE_DIGITS = 12
"""Significant digits beyond which a number differs by rounding in the computer only: 0.1 + 0.2."""


@dataclass(frozen=True)
class DoseColumn:
    """The cells of a column of doses, one per row, and how to find them again."""

    texts: Sequence[str]
    places: Sequence[str]
    """Where each cell stands, for messages, such as `plate.csv, line 4`."""
    name: str
    """Name of the column."""
    units: Sequence[str] | None = None
    """Cells of a column with the unit of each row, where there is one."""
    semicolons: bool = False
    """Whether semicolons separate the cells of the table, so that a comma may be its decimal sign."""

    def where(self, row: int) -> str:
        """Return the place of a cell for an error message."""
        return f"{self.places[row]}, column {self.name!r}"


def parse_doses(column: DoseColumn, unit: Unit | None = None) -> list[float | None]:
    """Return the doses in micromolar; None where a cell is empty or says that the dose is unknown.

    The unit is that in the cell; else `unit`, where it is given; else that in the name of the column; else micromolar.
    Raises DataError for cells that are no doses, or whose meaning is open: decimal commas beside decimal points,
    numbers with a unit beside numbers without, and a comma that may separate thousands.
    """
    _check_header(column.name)
    parts = _parts(column)
    _check_commas(column, parts)
    default = unit or unit_of_header(column.name)
    _check_units(column, parts, default)
    return [None if part is None else _micromolar(part, default or "uM") for part in parts]


def unit_doubts(column: DoseColumn, unit: Unit | None = None) -> list[Remark]:
    """Return warnings on units that disagree: of the setting, of the name of the column, and of the cells."""
    found = []
    header = _unit_if_clear(column.name)
    if unit is not None and header not in (None, unit):
        text = f"the column {column.name!r} says {header}, and the setting dose_unit says {unit}, which counts"
        found.append(Remark("warning", "doses", text, "leave one of them out", (column.name,)))
    default = unit or header
    parts = [_split(column, row) for row in range(len(column.texts))] if default is not None else []
    others = [
        f"{column.texts[row]!r}{f' {part[1]}' if column.units else ''} ({column.places[row]})"
        for row, part in enumerate(parts)
        if part is not None and part[1] not in (None, default) and set(part[0]) - set("+0.,")
    ]
    if others:
        text = (
            f"doses of the column {column.name!r} in another unit than {default} ({len(others):,}): {listed(others, 5)}"
        )
        found.append(
            Remark("warning", "doses", text, "the unit of the cell counts; correct those that are wrong", tuple(others))
        )
    return found


def _unit_if_clear(name: str) -> Unit | None:
    try:
        return unit_of_header(name)
    except UsageError:
        return None


def _check_header(name: str) -> None:
    """Raise UsageError where the name of a column says that its numbers are no doses, whatever the unit."""
    text = unicodedata.normalize("NFKC", name)
    if LOG.search(text):
        raise UsageError(
            f"the column {name!r} holds logarithms of doses",
            hint="convert the doses to micromolar, in a column of its own, and name that column",
        )
    if (mass := PER_MASS.search(text)) and (mass.group(1) == "%" or mass.group(2)):
        raise UsageError(
            f"the column {name!r} is not in a molar unit",
            hint="convert the doses to micromolar, in a column of its own",
        )


def unit_of_header(name: str) -> Unit | None:
    """Return the unit in the name of a column, such as `dose [nM]` or `conc_uM`; None where there is none.

    Capitals are read where they mean one thing. Raises UsageError for logarithms, units of mass, those that are not
    known or may mean two things, and doses of the source plate, because only the user knows the dose in the well.
    """
    text = unicodedata.normalize("NFKC", name)
    _check_header(name)
    words = [word for word in re.split(r"[\W_\d]+", text) if word]
    if SOURCE_PLATE.match(text) or {word.casefold() for word in words} & {"stock", "source"}:
        raise UsageError(
            f"the column {name!r} may be the concentration in the source plate, which is not the dose in the well",
            hint='say what its numbers are in the well: dose_unit = "uM", or dose_unit = "mM"',
        )
    if {"MM", "Mm"} & set(words):
        raise _no_unit(name, "may be in mM or in M")
    found = {unit for word in words if (unit := _unit_of_word(word)) is not None}
    for molar in re.finditer(r"([nμup]|m)mol(?:es?)?[\W_]*(?:/|per|(?=l-1|l\^-1))[\W_]*l", text, re.IGNORECASE):
        found.add(WORDS[molar.group(1).lower()])
    if len(found) > 1:
        raise _no_unit(name, f"names the units {' and '.join(sorted(found))}")
    if found:
        return found.pop()  # type: ignore[return-value]
    inside = re.split(r"[\W_\d]+", " ".join(re.findall(r"[(\[{]([^)\]}]*)", text)).casefold())
    strange = [word for word in words if word.casefold() in NO_UNITS]
    strange += [word for word in inside if word and word not in NEUTRAL]
    if strange:
        raise _no_unit(name, f"may be in a unit that is not known: {strange[0]}")
    return None


def _unit_of_word(word: str) -> str | None:
    glued = re.fullmatch(r"(?i:.*(?:dose|conc|concentration))([pnuμm]M|NM|UM)", word)
    word = glued.group(1) if glued else word
    return molar_unit(word) or IN_HEADER.get(word.casefold())


def _no_unit(name: str, why: str) -> UsageError:
    return UsageError(
        f"the column {name!r} {why}",
        hint='say what its numbers are: dose_unit = "uM", "nM", "mM" or "M", or write the unit into its name',
    )


def molar_unit(text: str) -> str | None:
    """Return the unit that a word means: `nM`, `µM`, `micromolar`, `umol/L`; None where it is no molar unit."""
    text = unicodedata.normalize("NFKC", text).strip().rstrip(".")
    if text == "M":
        return "M"
    if text in CAPITALS:
        return CAPITALS[text]
    if short := re.fullmatch(r"([pnuμm])M(?:ol)?", text):
        return WORDS[short.group(1)]
    if long := re.fullmatch(r"(pico|nano|micro|milli)[ -]?molar", text, re.IGNORECASE):
        return WORDS[long.group(1).lower()]
    if mole := re.fullmatch(r"([pnuμm])mol(?:es?)?\s*(?:/|per )\s*(?:l|liter|litre)", text, re.IGNORECASE):
        return WORDS[mole.group(1).lower()]
    return "M" if re.fullmatch(r"mol\s*/\s*l|molar", text, re.IGNORECASE) else None


def _parts(column: DoseColumn) -> list[tuple[str, str | None] | None]:
    """Return number and unit of every cell; DataError lists all cells that are no doses."""
    parts: list[tuple[str, str | None] | None] = []
    faults: list[tuple[int, DataError]] = []
    for row in range(len(column.texts)):
        try:
            parts.append(_split(column, row))
        except DataError as error:
            faults.append((row, error))
    if not faults:
        return parts
    first = faults[0][1]
    others = [f"{column.texts[row]!r} ({column.places[row]})" for row, _ in faults[1:]]
    more = f", and so for {len(others):,} more: {listed(others, 9)}" if others else ""
    raise DataError(first.message + more, hint=first.hint)


def _split(column: DoseColumn, row: int) -> tuple[str, str | None] | None:
    """Return the number of a cell as text, and its unit where it has one; None where the dose is unknown."""
    text = " ".join(unicodedata.normalize("NFKC", column.texts[row]).split())
    if text.casefold() in UNKNOWN:
        return None
    found = CELL.fullmatch(text)
    if found is None:
        raise _no_dose(column, row)
    number, written = found.groups()
    if not math.isfinite(float(number.replace(",", ".")) if number.count(",") + number.count(".") < 2 else 0.0):
        raise _no_dose(column, row)
    beside = column.units[row].strip() if column.units is not None else ""
    unit = molar_unit(written or beside)
    if unit is None and (written or beside):
        raise _no_dose(column, row, "" if written else f" {beside}")
    return number, unit


def _no_dose(column: DoseColumn, row: int, unit: str = "") -> DataError:
    text = column.texts[row] + unit
    mass = PER_MASS.search(text)
    hint = "convert it to micromolar" if mass else number_hint(column.texts[row])
    return DataError(
        f"{column.where(row)}: {text!r} is not a dose in micromolar",
        hint=f"{hint}; 0 is for controls, and an empty cell is an unknown dose",
    )


def _check_commas(column: DoseColumn, parts: Sequence[tuple[str, str | None] | None]) -> None:
    """Raise DataError where a comma, or a point, may mean more than one thing."""
    numbers = {row: part[0] for row, part in enumerate(parts) if part is not None}
    commas = [row for row, number in numbers.items() if "," in number]
    points = [row for row, number in numbers.items() if "." in number]
    both = [row for row in commas if "." in numbers[row] or numbers[row].count(",") > 1]
    both += [row for row in points if numbers[row].count(".") > 1]
    if both or (commas and points):
        shown = both or [commas[0], points[0]]
        cells = [f"{numbers[row]!r} ({column.places[row]})" for row in shown]
        raise DataError(
            f"column {column.name!r} has points and commas in its numbers, and their meaning is open: {listed(cells)}",
            hint="write all doses with a decimal point and without commas",
        )
    if column.semicolons and points and all(GROUPED_BY_POINTS.fullmatch(numbers[row]) for row in points):
        cells = [f"{numbers[row]!r} ({column.places[row]})" for row in points]
        raise DataError(
            f"column {column.name!r}: a point may be a decimal point or separate thousands: {listed(cells)}",
            hint="write all doses without points between thousands; decimals with another number of digits are clear",
        )
    if commas and all(GROUPED.fullmatch(numbers[row]) for row in commas):
        cells = [f"{numbers[row]!r} ({column.places[row]})" for row in commas]
        raise DataError(
            f"column {column.name!r}: a comma may be a decimal comma or separate thousands: {listed(cells)}",
            hint="write all doses with a decimal point and without commas",
        )


def _check_units(column: DoseColumn, parts: Sequence[tuple[str, str | None] | None], default: str | None) -> None:
    """Raise DataError where some cells have a unit other than micromolar, and others have no unit at all."""
    if default is not None:
        return
    units = {part[1] for part in parts if part is not None and part[1] is not None} - {"uM"}
    bare = [row for row, part in enumerate(parts) if part and part[1] is None and set(part[0]) - set("+0.,")]
    if units and bare:
        cells = [f"{column.texts[row]!r} ({column.places[row]})" for row in bare]
        raise DataError(
            f"column {column.name!r} has doses in {' and '.join(sorted(units))}, and others without a unit: "
            f"{listed(cells)}",
            hint='write the unit into every cell, or say what those without a unit are: dose_unit = "nM"',
        )


def _micromolar(part: tuple[str, str | None], default: str) -> float:
    number, unit = part
    return float(Decimal(number.replace(",", ".").lstrip("+")) * MICROMOLAR[unit or default])


@dataclass(frozen=True)
class JoinedDoses:
    """Doses of one compound that are one dose, because they differ by so little."""

    compound: str
    dose: float
    """The name of the dose, in micromolar."""
    written: tuple[float, ...]
    """The doses that the table has, from the lowest to the highest."""

    def __str__(self) -> str:
        """Return the line of a table: compound, dose, and what it was made from."""
        shown = listed([f"{dose!r}" for dose in self.written], 6)
        return f"{self.compound}: {self.dose:g} uM for {shown}"


def near_doses(compound: str, doses: Sequence[float], tolerance: float) -> list[JoinedDoses]:
    """Return the groups of doses of a compound that lie within `tolerance` (a share) of each other.

    Every two doses of a group do, so that a chain of near doses does not swallow a dilution series. The nearest doses
    are joined first. A group bears the name of its roundest dose: the fewest significant digits, then the one nearest
    to the median. With a tolerance of 0 nothing is joined.
    """
    if not tolerance:
        return []
    joined = []
    for chain in _chains(sorted({dose for dose in doses if dose > 0}), tolerance):
        for group in _complete_groups(chain, tolerance):
            name = _roundest(group)
            if len(group) > 1 or name != group[0]:
                joined.append(JoinedDoses(compound, name, tuple(group)))
    return joined


def _chains(doses: Sequence[float], tolerance: float) -> list[list[float]]:
    """Return the doses in runs whose neighbours are near; doses of different runs are never near."""
    chains: list[list[float]] = []
    for dose in doses:
        if chains and _are_near(chains[-1][-1], dose, tolerance):
            chains[-1].append(dose)
        else:
            chains.append([dose])
    return chains


def _are_near(low: float, high: float, tolerance: float) -> bool:
    return high - low <= tolerance * high * (1 + 1e-9)


def _complete_groups(chain: Sequence[float], tolerance: float) -> list[list[float]]:
    """Join neighbouring groups, those first that lie closest together, while all doses of a group are near."""
    groups = [[dose] for dose in chain]
    while len(groups) > 1:
        spreads = [above[-1] / below[0] for below, above in pairwise(groups)]
        closest = min(range(len(spreads)), key=spreads.__getitem__)
        if not _are_near(groups[closest][0], groups[closest + 1][-1], tolerance):
            break
        groups[closest : closest + 2] = [groups[closest] + groups[closest + 1]]
    return groups


def _roundest(group: Sequence[float]) -> float:
    """Return the dose with the fewest significant digits, then the nearest to the median, then the lowest."""
    centre = median(group)
    return min(map(_without_noise, group), key=lambda dose: (_digits(dose), abs(dose - centre), dose))


def _without_noise(dose: float) -> float:
    """Return 0.3 for 0.30000000000000004, and every other dose as it is."""
    clean = float(f"{dose:.{NOISE_DIGITS}g}")
    return clean if _digits(clean) <= NOISE_DIGITS - 4 and math.isclose(clean, dose, rel_tol=1e-13) else dose


def _digits(dose: float) -> int:
    return len(Decimal(repr(dose)).normalize().as_tuple().digits)
