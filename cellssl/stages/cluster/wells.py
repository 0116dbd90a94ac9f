"""wells: the drawn cells with their clusters in; wells.csv and the figure of clusters against dose out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_table, write_csv
from cellssl.engine.build import Job
from cellssl.profiling.clusterer import Clustering
from cellssl.stages.cluster import map
from cellssl.stages.shared.planned_fields import planned_fields
from cellssl.stages.shared.well_draw import rows_of_plates

if TYPE_CHECKING:
    import pandas as pd


def write_wells(
    job: Job, source: Artifact, segment: Artifact, drawn: pd.DataFrame, normal: np.ndarray, clustering: Clustering
) -> pd.DataFrame:
    """Write wells.csv, one row per well of the segment artifact, and the figure of clusters against dose."""
    from cellssl.profiling.wells import count_wells, well_table

    fields = rows_of_plates(source, planned_fields(segment))
    dropped = read_table(segment.file("dropped.parquet")) if "dropped.parquet" in segment.card.files else None
    counts = count_wells(fields, read_table(segment.file("cells.parquet")), dropped)
    table = well_table(counts, drawn, normal, clustering.assignment, len(clustering.centroids))
    write_csv(table, job.draft.file("wells.csv"))
    map.write_doses(job, table)
    return table
