"""leiden: embeddings -> communities of the graph that links every cell to its nearest neighbours, by igraph."""

import random
from importlib.util import find_spec
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from cellssl.errors import UsageError
from cellssl.profiling.clusterer import ClustererSettings, Clustering

MOST_CELLS = 100_000
"""The neighbours of each cell are searched among all cells."""


class Settings(ClustererSettings):
    """Leiden community detection (Traag et al. 2019, doi:10.1038/s41598-019-41695-z) on the graph of shared nearest
    neighbours, as in PhenoGraph; it finds the number of clusters itself. Needs pip install "cellssl[leiden]"."""

    takes_k: ClassVar[bool] = False

    neighbours: int = Field(15, ge=2)
    """Number of nearest cells that each cell is linked to. A link weighs as much as the Jaccard index of the
    neighbourhoods of its two cells."""
    resolution: float = Field(1.0, gt=0)
    """Resolution of the modularity; a higher value gives more clusters."""

    def check_installed(self) -> None:
        """Raise UsageError where igraph is not installed, before any other work is done."""
        if find_spec("igraph") is None:
            raise UsageError(
                "the clustering method leiden needs the library igraph", hint='pip install "cellssl[leiden]"'
            )

    def fit(self, x: Float[np.ndarray, "n d"], k: int, n_init: int, seed: int) -> Clustering:
        """Return the clusters; `k` and `n_init` are ignored."""
        import igraph

        from cellssl.profiling import kmeans
        from cellssl.profiling.finite import check_embeddings
        from cellssl.randomness import seed32

        check_embeddings(x)
        if len(x) > MOST_CELLS:
            raise UsageError(
                f"leiden takes at most {MOST_CELLS:,} cells; there are {len(x):,}",
                hint='set cluster.method = "kmeans", or use fewer cells with split.cells_per_class or cluster.part',
            )
        edges, weights = shared_neighbours(x, min(self.neighbours, len(x) - 1))
        graph = igraph.Graph(len(x), edges)
        igraph.set_random_number_generator(random.Random(seed32("leiden", seed)))
        try:
            found = graph.community_leiden("modularity", weights=weights, resolution=self.resolution, n_iterations=-1)
        finally:
            igraph.set_random_number_generator(random)
        return kmeans.renumber_by_size(x, np.array(found.membership))


def shared_neighbours(
    x: Float[np.ndarray, "n d"], neighbours: int
) -> tuple[Int[np.ndarray, "edges 2"], Float[np.ndarray, "edges"]]:
    """Return the pairs of cells of which one is a nearest neighbour of the other, and the Jaccard index of each pair.

    The index compares the neighbourhoods of the two cells; a cell belongs to its own neighbourhood (Levine et al. 2015,
    doi:10.1016/j.cell.2015.05.047).
    """
    from scipy import sparse
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=neighbours).fit(x).kneighbors_graph()
    around = (near + sparse.eye(len(x), format="csr")).astype(np.float64)
    shared = sparse.triu(around @ around.T, k=1).multiply(near.maximum(near.T)).tocoo()
    union = 2 * (neighbours + 1) - shared.data
    return np.stack([shared.row, shared.col], axis=1).astype(np.int64), shared.data / union
