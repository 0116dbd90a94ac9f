"""hdbscan: clusters of any shape where cells lie densely, and noise between them, by scikit-learn."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from cellssl.errors import DataError, UsageError
from cellssl.profiling.clusterer import NOISE, ClustererSettings, Clustering

MOST_CELLS = 20_000
"""Its time grows with their square: at 512 dimensions these take some eight minutes."""


class Settings(ClustererSettings):
    """HDBSCAN (Campello et al. 2015, doi:10.1145/2733381); it finds the number of clusters, and cells of none, which
    have the number -1. In hundreds of dimensions nothing lies densely: cluster.normalise = "pca_whiten" helps."""

    RENAMED: ClassVar[Mapping[str, str]] = {"min_cluster_cells": "min_cluster_size", "neighbours": "min_samples"}
    takes_k: ClassVar[bool] = False
    takes_seed: ClassVar[bool] = False

    min_cluster_size: int = Field(50, ge=2)
    """Cells of the smallest cluster."""
    min_samples: int | None = Field(None, ge=1)
    """Neighbours that decide how densely a cell lies; as many as min_cluster_size where nothing is given."""

    def fit(self, x: Float[np.ndarray, "n d"], k: int, n_init: int, seed: int) -> Clustering:
        """`k`, `n_init` and `seed` say nothing to it."""
        from sklearn.cluster import HDBSCAN

        from cellssl.profiling import kmeans
        from cellssl.profiling.normalise import check_embeddings

        check_embeddings(x)
        if len(x) > MOST_CELLS:
            raise UsageError(
                f"hdbscan would compare each of {len(x):,} cells with every other; it is for {MOST_CELLS:,} at most",
                hint='choose cluster.method = "kmeans", or fewer cells with split.cells_per_class or cluster.part',
            )
        size = min(self.min_cluster_size, len(x))
        min_samples = None if self.min_samples is None else min(self.min_samples, len(x))
        found = HDBSCAN(min_cluster_size=size, min_samples=min_samples or size, copy=True).fit_predict(x)
        if (found == NOISE).all():
            raise DataError(
                f"hdbscan found no cluster of {size} cells or more among {len(x):,}",
                hint='lower cluster.method.min_cluster_size, or set cluster.normalise = "pca_whiten"',
            )
        return kmeans.numbered(x, found)
