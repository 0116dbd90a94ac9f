"""design: a screen in; its treatments, and the plates that can be compared, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cellssl.errors import DataError, UsageError
from cellssl.stages.hits.screen import SECTION, Screen
from cellssl.stages.shared.external_table import controls_key

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

    @cached_property
    def names(self) -> list[str]:
        """One name per treatment, such as `taxol 0.3`, by which results refer to it."""
        doses = self.table["dose_micromolar"] if "dose_micromolar" in self.table else [np.nan] * len(self.table)
        return [treatment_name(*each) for each in zip(self.table["compound"], doses, strict=True)]

    @cached_property
    def rows(self) -> dict[str, int]:
        """Name -> row of the table."""
        return {name: row for row, name in enumerate(self.names)}

    def labels(self, wells: np.ndarray) -> list[str | None]:
        """Return the name of the treatment of some wells; None where there is none."""
        return [self.names[number] if number >= 0 else None for number in self.of_well[wells].tolist()]

    def in_order(self, names: Sequence[str], values: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return values of named treatments in the order of the table; NaN for those that are not named."""
        found = np.full(len(self.table), np.nan)
        found[[self.rows[name] for name in names]] = values
        return found


def treatment_name(compound: str, dose_micromolar: float) -> str:
    """Return the name of a treatment: its compound, and its dose where it is known."""
    return str(compound) if np.isnan(dose_micromolar) else f"{compound} {float(dose_micromolar):.15g}"


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
        first = table.iloc[int(twice.to_numpy().argmax())]
        named = treatment_name(first["compound"], first.get("dose_micromolar", np.nan))
        mechanisms = groups["moa"].unique()[twice].iloc[0]
        raise DataError(
            f"the treatment {named} has more than one mechanism: {', '.join(map(str, mechanisms[:3]))}",
            hint="correct the column with the mechanism of action",
        )
    found = Treatments(table, of_well)
    if len(found.rows) < len(table):
        name = next(name for name in found.names if found.names.count(name) > 1)
        raise DataError(
            f"two treatments are called {name!r}: one by its compound, one by compound and dose",
            hint="rename the compound, or give its dose",
        )
    return found


def with_enough_cells(screen: Screen, min_cells: int) -> Screen:
    """Return the screen without the cells of wells that have fewer; raise UsageError where no well is left."""
    if not screen.rows_are_cells or min_cells == 1:
        return screen
    cells = screen.cells
    kept = (cells.groupby(["plate", "well"], sort=False)["well"].transform("size") >= min_cells).to_numpy(bool)
    if not kept.any():
        raise UsageError(f"no well has {min_cells} cells", hint="lower hits.min_cells, or find more cells")
    return screen if kept.all() else _of_cells(screen, kept)


def _of_cells(screen: Screen, kept: np.ndarray) -> Screen:
    return replace(screen, cells=screen.cells[kept].reset_index(drop=True), vectors=screen.vectors[kept])


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
        needed = "two controls" if least == 2 and len(rows) else "a control well"
        raise UsageError(
            f"there is nothing to compare treated wells with: no plate has {needed}",
            hint=f"name the controls in {controls_key(settings.table, SECTION)}; or compare every well with all others "
            'of its plate: hits.reference = "all"',
        )
    if not left_out:
        return screen, {}
    return _of_cells(screen, ~screen.cells["plate"].isin(list(left_out)).to_numpy(bool)), left_out


def _too_few(rows: int, least: int) -> str:
    if rows >= least:
        return ""
    return "no control well" if rows == 0 else "one control only, too few for the chain in hits.normalise"
