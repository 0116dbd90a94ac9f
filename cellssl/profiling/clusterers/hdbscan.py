"""hdbscan: embeddings -> clusters of any shape in dense regions, and noise between them, by scikit-learn."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from cellssl.errors import DataError, UsageError
from cellssl.profiling.clusterer import NOISE, ClustererSettings, Clustering

MOST_CELLS = 20_000
"""The time grows with the square of the number of cells: 20,000 cells of 512 dimensions take about eight minutes."""


class Settings(ClustererSettings):
    """HDBSCAN (Campello et al. 2015, doi:10.1145/2733381); it finds the number of clusters itself. Cells outside all
    clusters are noise and have the cluster number -1. In hundreds of dimensions there are no dense regions:
    cluster.normalise = "pca" helps."""

    RENAMED: ClassVar[Mapping[str, str]] = {"min_cluster_cells": "min_cluster_size", "neighbours": "min_samples"}
    takes_k: ClassVar[bool] = False
    takes_seed: ClassVar[bool] = False

    min_cluster_size: int = Field(50, ge=2)
    """Number of cells that the smallest cluster may have."""
    min_samples: int | None = Field(None, ge=1)
    """Number of neighbours that define the density around a cell. If it is not set, min_cluster_size is used."""

    def fit(self, x: Float[np.ndarray, "n d"], k: int, n_init: int, seed: int) -> Clustering:
        """Return the clusters; `k`, `n_init` and `seed` are ignored."""
        from sklearn.cluster import HDBSCAN

        from cellssl.profiling import kmeans
        from cellssl.profiling.finite import check_embeddings

        check_embeddings(x)
        if len(x) > MOST_CELLS:
            raise UsageError(
                f"hdbscan compares every pair of cells, so it takes at most {MOST_CELLS:,} cells; there are {len(x):,}",
                hint='set cluster.method = "kmeans", or use fewer cells with split.cells_per_class or cluster.part',
            )
        size = min(self.min_cluster_size, len(x))
        min_samples = None if self.min_samples is None else min(self.min_samples, len(x))
        found = HDBSCAN(min_cluster_size=size, min_samples=min_samples or size, copy=True).fit_predict(x)
        if (found == NOISE).all():
            raise DataError(
                f"hdbscan found no cluster of at least {size} cells among {len(x):,} cells",
                hint='lower cluster.method.min_cluster_size, or set cluster.normalise = "pca"',
            )
        return kmeans.renumber_by_size(x, found)
