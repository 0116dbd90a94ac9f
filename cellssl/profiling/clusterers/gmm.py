"""gmm: clusters as a mixture of normal distributions, each of its own size, spread and weight."""

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
"""Cells that the mixture is fitted on; of more, so many are drawn, and all are assigned."""


class Settings(ClustererSettings):
    """A Gaussian mixture; clusters may differ in spread and weight. Each cell goes to its likeliest component."""

    RENAMED: ClassVar[Mapping[str, str]] = {"covariance": "covariance_type"}
    covariance_type: Literal["full", "tied", "diag", "spherical"] = Field("diag")
    """How a component may be stretched: any way, all alike, along the axes, not at all. `full` wants few dimensions:
    cluster.normalise = "pca_whiten", and many more cells than dimensions."""

    def fit(self, x: Float[np.ndarray, "n d"], k: int, n_init: int, seed: int) -> Clustering:
        """The likeliest of several n_init, each begun by K-Means."""
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        from cellssl.profiling import kmeans
        from cellssl.profiling.normalise import check_embeddings
        from cellssl.randomness import generator, seed32

        check_embeddings(x)
        if k > len(x):
            raise DataError(f"{k} clusters were asked of {len(x)} cells", hint="lower k, or embed more cells")
        mixture = GaussianMixture(
            k, covariance_type=self.covariance_type, n_init=n_init, random_state=seed32("gmm", seed), reg_covar=1e-6
        )
        drawn = x if len(x) <= FITTED_CELLS else x[np.sort(generator("gmm", seed).permutation(len(x))[:FITTED_CELLS])]
        with threadpool_limits(limits=1):
            mixture.fit(drawn.astype(np.float64))
            order = kmeans.by_size(_likeliest(mixture, x), k)
            self._reorder(mixture, order)
            assignment = _likeliest(mixture, x)
        model = {
            "gmm_weights": mixture.weights_,
            "gmm_means": mixture.means_,
            "gmm_precisions_cholesky": mixture.precisions_cholesky_,
        }
        return kmeans.clustering_of(x, assignment, mixture.means_, model)

    def assign(self, x: Float[np.ndarray, "n d"], arrays: Mapping[str, np.ndarray]) -> Int[np.ndarray, "n"]:
        """The component that makes a cell likeliest."""
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        from cellssl.profiling.normalise import check_embeddings

        check_embeddings(x)
        mixture = GaussianMixture(len(arrays["gmm_weights"]), covariance_type=self.covariance_type)
        mixture.weights_, mixture.means_ = arrays["gmm_weights"], arrays["gmm_means"]
        mixture.precisions_cholesky_ = arrays["gmm_precisions_cholesky"]
        with threadpool_limits(limits=1):
            return _likeliest(mixture, x)

    def _reorder(self, mixture: Any, order: np.ndarray) -> None:
        mixture.weights_, mixture.means_ = mixture.weights_[order], mixture.means_[order]
        if self.covariance_type != "tied":  # which is one for all components
            mixture.covariances_ = mixture.covariances_[order]
            mixture.precisions_cholesky_ = mixture.precisions_cholesky_[order]


def _likeliest(mixture: "GaussianMixture", x: Float[np.ndarray, "n d"]) -> Int[np.ndarray, "n"]:
    from cellssl.profiling.kmeans import in_chunks

    return np.concatenate([mixture.predict(x[rows].astype(np.float64)) for rows in in_chunks(len(x))])
