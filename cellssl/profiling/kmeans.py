"""kmeans: embeddings -> K-Means clusters, numbered by size; centroids -> the clusters of new cells."""

import warnings
from collections.abc import Iterator, Mapping

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning

from cellssl.errors import DataError
from cellssl.profiling.clusterer import NOISE, Clustering
from cellssl.profiling.finite import check_embeddings
from cellssl.profiling.one_thread import one_thread
from cellssl.randomness import seed32

MINIBATCH_ABOVE = 100_000
"""Above this number of cells K-Means works in batches: a little less exact, but minutes instead of hours."""
BATCH_ROWS = 16_384
CHUNK_ROWS = 65_536


def fit(x: Float[np.ndarray, "n d"], k: int, *, n_init: int = 20, seed: int = 0) -> Clustering:
    """Return the best of `n_init` runs of K-Means; the result does not depend on the number of cores.

    Embeddings with fewer than `k` distinct rows (a collapsed encoder) leave the last clusters empty.
    Raises DataError where there are more clusters than cells, or where a number is not finite.
    """
    check_embeddings(x)
    if k > len(x):
        raise DataError(
            f"{k} clusters are requested, but there are only {len(x)} cells",
            hint="lower cluster.k, or embed more cells",
        )
    centroids = _centroids(x, k, n_init, seed)
    centroids = centroids[clusters_by_size(assign(x, centroids), k)]
    return clustering_of(x, assign(x, centroids), centroids)


def assign(x: Float[np.ndarray, "n d"], centroids: Float[np.ndarray, "k width"]) -> Int[np.ndarray, "n"]:
    """Return the nearest centroid of every row (Euclidean); a tie goes to the lower number."""
    if x.shape[1] != centroids.shape[1]:
        raise DataError(
            f"the centroids have {centroids.shape[1]} dimensions, but the embeddings have {x.shape[1]}",
            hint="embed these cells with the model of the earlier clustering",
        )
    check_embeddings(x)
    wide = centroids.astype(np.float64)
    lengths = np.square(wide).sum(axis=1)
    nearest_of = [(lengths - 2 * (x[rows].astype(np.float64) @ wide.T)).argmin(axis=1) for rows in in_chunks(len(x))]
    return np.concatenate(nearest_of)


def clustering_of(
    x: Float[np.ndarray, "n d"],
    assignment: Int[np.ndarray, "n"],
    centroids: Float[np.ndarray, "k d"],
    model: Mapping[str, np.ndarray] | None = None,
) -> Clustering:
    """Return a clustering with the given cluster numbers; noise does not count in its inertia."""
    inertia = float(np.nansum(_squared_distances(x, centroids, assignment)))
    return Clustering(centroids, assignment, inertia, model or {})


def renumber_by_size(x: Float[np.ndarray, "n d"], found: Int[np.ndarray, "n"]) -> Clustering:
    """Return a clustering renumbered by size, with the means as centroids; noise stays noise."""
    is_clustered = found != NOISE
    _, groups = np.unique(found[is_clustered], return_inverse=True)
    k = int(groups.max()) + 1 if len(groups) else 0
    assignment = np.full(len(found), NOISE)
    assignment[is_clustered] = np.argsort(clusters_by_size(groups, k))[groups]
    centroids = np.zeros((k, x.shape[1]))
    for cluster in range(k):
        centroids[cluster] = x[assignment == cluster].mean(axis=0, dtype=np.float64)
    return clustering_of(x, assignment, centroids)


def distances_to_centroids(x: Float[np.ndarray, "n d"], clustering: Clustering) -> Float[np.ndarray, "n"]:
    """Return the distance of every cell to the centroid of its cluster (Euclidean); NaN for noise."""
    return np.asarray(np.sqrt(_squared_distances(x, clustering.centroids, clustering.assignment)))


def nearest_to_centroids(
    x: Float[np.ndarray, "n d"], clustering: Clustering, per_cluster: int
) -> list[Int[np.ndarray, "_"]]:
    """Return for every cluster the `per_cluster` rows nearest its centroid (Euclidean), nearest first; all if fewer."""
    distance = _squared_distances(x, clustering.centroids, clustering.assignment)
    members = [np.flatnonzero(clustering.assignment == cluster) for cluster in range(len(clustering.centroids))]
    return [rows[np.argsort(distance[rows], kind="stable")[:per_cluster]] for rows in members]


def in_chunks(rows: int) -> Iterator[slice]:
    """Return slices of `CHUNK_ROWS` rows, so that no copy is as large as the embeddings."""
    return (slice(start, start + CHUNK_ROWS) for start in range(0, rows, CHUNK_ROWS))


def clusters_by_size(assignment: Int[np.ndarray, "n"], k: int) -> Int[np.ndarray, "k"]:
    """Return the cluster numbers, the largest cluster first; a tie goes to the cluster with the earlier first cell."""
    sizes = np.bincount(assignment, minlength=k)
    first = np.full(k, len(assignment))
    np.minimum.at(first, assignment, np.arange(len(assignment)))
    return np.asarray(np.lexsort((first, -sizes)))


def _centroids(x: Float[np.ndarray, "n d"], k: int, n_init: int, seed: int) -> Float[np.ndarray, "k d"]:
    # one thread: scikit-learn adds the sums of threads in the order in which they finish, so the last bits would vary
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters; see `fit`
        chosen = seed32("kmeans", seed)
        if len(x) > MINIBATCH_ABOVE:
            batches = MiniBatchKMeans(k, n_init=n_init, random_state=chosen, batch_size=BATCH_ROWS)
            return np.asarray(batches.fit(x).cluster_centers_)
        return np.asarray(KMeans(k, n_init=n_init, random_state=chosen).fit(x).cluster_centers_)


def _squared_distances(
    x: Float[np.ndarray, "n d"], centroids: Float[np.ndarray, "k d"], assignment: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
    """Return the squared distance of every row to its own centroid, in float64, a chunk at a time; NaN for noise."""
    of_noise = np.full((1, x.shape[1]), np.nan)
    wide = np.concatenate([centroids.astype(np.float64), of_noise])  # the last row, so that NOISE (-1) selects it
    parts = [np.square(x[rows] - wide[assignment[rows]]).sum(axis=1) for rows in in_chunks(len(x))]
    return np.concatenate(parts)
