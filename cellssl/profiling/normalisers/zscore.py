"""zscore: every feature -> mean 0 and standard deviation 1 over the cells."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from cellssl.profiling.normaliser import Arrays, NormaliserSettings, ReferenceRows, check_array


class Settings(NormaliserSettings):
    """Subtract the mean of every feature over all cells and divide by the standard deviation. A feature that does not
    vary becomes 0."""

    fitted_on: ClassVar[Literal["nothing", "cells", "controls"]] = "cells"

    def fit(self, rows: ReferenceRows) -> Arrays:
        """Return mean and standard deviation of every feature."""
        from cellssl.profiling.moments import mean, std, zero_to_infinity

        centre = mean(rows.x)
        return {"centre": centre, "scale": zero_to_infinity(std(rows.x, centre))}

    def apply(self, x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n d"]:
        """Return the rows centred and scaled."""
        return np.asarray((x - arrays["centre"]) / arrays["scale"], x.dtype)

    def check_arrays(self, pooled: Arrays, dim: int) -> int:
        """Check one centre and one scale per feature."""
        check_array(pooled, "centre", (dim,))
        check_array(pooled, "scale", (dim,), positive=True)
        return dim
