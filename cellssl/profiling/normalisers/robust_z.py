"""robust_z: every plate -> the median of its controls is 0 and their median absolute deviation is 1."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from cellssl.profiling.normaliser import Arrays, NormaliserSettings, ReferenceRows, check_array


class Settings(NormaliserSettings):
    """Subtract the median of the controls of the same plate and divide by 1.4826 times their median absolute deviation,
    as pycytominer's RobustMAD with epsilon 0; by their standard deviation where that is 0. With few controls this
    spread is uncertain: scale_pooled takes one for all plates.

    Where the controls of a plate do not vary, the scale is the median of those of the other plates; where no plate has
    one, that of all cells, made comparable to the other features. A feature that varies nowhere becomes 0.
    """

    of_plate: ClassVar[bool] = True
    fitted_on: ClassVar[Literal["nothing", "cells", "controls"]] = "controls"

    def fit(self, rows: ReferenceRows) -> Arrays:
        """Return the scale for plates whose controls do not vary."""
        from cellssl.profiling.control_spread import median_and_mad, usual_scale

        return {"usual_scale": usual_scale(rows, median_and_mad)}

    def fit_plate(self, controls: Float[np.ndarray, "m d"], pooled: Arrays) -> Arrays:
        """Return the median and scale of the controls."""
        from cellssl.profiling.control_spread import median_and_mad, of_controls

        return of_controls(controls, median_and_mad, pooled["usual_scale"])

    def apply(self, x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n d"]:
        """Return the rows centred and scaled."""
        return np.asarray((x - arrays["centre"]) / arrays["scale"], x.dtype)

    def check_arrays(self, pooled: Arrays, dim: int) -> int:
        """Check one scale per feature."""
        check_array(pooled, "usual_scale", (dim,), positive=True)
        return dim
