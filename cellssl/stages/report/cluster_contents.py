"""cluster_contents: a run in; for every cluster its cells, and the treatments and wells it holds most of, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cellssl.artifacts.tables import read_assignments, read_cells, read_split
from cellssl.reporting.natural_sort import natural_key
from cellssl.stages.report.hit_tables import names_of
from cellssl.stages.report.runs import Run, has_treatments
from cellssl.stages.shared.cell_tables import check_cells_known

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Groups = Literal["treatments", "classes", ""]
GROUPS_SHOWN = 3
"""Number of treatments, and of wells, that the row of a cluster names."""


@dataclass(frozen=True)
class Held:
    """A treatment, class or well of which a cluster holds more cells than chance would give."""

    name: str
    cells: int
    """Cells of it in the cluster."""
    of: int
    """Cells of it in all clusters."""
    enrichment: float
    """How many times as many cells as expected: (cells / of) / (cells of the cluster / all cells)."""


@dataclass(frozen=True)
class Content:
    """What one cluster holds."""

    number: int
    """NOISE for the cells that belong to no cluster."""
    cells: int
    controls: int
    groups: tuple[Held, ...]
    """The treatments, or else classes, of which it holds most."""
    wells: tuple[Held, ...]


@dataclass(frozen=True)
class Contents:
    """What all clusters of a run hold."""

    cells: int
    controls: int
    which: str
    """Which cells these are, as captions say it."""
    groups_are: Groups
    clusters: tuple[Content, ...]
    """In the order of their numbers, noise last."""


def contents_of(run: Run) -> Contents:
    """Return what the clusters of a run hold: of the cells drawn from every well, where there are treatments."""
    cells, which = _cells(run)
    if has_treatments(run):
        return described(cells.assign(group=names_of(_with_treatment(cells))), which, "treatments")
    if "label" in cells and cells["label"].notna().any():
        return described(cells.assign(group=cells["label"]), which, "classes")
    return described(cells, which, "")


def described(cells: pd.DataFrame, which: str, groups_are: Groups) -> Contents:
    """Return what clusters hold, from one row per cell with cluster, plate, well, control, and group if there is one.

    Wells are named where there are treatments: those of other images say nothing.
    """
    numbers = sorted(cells["cluster"].unique().tolist(), key=lambda number: (number < 0, number))
    found = tuple(_content(cells, number, are_wells=groups_are == "treatments") for number in numbers)
    return Contents(len(cells), int(cells["control"].sum()), which, groups_are, found)


def _cells(run: Run) -> tuple[pd.DataFrame, str]:
    """Return cluster, plate, well and content of the cells that the rows describe, and which these are.

    Clusters may be fitted on the cells of test alone, and then say little about the wells; the draw has all wells.
    """
    assigned = read_assignments(run.cluster)
    which = "cells"
    chosen = "drawn" if has_treatments(run) else "scored"
    if chosen in assigned and assigned[chosen].any():
        assigned = assigned[assigned[chosen]]
        which = "cells drawn evenly from the wells" if chosen == "drawn" else "clustered cells"
    known = read_cells(run.segment)
    check_cells_known(assigned["cell_id"], known["cell_id"], run.cluster, run.segment)
    wanted = ("cell_id", "plate", "well", "control", "compound", "dose_micromolar")
    known = known[[name for name in wanted if name in known]]
    if run.split is not None:
        known = known.merge(read_split(run.split)[["cell_id", "label"]], on="cell_id", how="left")
    return assigned[["cell_id", "cluster"]].merge(known, on="cell_id", how="left", validate="one_to_one"), which


def _with_treatment(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells with a compound and a dose; that of a solvent is 0, and left out of its name."""
    cells = cells.assign(**{name: None for name in ("compound", "dose_micromolar") if name not in cells})
    return cells.assign(dose_micromolar=cells["dose_micromolar"].where(cells["dose_micromolar"] != 0))


def _content(cells: pd.DataFrame, number: int, *, are_wells: bool) -> Content:
    inside = (cells["cluster"] == number).to_numpy(bool)
    groups = _held(cells["group"], inside) if "group" in cells else ()
    wells = _held(_well_names(cells), inside) if are_wells else ()
    return Content(number, int(inside.sum()), int(cells["control"].to_numpy(bool)[inside].sum()), groups, wells)


def _well_names(cells: pd.DataFrame) -> pd.Series[str]:
    """Return the well of every cell, with its plate where there are several."""
    wells = cells["well"].astype(str)
    return wells if cells["plate"].nunique() == 1 else cells["plate"].astype(str) + " " + wells


def _held(values: pd.Series[str], inside: np.ndarray) -> tuple[Held, ...]:
    """Return the values of which the cluster holds most beyond what is expected, those with most such cells first."""
    of, here = values.value_counts().to_dict(), values.loc[inside].value_counts().to_dict()
    share = sum(here.values()) / max(1, sum(of.values()))
    found = [Held(str(name), n, of[name], n / of[name] / share) for name, n in here.items()]
    most = sorted(found, key=lambda held: (share * held.of - held.cells, natural_key(held.name)))
    return tuple(held for held in most[:GROUPS_SHOWN] if held.enrichment > 1)
