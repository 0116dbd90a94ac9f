"""l2: every vector -> the same direction with length 1."""

import numpy as np
from jaxtyping import Float

from cellssl.profiling.normaliser import Arrays, NormaliserSettings


class Settings(NormaliserSettings):
    """Scale every vector to length 1, so that only its direction counts; a vector of zeros stays as it is."""

    def apply(self, x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n d"]:
        """Return the rows with length 1."""
        length = np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
        return np.asarray(x / np.where(length == 0, 1, length), x.dtype)
