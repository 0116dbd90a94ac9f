"""finite: embeddings -> an error where there are none, or where a number is not finite."""

import numpy as np
from jaxtyping import Float

from cellssl.errors import DataError


def check_embeddings(x: Float[np.ndarray, "n d"]) -> None:
    """Raise DataError where embeddings are empty or not finite."""
    if x.size == 0:
        raise DataError("there are no embeddings", hint="check whether segment and split kept any cells")
    broken = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if len(broken):
        raise DataError(
            f"{len(broken)} of {len(x)} embeddings contain NaN or infinite numbers; first: row {broken[0]}",
            hint="the encoder may have diverged: check the training curves, or leave these cells out",
        )
