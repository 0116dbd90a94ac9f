"""projection: embeddings -> a position for every cell in two dimensions, for a scatter plot."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from cellssl.profiling.finite import check_embeddings
from cellssl.profiling.one_thread import one_thread
from cellssl.randomness import seed32


class PcaProjection(NamedTuple):
    """The position of each cell on two principal components, and the share of the variance of each."""

    points: Float[np.ndarray, "n 2"]
    explained_variance_ratio: tuple[float, float]


def pca_projection(x: Float[np.ndarray, "n d"]) -> PcaProjection:
    """Project on the first two principal components; a component that does not vary or does not exist is 0."""
    check_embeddings(x)
    wanted = min(2, *x.shape)
    points, explained = np.zeros((len(x), 2)), np.zeros(2)
    if np.ptp(x, axis=0).any():
        fitted = PCA(wanted, random_state=seed32("principal plane"))
        with one_thread():  # fixed order of sums, so that equal vectors have equal positions
            points[:, :wanted] = fitted.fit_transform(x)
        explained[:wanted] = fitted.explained_variance_ratio_
    return PcaProjection(points, (float(explained[0]), float(explained[1])))


def tsne_projection(x: Float[np.ndarray, "n d"], seed: int = 0) -> Float[np.ndarray, "n 2"]:
    """Project by t-SNE (van der Maaten and Hinton 2008), as its authors do, on the first 50 principal components.

    Neighbourhoods can be interpreted; distances between groups and sizes of groups cannot.
    """
    check_embeddings(x)
    if len(x) < 3:
        return pca_projection(x).points
    wanted = min(50, *x.shape)
    perplexity = min(30.0, (len(x) - 1) / 3)
    fitted = TSNE(perplexity=perplexity, init="pca" if wanted > 1 else "random", random_state=seed32("t-SNE", seed))
    with one_thread():  # otherwise sums depend on the order in which threads finish
        components = PCA(wanted, random_state=seed32("t-SNE axes", seed)).fit_transform(x)
        return np.asarray(fitted.fit_transform(components), np.float64)


def umap_projection(x: Float[np.ndarray, "n d"], seed: int = 0) -> Float[np.ndarray, "n 2"]:
    """Project by UMAP (McInnes et al. 2018, arXiv:1802.03426) with umap-learn, on one core to be reproducible."""
    from umap import UMAP  # type: ignore[import-not-found,unused-ignore]  # an optional dependency

    check_embeddings(x)
    if len(x) < 4:
        return pca_projection(x).points
    neighbours = min(15, len(x) - 1)
    init = "spectral" if len(x) > 20 else "random"
    fitted = UMAP(n_neighbors=neighbours, init=init, random_state=seed32("UMAP", seed), n_jobs=1)
    return np.asarray(fitted.fit_transform(x), np.float64)
