"""percentile: every plate -> the 1st percentile of its controls is 0 and the 99th is 1."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from cellssl.profiling.normaliser import Arrays, NormaliserSettings, ReferenceRows, check_array


class Settings(NormaliserSettings):
    """Map the 1st percentile of the controls of the same plate to 0 and their 99th to 1, as in Ljosa et al. 2013,
    doi:10.1177/1087057113503553. Features whose controls do not vary have the scale that robust_z describes."""

    of_plate: ClassVar[bool] = True
    fitted_on: ClassVar[Literal["nothing", "cells", "controls"]] = "controls"

    def fit(self, rows: ReferenceRows) -> Arrays:
        """Return the distance of the percentiles for plates whose controls do not vary."""
        from cellssl.profiling.control_spread import low_and_width, usual_scale

        return {"usual_scale": usual_scale(rows, low_and_width)}

    def fit_plate(self, controls: Float[np.ndarray, "m d"], pooled: Arrays) -> Arrays:
        """Return the 1st percentile of the controls, and the distance of the 99th from it."""
        from cellssl.profiling.control_spread import low_and_width, of_controls

        return of_controls(controls, low_and_width, pooled["usual_scale"])

    def apply(self, x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n d"]:
        """Return the rows mapped."""
        return np.asarray((x - arrays["centre"]) / arrays["scale"], x.dtype)

    def check_arrays(self, pooled: Arrays, dim: int) -> int:
        """Check one scale per feature."""
        check_array(pooled, "usual_scale", (dim,), positive=True)
        return dim
