"""projection: embeddings -> a place for every cell in two dimensions, for a scatter plot."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from cellssl.profiling.normalise import check_embeddings
from cellssl.randomness import seed32


class Plane(NamedTuple):
    """Where each cell lies, and the share of the variance along each axis."""

    points: Float[np.ndarray, "n 2"]
    explained: tuple[float, float]


def principal_plane(x: Float[np.ndarray, "n d"]) -> Plane:
    """The first two principal components; axes that do not vary (or are not there) are 0."""
    check_embeddings(x)
    wanted = min(2, *x.shape)
    points, explained = np.zeros((len(x), 2)), np.zeros(2)
    if np.ptp(x, axis=0).any():
        fitted = PCA(wanted, random_state=seed32("principal plane"))
        with threadpool_limits(limits=1):  # sums in one order, so that equal vectors have equal places
            points[:, :wanted] = fitted.fit_transform(x)
        explained[:wanted] = fitted.explained_variance_ratio_
    return Plane(points, (float(explained[0]), float(explained[1])))


def tsne_plane(x: Float[np.ndarray, "n d"], seed: int = 0) -> Float[np.ndarray, "n 2"]:
    """t-SNE (van der Maaten and Hinton 2008), as its authors use it on the 50 first principal components.

    Neighbourhoods mean something in it; distances between groups and their sizes do not.
    """
    check_embeddings(x)
    if len(x) < 3:
        return principal_plane(x).points
    wanted = min(50, *x.shape)
    perplexity = min(30.0, (len(x) - 1) / 3)
    fitted = TSNE(perplexity=perplexity, init="pca" if wanted > 1 else "random", random_state=seed32("t-SNE", seed))
    with threadpool_limits(limits=1):  # its sums are of floats in the order in which threads finish
        begun = PCA(wanted, random_state=seed32("t-SNE axes", seed)).fit_transform(x)
        return np.asarray(fitted.fit_transform(begun), np.float64)


def umap_plane(x: Float[np.ndarray, "n d"], seed: int = 0) -> Float[np.ndarray, "n 2"]:
    """UMAP (McInnes et al. 2018, arXiv:1802.03426) by umap-learn, on one core, which alone repeats itself."""
    from umap import UMAP  # type: ignore[import-not-found,unused-ignore]  # an extra

    check_embeddings(x)
    if len(x) < 4:
        return principal_plane(x).points
    neighbours = min(15, len(x) - 1)
    init = "spectral" if len(x) > 20 else "random"
    fitted = UMAP(n_neighbors=neighbours, init=init, random_state=seed32("UMAP", seed), n_jobs=1)
    return np.asarray(fitted.fit_transform(x), np.float64)
