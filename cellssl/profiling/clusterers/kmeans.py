"""kmeans: embeddings -> clusters whose cells lie nearest their means (Lloyd 1982, doi:10.1109/TIT.1982.1056489)."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from cellssl.profiling.clusterer import ClustererSettings, Clustering


class Settings(ClustererSettings):
    """K-Means; for round clusters of about equal spread. Above 100,000 cells it works in batches (MiniBatchKMeans)."""

    def fit(self, x: Float[np.ndarray, "n d"], k: int, n_init: int, seed: int) -> Clustering:
        """Return the best of `n_init` runs with different starting centroids."""
        from cellssl.profiling import kmeans

        return kmeans.fit(x, k, n_init=n_init, seed=seed)

    def assign(self, x: Float[np.ndarray, "n d"], arrays: Mapping[str, np.ndarray]) -> Int[np.ndarray, "n"]:
        """Return the nearest centroid of every cell."""
        from cellssl.profiling import kmeans

        return kmeans.assign(x, arrays["centroids"])
