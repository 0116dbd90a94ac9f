"""montage: cells and centroids in, a figure and a list of the cells nearest to each centroid out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.contents import input_of
from cellssl.artifacts.tables import read_cells, write_csv
from cellssl.engine.build import Job
from cellssl.errors import DataError
from cellssl.profiling.clusterer import Clustering
from cellssl.stages.shared.card_shapes import embed_section
from cellssl.stages.shared.scaled_crops import common_pixel_um, scaled_crops, upstream_segment

if TYPE_CHECKING:
    import pandas as pd


def write_montage(job: Job, cells: pd.DataFrame, normal: np.ndarray, clustering: Clustering) -> None:
    """Write montage.png and nearest.csv, the cells nearest to each centroid."""
    import pandas as pd

    from cellssl.imaging.colour import named_colours, to_rgb
    from cellssl.profiling.kmeans import nearest_to_centroids
    from cellssl.reporting import theme
    from cellssl.reporting.figures.cells import montage

    rows = nearest_to_centroids(normal, clustering, job.settings.montage_cells)
    chosen = pd.DataFrame(
        [(cluster, cells["cell_id"].iloc[row]) for cluster, members in enumerate(rows) for row in members],
        columns=["cluster", "cell_id"],
    )
    write_csv(chosen, job.draft.file("nearest.csv"))
    crops = _crops_of(job, chosen)
    tiles = to_rgb(crops.read(np.arange(len(crops))), named_colours(crops.channels))
    groups = {
        f"cluster {cluster}: {int((clustering.assignment == cluster).sum()):,} cells": tiles[
            chosen["cluster"] == cluster
        ]
        for cluster in range(len(rows))
    }
    figure = montage(groups, common_pixel_um(cells))
    job.draft.file("montage.png").write_bytes(theme.png(figure))


def _crops_of(job: Job, chosen: pd.DataFrame) -> Any:
    """Return the scaled crops of the chosen cells; raise DataError where the segment artifact lacks one."""
    embed = job.inputs["embed"]
    store = job.context.store.with_store_of(embed)
    kind = embed_section(embed).cells
    segment = upstream_segment(store.get(kind, input_of(embed, kind)), store)
    cells = chosen.merge(read_cells(segment), on="cell_id", how="left", validate="one_to_one")
    if cells["crop_row"].isna().any():
        raise DataError(
            f"{segment.path} lacks cells that {embed.path} has", hint="make both again: cellssl run RECIPE --force"
        )
    return scaled_crops(segment, store, cells)
