"""plane: embeddings -> their two principal components, for a scatter plot."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA

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
        points[:, :wanted] = fitted.fit_transform(x)
        explained[:wanted] = fitted.explained_variance_ratio_
    return Plane(points, (float(explained[0]), float(explained[1])))
