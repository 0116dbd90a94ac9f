"""clusterer: embeddings -> a cluster for every cell; the base class of all files in the folder `clusterers`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from cellssl.config.settings import Plugin
from cellssl.errors import UsageError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

NOISE = -1
"""The cluster number of cells that belong to no cluster; only some methods use it."""


@dataclass(frozen=True)
class Clustering:
    """A clustering, numbered by size: cluster 0 is the largest. Of two equally large clusters, the one with the earlier
    first cell comes first."""

    centroids: Float[np.ndarray, "k d"]
    assignment: Int[np.ndarray, "n"]
    inertia: float
    """Sum of squared distances of the cells to their centroids."""
    model: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further arrays that the method needs to assign new cells, by name."""


class ClustererSettings(Plugin):
    """Base class for the settings of a clustering method, which fit it and assign new cells to its clusters."""

    takes_k: ClassVar[bool] = True
    """Whether the method takes the number of clusters; other methods find the number themselves."""
    takes_seed: ClassVar[bool] = True
    """Whether the result depends on random numbers."""

    @classmethod
    def assigns(cls) -> bool:
        """Return whether the method has a rule for new cells."""
        return cls.assign is not ClustererSettings.assign

    def check_installed(self) -> None:
        """Raise UsageError where a library that the method needs is not installed; import no library."""

    @abstractmethod
    def fit(self, x: Float[np.ndarray, "n d"], k: int, n_init: int, seed: int) -> Clustering:
        """Return the clusters of these embeddings; the result does not depend on the number of cores.

        Raises DataError where there are more clusters than cells, or where a number is not finite.
        """

    def check_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Raise KeyError or ValueError where stored arrays are not those that `assign` needs."""
        centroids = arrays["centroids"]
        if centroids.dtype.kind != "f" or centroids.ndim != 2 or not len(centroids):
            raise ValueError(f"the centroids are {centroids.dtype} of the shape {centroids.shape}")
        if not np.isfinite(centroids).all():
            raise ValueError("the centroids have numbers that are not finite")

    def assign(self, x: Float[np.ndarray, "n d"], arrays: Mapping[str, np.ndarray]) -> Int[np.ndarray, "n"]:
        """Return the clusters of new cells from stored arrays: `centroids`, and those of `Clustering.model`."""
        raise UsageError(
            f"the clustering method {self.plugin_name()} cannot assign new cells to its clusters",
            hint='cluster the earlier plates with cluster.method = "kmeans" or "gmm", or leave cluster.assign_to out',
        )
