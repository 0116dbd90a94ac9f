"""clip: features in units of their spread -> no value beyond a few times this spread."""

import numpy as np
from jaxtyping import Float
from pydantic import Field

from cellssl.profiling.normaliser import Arrays, NormaliserSettings


class Settings(NormaliserSettings):
    """Limit every feature to a range around 0, so that no single feature decides where a cell lies. Meant to follow
    `scale_pooled`: the units of a network are 0 for most cells, so their spread is tiny, and a cell in which they are
    not has huge values."""

    limit: float = Field(10.0, gt=0)
    """Largest value, and smallest with its sign: after `scale_pooled` in standard deviations of normal controls."""

    def apply(self, x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n d"]:
        """Return the rows with values beyond the limits set to them."""
        return np.clip(x, -self.limit, self.limit)
