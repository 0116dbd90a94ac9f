"""clusterer: what every file in the room `clusterers` can do; embeddings in, a cluster for every cell out."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from cellssl.config.settings import Plugin
from cellssl.errors import UsageError

NOISE = -1
"""The number of cells that belong to no cluster; only methods that know of such cells give it."""


@dataclass(frozen=True)
class Clustering:
    """Cluster 0 is the largest; of two that are equally large, the one with the earlier first cell comes first."""

    centroids: Float[np.ndarray, "k d"]
    assignment: Int[np.ndarray, "n"]
    inertia: float
    """Sum of squared distances to the centroids."""
    model: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What else an assignment of new cells needs, under names of its own."""


class ClustererSettings(Plugin):
    """The settings of a method, which are all that is needed to use it, now or on a later plate."""

    takes_k: ClassVar[bool] = True
    """Whether it is told the number of clusters; others find their own."""
    takes_seed: ClassVar[bool] = True
    """Whether chance has a part in it."""

    def check_installed(self) -> None:
        """Raise UsageError where a library that it needs is not there; loads none."""

    @abstractmethod
    def fit(self, x: Float[np.ndarray, "n d"], k: int, n_init: int, seed: int) -> Clustering:
        """Clusters of these embeddings, the same bits whatever the number of cores.

        Raises DataError where there are more clusters than cells, or numbers that are not finite.
        """

    def assign(self, x: Float[np.ndarray, "n d"], arrays: Mapping[str, np.ndarray]) -> Int[np.ndarray, "n"]:
        """Clusters of new cells by what was fitted before: `centroids`, and the arrays of `Clustering.model`."""
        raise UsageError(
            f"{self.plugin_name()} has no rule for cells that it has not seen",
            hint='cluster the earlier plates with cluster.method = "kmeans" or "gmm", or leave cluster.assign_to out',
        )
