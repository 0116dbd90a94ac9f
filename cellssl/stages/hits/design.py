"""design: a screen in; the plates whose wells can be compared, its treatments, and what its design does not allow, out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cellssl.counting import counted
from cellssl.errors import DataError, UsageError
from cellssl.stages.evaluate.external_table import controls_key
from cellssl.stages.hits.screen import Screen

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.hits.settings import Settings

NAMED = ("compound", "dose_micromolar")
"""What names a treatment."""
DESCRIBED = ("moa", "control_type")
"""What else is known of a treatment."""


@dataclass(frozen=True)
class Treatments:
    """The treatments of a screen, ordered by compound and dose."""

    table: pd.DataFrame
    """One row per treatment: compound, and dose_micromolar, moa and control_type where they are known."""
    of_well: np.ndarray
    """The row of the treatment of every well of the screen; -1 for controls, and wells without a treatment."""

    def labels(self, wells: np.ndarray) -> list[str | None]:
        """Return the treatments of some wells as labels that sort as the table does; None where there is none."""
        return [f"{number:07d}" if number >= 0 else None for number in self.of_well[wells].tolist()]


def treatments_of(wells: pd.DataFrame) -> Treatments:
    """Return the treatments of these wells; DataError where one of them has two mechanisms."""
    known = [name for name in NAMED if name in wells]
    treated = np.flatnonzero(wells["compound"].notna() & ~wells["control"].to_numpy(bool))
    groups = wells.iloc[treated].groupby(known, sort=True, dropna=False)
    of_well = np.full(len(wells), -1)
    of_well[treated] = groups.ngroup().to_numpy()
    described = [name for name in DESCRIBED if name in wells]
    table = groups[described].first().reset_index() if described else groups.size().reset_index()[known]
    if "moa" in wells and (twice := (groups["moa"].nunique() > 1)).any():
        name = twice.index[twice][0]
        raise DataError(
            f"the treatment {name} has more than one mechanism", hint="correct the column with the mechanism of action"
        )
    return Treatments(table, of_well)


def comparable(screen: Screen, settings: Settings) -> tuple[Screen, dict[str, str]]:
    """Return the screen without the cells of plates that have too few controls to be compared with, and plate -> why.

    Raises UsageError where no plate is left.
    """
    if settings.reference == "all":
        return screen, {}
    from cellssl.profiling.chain import is_per_plate

    control = screen.cells["control"].to_numpy(bool)
    rows = screen.cells["plate"][control].value_counts()
    least = 2 if is_per_plate(settings.normalise) else 1
    plates = list(dict.fromkeys(screen.wells["plate"].tolist()))
    reasons = {plate: _too_few(int(rows.get(plate, 0)), least) for plate in plates}
    left_out = {plate: reason for plate, reason in reasons.items() if reason}
    if len(left_out) == len(plates):
        raise UsageError(
            f"there is nothing to compare treated wells with: no plate has {'a control well' if least == 1 or not len(rows) else 'two controls'}",
            hint=f'name the controls in {controls_key(settings.table)}; or compare every well with all others of its plate: hits.reference = "all"',
        )
    if not left_out:
        return screen, {}
    kept = ~screen.cells["plate"].isin(list(left_out)).to_numpy(bool)
    cells, vectors = screen.cells[kept].reset_index(drop=True), screen.vectors[kept]
    return replace(screen, cells=cells, vectors=vectors), left_out


def _too_few(rows: int, least: int) -> str:
    if rows >= least:
        return ""
    return "no control well" if rows == 0 else "one control only, too few for the chain in hits.normalise"


def design_warnings(smallest: Sequence[float], alpha: float, names: tuple[str, str] = ("hits.alpha", "q-value")) -> list[str]:
    """Return what the smallest possible p-value of every treatment means for its q-value; nothing where it is small.

    `smallest` has 1 for a treatment that cannot be tested.
    """
    possible = np.array([p for p in smallest if p < 1])
    if not len(smallest):
        return []
    if not len(possible):
        return [
            "no treatment has two wells beside two control wells, so there are effects and ranks, but no q-values; "
            "replicates would give them"
        ]
    best = float(possible.min())
    cure = "more wells per treatment, or more control wells per plate, would allow smaller ones"
    if best > alpha:
        return [
            f"no treatment can have a {names[1]} below {alpha:g}: with so few wells, the smallest possible p-value is "
            f"{best:.2g}; {cure}"
        ]
    together = math.ceil(len(possible) * best / alpha)
    if together > 1:
        return [
            f"the smallest possible p-value is {best:.2g}, so a {names[1]} below {alpha:g} needs at least "
            f"{counted(together, 'treatment')} of {len(possible):,} that are as extreme at once; {cure}"
        ]
    return []
