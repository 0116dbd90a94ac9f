"""cluster_figures: tables of a clustering in; its map, montage and curves over the dose, drawn from them, out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.contents import section_of
from cellssl.artifacts.tables import explained, read_assignments, read_cells, read_csv, read_table
from cellssl.engine.build import Job
from cellssl.reporting import theme
from cellssl.reporting.html import Block
from cellssl.stages.cluster import map, montage
from cellssl.stages.report import figures
from cellssl.stages.report.arm_scores import ScoresByArm
from cellssl.stages.report.figure_files import write_figure
from cellssl.stages.report.hit_tables import SPELLED_FLAGS
from cellssl.stages.report.runs import Run, first_seeds
from cellssl.stages.shared.card_shapes import ClusterSection
from cellssl.stages.shared.scaled_crops import common_pixel_um

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

VECTOR_ARMS = 3
"""Number of arms whose figures are SVG and PDF too; those of an arm take a second and two megabytes."""
OF_CELLS = ("cell_id", "plate", "well", "compound", "dose_micromolar")
OF_WELLS = ("plate", "well", "control", "compound", "dose_micromolar", "n_drawn")
PLAIN_AXES = ("component 1", "component 2")
"""The axes of a map of principal components where the card, of an earlier version, has no names of axes."""


def arms_with_vectors(runs: list[Run], scores: ScoresByArm) -> list[str]:
    """Return the arms whose figures are SVG and PDF too: the leading arm, then trained ones, then baselines."""
    arms = {run.arm for run in runs}
    order = dict.fromkeys([scores.leading, *scores.trained, *scores.baselines])
    return [arm for arm in order if arm in arms][:VECTOR_ARMS]


def which_files(runs: list[Run], scores: ScoresByArm) -> str:
    """Return where the figures are, and which of them are SVG and PDF."""
    vectors = arms_with_vectors(runs, scores)
    others = len(first_seeds(runs)) - len(vectors)
    named = ", ".join(f"“{arm}”" for arm in vectors)
    which = f" (of figures of one arm, SVG and PDF for {named} only)" if others else ""
    return f"The folder figures beside this page has every figure as PNG, SVG and PDF{which}, and its numbers as CSV."


def cluster_picture(job: Job, run: Run, name: str, *, vectors: bool) -> list[Block]:
    """Draw the map, the montage or the doses of a run from the tables of its cluster artifact; nothing without these.

    They are never the pictures of the artifact, which an earlier version may have drawn in other colours.
    """
    if f"{name}.png" not in run.cluster.card.files:
        return []
    figure, drawn = FIGURES[name](job, run)
    caption = f"“{run.arm}”, seed {run.seed}: {figures.caption_of(run, f'{name}.png')}"
    alt = f"{name} of the arm {run.arm}, seed {run.seed}"
    small = theme.photo if name == "montage" else theme.drawing
    return [write_figure(job, f"{name}-{run.arm}", figure, caption, small, drawn, alt, vectors=vectors)]


def _map(job: Job, run: Run) -> tuple[Figure, pd.DataFrame]:
    table = read_table(run.cluster.file("map.parquet"))
    with explained(run.cluster.file("map.parquet")):
        axes = run.clusters.map_axes or map.AXES.get(section_of(run.cluster, ClusterSection).map, PLAIN_AXES)
        return map.map_figure(table, axes), table


def _montage(job: Job, run: Run) -> tuple[Figure, pd.DataFrame]:
    path = run.cluster.file("nearest.csv")
    assigned = read_assignments(run.cluster)
    if "drawn" in assigned:
        assigned = assigned[assigned["drawn"]]
    with explained(path):
        nearest = read_csv(path, ("cluster",))
        clusters = nearest["cluster"].to_numpy(int)
        sizes = np.bincount(assigned["cluster"][assigned["cluster"] >= 0], minlength=int(clusters.max()) + 1).tolist()
    known = read_cells(run.segment)
    pixel_um = common_pixel_um(known[known["cell_id"].isin(assigned["cell_id"])])
    crops = montage.crops_of(run.segment, run.embed, job.context.store, nearest[["cell_id"]])
    figure = montage.montage_figure(crops, clusters, sizes, len(assigned), pixel_um)
    columns = [name for name in OF_CELLS if name in known]
    return figure, nearest.merge(known[columns], on="cell_id", how="left")


def _doses(job: Job, run: Run) -> tuple[Figure, pd.DataFrame]:
    wells = wells_by_dose(run)
    kept = [name for name in wells.columns.astype(str) if name in OF_WELLS or name.startswith(map.SHARE_OF)]
    return map.doses_figure(wells), wells[kept]


def wells_by_dose(run: Run) -> pd.DataFrame:
    """Return the control wells, and those of compounds with several doses, from wells.csv of a clustering."""
    path = run.cluster.file("wells.csv")
    with explained(path):
        shares = [name for name in read_csv(path).columns if name.startswith(map.SHARE_OF)]
        wells = read_csv(path, ("dose_micromolar", "n_drawn", *shares))
        return map.wells_with_doses(wells.assign(control=[SPELLED_FLAGS[text] for text in wells["control"]]))


FIGURES: dict[str, Callable[[Job, Run], tuple[Figure, pd.DataFrame]]] = {
    "map": _map,
    "montage": _montage,
    "doses": _doses,
}
"""Figure of a cluster artifact -> what draws it again from the tables beside it."""
