"""well_positions: names of wells -> row and column of each, the format of the plate, and which lie at its edge."""

import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from cellssl.letters import number_of
from cellssl.profiling.labels import Labels

FORMATS = {6: (2, 3), 12: (3, 4), 24: (4, 6), 48: (6, 8), 96: (8, 12), 384: (16, 24), 1536: (32, 48)}
"""Number of wells -> rows and columns of the plate."""
LETTERS = re.compile(r"(?:WELL)?[\s_:.-]*([A-Z]{1,2})[\s_:.,-]*(\d{1,3})")
NUMBERS = re.compile(r"R[\s_]*(\d{1,3})[\s_:.,-]*C[\s_]*(\d{1,3})")
DIGITS = re.compile(r"(\d{3})(\d{3})")
PAIR = re.compile(r"\(?\s*(\d{1,3})\s*[,;:_-]\s*(\d{1,3})\s*\)?")


@dataclass(frozen=True)
class WellPositions:
    """Where wells lie on their plates; NaN, or False, where the name of a well says no position."""

    row: Float[np.ndarray, "n"]
    """From 1, for A."""
    column: Float[np.ndarray, "n"]
    """From 1."""
    edge: Bool[np.ndarray, "n"]
    """Whether the well is in the first or last row or column of a plate of this format."""
    plate_wells: int | None
    """Number of wells of a plate; None where no well has a position."""

    @property
    def known(self) -> Bool[np.ndarray, "n"]:
        """Return which wells have a position."""
        found: np.ndarray = ~np.isnan(self.row)
        return found


def well_positions(wells: Labels) -> WellPositions:
    """Return the position of every well; all plates have the smallest common format that has all wells.

    The 60 inner wells of a plate of 96 reach row G and column 11, and so count as wells of a plate of 96. Where only a
    corner of the plates is used, they look like smaller ones.
    """
    found = [_position(name) or (np.nan, np.nan) for name in wells]
    row, column = np.array(found, float).reshape(-1, 2).T
    known = ~np.isnan(row)
    if not known.any():
        return WellPositions(row, column, np.zeros(len(row), bool), None)
    plate_wells = plate_format(int(row[known].max()), int(column[known].max()))
    last_row, last_column = FORMATS[plate_wells]
    edge = np.isin(row, (1, last_row)) | np.isin(column, (1, last_column))
    return WellPositions(row, column, edge, plate_wells)


def well_position(name: str) -> tuple[int, int] | None:
    """Return row and column, from 1, of `B02`, `b2`, `AA12`, `R02C03`, `002003` or `2,3`; None where there is none."""
    text = name.strip().upper()
    if found := NUMBERS.fullmatch(text) or DIGITS.fullmatch(text) or PAIR.fullmatch(text):
        return _on_a_plate(int(found.group(1)), int(found.group(2)))
    if found := LETTERS.fullmatch(text):
        return _on_a_plate(number_of(found.group(1)), int(found.group(2)))
    return None


def plate_format(rows: int, columns: int) -> int:
    """Return the number of wells of the smallest common plate with so many rows and columns."""
    return next(wells for wells, (most, longest) in FORMATS.items() if rows <= most and columns <= longest)


def _position(name: object) -> tuple[int, int] | None:
    return well_position(name) if isinstance(name, str) else None


def _on_a_plate(row: int, column: int) -> tuple[int, int] | None:
    most_rows, most_columns = FORMATS[1536]
    return (row, column) if 1 <= row <= most_rows and 1 <= column <= most_columns else None
