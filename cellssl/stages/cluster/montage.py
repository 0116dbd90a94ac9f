"""montage: drawn cells and centroids in, a figure and a list of the cells nearest to each centroid out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_cells, write_csv
from cellssl.engine.build import Job
from cellssl.errors import DataError
from cellssl.profiling.clusterer import Clustering
from cellssl.stages.shared.scaled_crops import ScaledCrops, common_pixel_um, scaled_crops

if TYPE_CHECKING:
    import pandas as pd


def write_montage(job: Job, segment: Artifact, drawn: pd.DataFrame, normal: np.ndarray, clustering: Clustering) -> None:
    """Write montage.png and nearest.csv, the cells of the even draw that are nearest to each centroid."""
    import pandas as pd

    from cellssl.profiling.kmeans import nearest_to_centroids
    from cellssl.reporting import theme

    rows = nearest_to_centroids(normal, clustering, job.settings.montage_cells)
    chosen = pd.DataFrame(
        [(cluster, drawn["cell_id"].iloc[row]) for cluster, members in enumerate(rows) for row in members],
        columns=["cluster", "cell_id"],
    )
    write_csv(chosen, job.draft.file("nearest.csv"))
    if chosen.empty:
        return
    sizes = [int((clustering.assignment == cluster).sum()) for cluster in range(len(rows))]
    crops = crops_of(segment, job.inputs["embed"], job.context.store, chosen)
    figure = montage_figure(crops, chosen["cluster"].to_numpy(int), sizes, len(drawn), common_pixel_um(drawn))
    job.draft.file("montage.png").write_bytes(theme.png(figure))


def montage_figure(
    crops: ScaledCrops, clusters: np.ndarray, sizes: Sequence[int], drawn: int, pixel_um: float | None
) -> Any:
    """Return the figure of some cells in their clusters; `sizes` are the drawn cells of every cluster."""
    from cellssl.imaging.colour import named_colours, to_rgb
    from cellssl.reporting.figures.cells import montage

    tiles = to_rgb(crops.read(np.arange(len(crops))), named_colours(crops.channels))
    groups = {
        f"cluster {cluster}: {size:,} of {drawn:,} drawn cells": tiles[clusters == cluster]
        for cluster, size in enumerate(sizes)
    }
    return montage(groups, pixel_um)


def crops_of(segment: Artifact, embed: Artifact, store: Store, chosen: pd.DataFrame) -> ScaledCrops:
    """Return the scaled crops of the chosen cells; raise DataError where the segment artifact lacks one."""
    cells = chosen.merge(read_cells(segment), on="cell_id", how="left", validate="one_to_one")
    if cells["crop_row"].isna().any():
        raise DataError(
            f"{segment.path} lacks cells that {embed.path} has",
            hint="make both again: cellssl run RECIPE --force",
        )
    return scaled_crops(segment, store.with_store_of(embed), cells)
