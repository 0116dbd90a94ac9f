"""gmm: embeddings -> clusters by a mixture of normal distributions, each with its own mean, spread and weight."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from cellssl.errors import DataError
from cellssl.profiling.clusterer import ClustererSettings, Clustering

if TYPE_CHECKING:
    from sklearn.mixture import GaussianMixture

FITTED_CELLS = 100_000
"""The mixture is fitted on at most this number of cells, drawn at random; all cells are assigned."""


class Settings(ClustererSettings):
    """Gaussian mixture model; clusters may differ in spread and weight. Each cell goes to its most likely component."""

    RENAMED: ClassVar[Mapping[str, str]] = {"covariance": "covariance_type"}
    covariance_type: Literal["full", "tied", "diag", "spherical"] = Field("diag")
    """Shape of the components: `full`, each has any covariance; `tied`, all share one covariance; `diag`, each is
    stretched along the axes only; `spherical`, each is round. `full` needs few dimensions (cluster.normalise =
    "pca") and many more cells than dimensions."""

    def fit(self, x: Float[np.ndarray, "n d"], k: int, n_init: int, seed: int) -> Clustering:
        """Return the most likely of `n_init` mixtures, each initialised by K-Means."""
        from sklearn.mixture import GaussianMixture

        from cellssl.profiling import kmeans
        from cellssl.profiling.finite import check_embeddings
        from cellssl.profiling.one_thread import one_thread
        from cellssl.randomness import generator, seed32

        check_embeddings(x)
        if k > len(x):
            raise DataError(
                f"{k} clusters are requested, but there are only {len(x)} cells",
                hint="lower cluster.k, or embed more cells",
            )
        mixture = GaussianMixture(
            k, covariance_type=self.covariance_type, n_init=n_init, random_state=seed32("gmm", seed), reg_covar=1e-6
        )
        drawn = x if len(x) <= FITTED_CELLS else x[np.sort(generator("gmm", seed).permutation(len(x))[:FITTED_CELLS])]
        with one_thread():
            mixture.fit(drawn.astype(np.float64))
            order = kmeans.clusters_by_size(_predict(mixture, x), k)
            self._reorder(mixture, order)
            assignment = _predict(mixture, x)
        model = {
            "gmm_weights": mixture.weights_,
            "gmm_means": mixture.means_,
            "gmm_precisions_cholesky": mixture.precisions_cholesky_,
        }
        return kmeans.clustering_of(x, assignment, mixture.means_, model)

    def check_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Raise KeyError or ValueError where stored arrays are not those of a mixture of this kind."""
        super().check_arrays(arrays)
        k, dim = arrays["centroids"].shape
        precisions = {"full": (k, dim, dim), "tied": (dim, dim), "diag": (k, dim), "spherical": (k,)}
        shapes = {"weights": (k,), "means": (k, dim), "precisions_cholesky": precisions[self.covariance_type]}
        for name, shape in shapes.items():
            array = arrays[f"gmm_{name}"]
            if array.dtype.kind != "f" or array.shape != shape or not np.isfinite(array).all():
                raise ValueError(f"gmm_{name} is {array.dtype} of the shape {array.shape}, not finite and {shape}")

    def assign(self, x: Float[np.ndarray, "n d"], arrays: Mapping[str, np.ndarray]) -> Int[np.ndarray, "n"]:
        """Return the most likely component of every cell."""
        from sklearn.mixture import GaussianMixture

        from cellssl.profiling.finite import check_embeddings
        from cellssl.profiling.one_thread import one_thread

        check_embeddings(x)
        mixture = GaussianMixture(len(arrays["gmm_weights"]), covariance_type=self.covariance_type)
        mixture.weights_, mixture.means_ = arrays["gmm_weights"], arrays["gmm_means"]
        mixture.precisions_cholesky_ = arrays["gmm_precisions_cholesky"]
        with one_thread():
            return _predict(mixture, x)

    def _reorder(self, mixture: Any, order: np.ndarray) -> None:
        mixture.weights_, mixture.means_ = mixture.weights_[order], mixture.means_[order]
        if self.covariance_type != "tied":  # "tied" has one covariance for all components
            mixture.covariances_ = mixture.covariances_[order]
            mixture.precisions_cholesky_ = mixture.precisions_cholesky_[order]


def _predict(mixture: "GaussianMixture", x: Float[np.ndarray, "n d"]) -> Int[np.ndarray, "n"]:
    """Return the most likely component of every cell, a chunk of rows at a time."""
    from cellssl.profiling.kmeans import in_chunks

    return np.concatenate([mixture.predict(x[rows].astype(np.float64)) for rows in in_chunks(len(x))])
