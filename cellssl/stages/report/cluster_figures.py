"""cluster_figures: the figures of cluster artifacts in; the same beside the page, with SVG, PDF and CSV files, out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.contents import section_of
from cellssl.artifacts.tables import explained, read_assignments, read_cells, read_csv, read_table
from cellssl.engine.build import Job
from cellssl.stages.cluster import map, montage
from cellssl.stages.report.figure_files import write_stored
from cellssl.stages.report.hit_tables import SPELLED_FLAGS
from cellssl.stages.report.runs import Run, first_seeds
from cellssl.stages.shared.card_shapes import ClusterSection
from cellssl.stages.shared.scaled_crops import common_pixel_um

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ARMS_DRAWN = 12
"""Number of arms whose figures are beside the page; each takes a second and two megabytes."""
OF_CELLS = ("cell_id", "plate", "well", "compound", "dose_micromolar")
OF_WELLS = ("plate", "well", "control", "compound", "dose_micromolar", "n_drawn")
PLAIN_AXES = ("component 1", "component 2")
"""The axes of a map of principal components; map.parquet does not have the share of variance that map.png states."""


def write_cluster_figures(job: Job, runs: list[Run]) -> None:
    """Write the map, the montage and the curves over the dose of the first seed of the first arms."""
    for run in first_seeds(runs)[:ARMS_DRAWN]:
        for name, draw in FIGURES.items():
            if f"{name}.png" in run.cluster.card.files:
                figure, drawn = draw(job, run)
                write_stored(job, f"{name}-{run.arm}", run.cluster.file(f"{name}.png").read_bytes(), figure, drawn)


def _map(job: Job, run: Run) -> tuple[Figure, pd.DataFrame]:
    table = read_table(run.cluster.file("map.parquet"))
    with explained(run.cluster.file("map.parquet")):
        axes = map.AXES.get(section_of(run.cluster, ClusterSection).map, PLAIN_AXES)
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
    path = run.cluster.file("wells.csv")
    with explained(path):
        heads = read_csv(path).columns
        shares = [name for name in heads if name.startswith(map.SHARE_OF)]
        wells = read_csv(path, ("dose_micromolar", "n_drawn", *shares))
        wells = map.wells_with_doses(wells.assign(control=[SPELLED_FLAGS[text] for text in wells["control"]]))
        kept = [
            name for name in ("plate", "well", "control", "compound", "dose_micromolar", "n_drawn") if name in wells
        ]
        return map.doses_figure(wells), wells[[*kept, *shares]]


FIGURES: dict[str, Callable[[Job, Run], tuple[Figure, pd.DataFrame]]] = {
    "map": _map,
    "montage": _montage,
    "doses": _doses,
}
"""Figure of a cluster artifact -> what draws it again from the tables beside it."""
