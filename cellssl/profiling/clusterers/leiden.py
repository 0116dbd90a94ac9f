"""leiden: communities of the graph in which every cell is tied to its nearest neighbours, by igraph."""

import random
from importlib.util import find_spec
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field

from cellssl.errors import UsageError
from cellssl.profiling.clusterer import ClustererSettings, Clustering

MOST_CELLS = 100_000
"""Neighbours are looked for among all cells."""


class Settings(ClustererSettings):
    """Leiden (Traag et al. 2019, doi:10.1038/s41598-019-41695-z) on shared neighbours, as PhenoGraph has them; it finds
    the number of clusters. Needs pip install "cellssl[leiden]"."""

    takes_k: ClassVar[bool] = False

    neighbours: int = Field(15, ge=2)
    """Nearest cells that a cell is tied to; a tie weighs as much as the two share of theirs (Jaccard)."""
    resolution: float = Field(1.0, gt=0)
    """Higher gives more clusters."""

    def check_installed(self) -> None:
        """Said before anything is made for it."""
        if find_spec("igraph") is None:
            raise UsageError("the method leiden needs the library igraph", hint='pip install "cellssl[leiden]"')

    def fit(self, x: Float[np.ndarray, "n d"], k: int, n_init: int, seed: int) -> Clustering:
        """`k` and `n_init` say nothing to it."""
        import igraph

        from cellssl.profiling import kmeans
        from cellssl.profiling.normalise import check_embeddings
        from cellssl.randomness import seed32

        check_embeddings(x)
        if len(x) > MOST_CELLS:
            raise UsageError(
                f"leiden would look for the neighbours of {len(x):,} cells; it is for {MOST_CELLS:,} at most",
                hint='choose cluster.method = "kmeans", or fewer cells with split.cells_per_class or cluster.part',
            )
        ties, weights = shared_neighbours(x, min(self.neighbours, len(x) - 1))
        graph = igraph.Graph(len(x), ties)
        igraph.set_random_number_generator(random.Random(seed32("leiden", seed)))
        try:
            found = graph.community_leiden("modularity", weights=weights, resolution=self.resolution, n_iterations=-1)
        finally:
            igraph.set_random_number_generator(random)
        return kmeans.numbered(x, np.array(found.membership))


def shared_neighbours(
    x: Float[np.ndarray, "n d"], neighbours: int
) -> tuple[Int[np.ndarray, "ties 2"], Float[np.ndarray, "ties"]]:
    """Pairs of cells of which one is among the nearest of the other, and the Jaccard index of their neighbourhoods.

    A cell belongs to its own neighbourhood (Levine et al. 2015, doi:10.1016/j.cell.2015.05.047).
    """
    from scipy import sparse
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=neighbours).fit(x).kneighbors_graph()
    around = (near + sparse.eye(len(x), format="csr")).astype(np.float64)
    shared = sparse.triu(around @ around.T, k=1).multiply(near.maximum(near.T)).tocoo()
    union = 2 * (neighbours + 1) - shared.data
    return np.stack([shared.row, shared.col], axis=1).astype(np.int64), shared.data / union
