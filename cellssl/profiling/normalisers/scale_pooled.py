"""scale_pooled: every feature -> spread 1 among the controls of a plate, by one scale for all plates."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from cellssl.profiling.normaliser import Arrays, NormaliserSettings, ReferenceRows, check_array


class Settings(NormaliserSettings):
    """Divide every feature by its spread among controls: 1.4826 times the median absolute deviation from the median of
    their own plate, over the controls of all plates together. So a plate with few controls has the scale of all.

    Where that is 0, the spread is the standard deviation of these differences; where that is 0 as well,
    that of all cells from the controls of their plate. A feature that varies nowhere becomes 0.
    """

    fitted_on: ClassVar[Literal["nothing", "cells", "controls"]] = "controls"

    def fit(self, rows: ReferenceRows) -> Arrays:
        """Return the pooled spread of every feature."""
        from cellssl.profiling.control_spread import pooled_scale

        return {"scale": pooled_scale(rows)}

    def apply(self, x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n d"]:
        """Return the rows divided by the spread."""
        return np.asarray(x / arrays["scale"], x.dtype)

    def check_arrays(self, pooled: Arrays, dim: int) -> int:
        """Check one scale per feature."""
        check_array(pooled, "scale", (dim,), positive=True)
        return dim
