"""vector_spread: vectors of cells -> how far they differ: the number of distinct vectors and their effective rank."""

import numpy as np
from jaxtyping import Float

from cellssl.profiling.one_thread import one_thread
from cellssl.profiling.spread import VectorSpread
from cellssl.randomness import generator

SPREAD_CELLS = 2_000
"""The rank needs a singular value decomposition, so it is computed on a sample of this size if there are more cells."""


def vector_spread(x: Float[np.ndarray, "n d"], seed: int = 0) -> VectorSpread:
    """Return how far the vectors of all cells differ, or of `SPREAD_CELLS` random cells if there are more.

    Features are first scaled to equal standard deviation, so that a single feature with large numbers, such as an area
    among grey values, does not hide the others. The rank is that of Roy and Vetterli 2007.
    """
    if len(x) > SPREAD_CELLS:
        x = x[np.sort(generator("spread", seed).choice(len(x), SPREAD_CELLS, replace=False))]
    distinct = len(np.unique(x, axis=0))
    centred = x - x.mean(axis=0, dtype=np.float64)
    sd = centred.std(axis=0)
    rounding = 10 * np.finfo(x.dtype).eps * np.abs(x).max(axis=0, initial=0)
    varies = sd > rounding
    if not varies.any():
        return VectorSpread(len(x), distinct, 0.0, x.shape[1])
    with one_thread():  # the same bits on every machine with the same libraries
        singular = np.linalg.svd(centred[:, varies] / sd[varies], compute_uv=False)
    share = singular[singular > 0] / singular.sum()
    rank = float(np.exp(-(share * np.log(share)).sum()))
    return VectorSpread(len(x), distinct, round(rank, 4), x.shape[1])
