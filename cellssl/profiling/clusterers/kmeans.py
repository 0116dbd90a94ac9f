"""kmeans: the clusters whose cells lie nearest their means (Lloyd 1982, doi:10.1109/TIT.1982.1056489)."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from cellssl.profiling.clusterer import ClustererSettings, Clustering


class Settings(ClustererSettings):
    """K-Means; round clusters of about equal spread. In batches above 100,000 cells."""

    def fit(self, x: Float[np.ndarray, "n d"], k: int, n_init: int, seed: int) -> Clustering:
        """The best of several n_init."""
        from cellssl.profiling import kmeans

        return kmeans.fit(x, k, n_init=n_init, seed=seed)

    def assign(self, x: Float[np.ndarray, "n d"], arrays: Mapping[str, np.ndarray]) -> Int[np.ndarray, "n"]:
        """The nearest centroid."""
        from cellssl.profiling import kmeans

        return kmeans.assign(x, arrays["centroids"])
