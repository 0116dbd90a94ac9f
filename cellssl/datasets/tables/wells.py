"""wells: the names of wells and plates as tables write them in, one name per well and plate out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from cellssl.letters import letters_of, number_of

MOST_ROWS, MOST_COLUMNS = 32, 48
"""Rows and columns of the largest plates, those of 1,536 wells: A01 to AF48."""
LETTERS = re.compile(r"(?:WELL)?[\s_:.-]*([A-Z]{1,2})[\s_:.,-]*0*(\d{1,2})")
NUMBERS = re.compile(r"R[\s_]*0*(\d{1,2})[\s_:.,-]*C[\s_]*0*(\d{1,2})")
WHOLE = re.compile(r"0*(\d{1,2})(?:\.0+)?")
FLOAT = re.compile(r"(\d+)\.0+")


def canonical_well(name: str) -> str | None:
    """Return `A01` for `A1`, `a01`, `A-01`, `A 01`, `A:1` and `R01C01`; None where the name is not that of a well."""
    text = unicodedata.normalize("NFKC", name).strip().upper()
    if found := LETTERS.fullmatch(text):
        return _well(row_number(found.group(1)), int(found.group(2)))
    if found := NUMBERS.fullmatch(text):
        return _well(int(found.group(1)), int(found.group(2)))
    return None


def well_of(row: str, column: str) -> str | None:
    """Return the well in a row, given by its letter or its number from 1, and a column; None where there is none."""
    number = WHOLE.fullmatch(column.strip())
    return _well(row_number(row), int(number.group(1))) if number else None


def row_number(row: str) -> int | None:
    """Return 2 for `B`, `b` or `2`; None where it is no row of a plate."""
    text = unicodedata.normalize("NFKC", row).strip().upper()
    if number := WHOLE.fullmatch(text):
        return int(number.group(1))
    if not re.fullmatch(r"[A-Z]{1,2}", text):
        return None
    found = number_of(text)
    return found if found <= MOST_ROWS else None


def unified_wells(names: Sequence[str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the wells, and the groups of names that are one well.

    Where the table writes a well in more than one way, all wells are named like `A01`. Where it does not, they keep
    their names, because other tables of the user have the same names. Names that are no wells always stay.
    """
    forms = {name: canonical_well(name) for name in dict.fromkeys(names)}
    groups = _groups(forms)
    if not groups:
        return list(names), []
    return [forms[name] or name for name in names], groups


def unified_plates(names: Sequence[str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """Return the plates, and the groups of names that are one plate: `27801.0` beside `27801`."""
    forms: dict[str, str | None] = {name: plate_key(name) for name in dict.fromkeys(names)}
    groups = _groups(forms)
    numbers = {name: min(group, key=len) for group in groups for name in group}
    return [numbers.get(name, name) for name in names], groups


def plate_key(name: str) -> str:
    """Return the name of a plate without the `.0` that a spreadsheet or pandas adds to a number."""
    return FLOAT.sub(r"\1", name) if FLOAT.fullmatch(name) else name


def _groups(forms: dict[str, str | None]) -> list[tuple[str, ...]]:
    """Return the names that share a form, where there are more than one."""
    by_form: dict[str, list[str]] = {}
    for name, form in forms.items():
        if form is not None:
            by_form.setdefault(form, []).append(name)
    return [tuple(sorted(group)) for _, group in sorted(by_form.items()) if len(group) > 1]


def _well(row: int | None, column: int) -> str | None:
    if row is None or not 1 <= row <= MOST_ROWS or not 1 <= column <= MOST_COLUMNS:
        return None
    return f"{letters_of(row)}{column:02d}"


def listed(names: Iterable[str], most: int = 10) -> str:
    """Return the first names as text, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
