"""cluster_doses: a run in; the figure of the shares of its clusters against dose, of the compounds that matter, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellssl.artifacts.tables import explained, read_csv
from cellssl.engine.build import Job
from cellssl.reporting import theme
from cellssl.reporting.figures.dose_response import most_changed_compounds
from cellssl.reporting.html import Block
from cellssl.stages.cluster import map
from cellssl.stages.report import figures
from cellssl.stages.report.figure_files import write_figure
from cellssl.stages.report.hit_tables import SPELLED_FLAGS
from cellssl.stages.report.runs import Run

if TYPE_CHECKING:
    import pandas as pd

COMPOUNDS_SHOWN = 6
"""Number of compounds whose panels stand on the page; more would fill a printed page."""
DOSES = "doses.png"


def few_doses(job: Job, run: Run) -> tuple[list[Block], list[Block]]:
    """Return the figure for the page, and, where it has not all compounds, the whole one for the appendix."""
    if DOSES not in run.cluster.card.files:
        return [], []
    whole: list[Block] = [figures.of_cluster(run, DOSES)]
    if run.clusters.wells is None:  # an earlier version, whose wells.csv has other columns
        return whole, []
    wells = wells_by_dose(run)
    shares = wells[[name for name in wells.columns if name.startswith(map.SHARE_OF)]].to_numpy(float)
    control, dose = wells["control"].to_numpy(bool), wells["dose_micromolar"].to_numpy(float)
    order = most_changed_compounds(dose, shares, wells["compound"], control)
    if len(order) <= COMPOUNDS_SHOWN:
        return whole, []
    shown = wells[control | wells["compound"].isin(order[:COMPOUNDS_SHOWN]).to_numpy(bool)]
    which = f" The {COMPOUNDS_SHOWN} of {len(order)} compounds whose shares change most; the appendix has all."
    caption = f"“{run.arm}”: {figures.caption_of(run, DOSES)}{which}"
    return [write_figure(job, "doses-most-changed.png", map.doses_figure(shown), caption, theme.drawing, shown)], whole


def wells_by_dose(run: Run) -> pd.DataFrame:
    """Return the control wells, and those of compounds with several doses, from wells.csv of a clustering."""
    path = run.cluster.file("wells.csv")
    with explained(path):
        shares = [name for name in read_csv(path).columns if name.startswith(map.SHARE_OF)]
        wells = read_csv(path, ("dose_micromolar", "n_drawn", *shares))
        return map.wells_with_doses(wells.assign(control=[SPELLED_FLAGS[text] for text in wells["control"]]))
