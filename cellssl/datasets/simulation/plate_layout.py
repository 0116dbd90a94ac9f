"""plate_layout: the treatments of one plate in -> which well holds which, in order or at random positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellssl.letters import letters_of

Treatment = tuple[str, float]
"""A compound and its dose in micromolar."""
SIZES = {96: (8, 12), 384: (16, 24)}
"""Wells of a plate -> its rows and columns."""


def at_random(treatments: Sequence[Treatment], plate_wells: int, rng: np.random.Generator) -> dict[str, Treatment]:
    """Return well -> treatment, every treatment in one well, drawn from all wells of the plate."""
    wells = all_wells(plate_wells)
    chosen = rng.permutation(len(wells))[: len(treatments)]
    return {wells[place]: treatment for place, treatment in zip(chosen, treatments, strict=True)}


def all_wells(plate_wells: int) -> list[str]:
    """Return the names of all wells, row by row."""
    rows, columns = SIZES[plate_wells]
    return [f"{letters_of(row)}{column:02d}" for row in range(1, rows + 1) for column in range(1, columns + 1)]


def is_outer(well: str, plate_wells: int) -> bool:
    """Return whether a well lies in the first or last row or column of its plate."""
    rows, columns = SIZES[plate_wells]
    return well[0] in ("A", letters_of(rows)) or int(well[1:]) in (1, columns)
