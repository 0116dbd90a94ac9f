"""cluster_doses: a run in; the figure of the shares of its clusters against dose, of the compounds that matter, out."""

from __future__ import annotations

from cellssl.engine.build import Job
from cellssl.reporting import theme
from cellssl.reporting.figures.dose_response import most_changed_compounds
from cellssl.reporting.html import Block
from cellssl.stages.cluster import map
from cellssl.stages.report import figures
from cellssl.stages.report.cluster_figures import cluster_picture, wells_by_dose
from cellssl.stages.report.figure_files import write_figure
from cellssl.stages.report.runs import Run

COMPOUNDS_SHOWN = 6
"""Number of compounds whose panels stand on the page; more would fill a printed page."""
DOSES = "doses.png"


def few_doses(job: Job, run: Run, *, vectors: bool) -> tuple[list[Block], list[Block]]:
    """Return the figure for the page, and, where it has not all compounds, the whole one for the appendix."""
    whole = cluster_picture(job, run, "doses", vectors=vectors)
    if not whole or run.clusters.wells is None:  # an earlier version, whose wells.csv has other columns
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
