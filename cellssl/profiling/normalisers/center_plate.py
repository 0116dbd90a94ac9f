"""center_plate: every plate -> the mean of its controls is 0."""

from typing import ClassVar

import numpy as np
from jaxtyping import Float

from cellssl.profiling.normaliser import Arrays, NormaliserSettings


class Settings(NormaliserSettings):
    """Subtract the mean of the controls of the same plate, so that an offset of a plate does not matter. Safe with few
    controls, as it needs no spread."""

    of_plate: ClassVar[bool] = True

    def fit_plate(self, controls: Float[np.ndarray, "m d"], pooled: Arrays) -> Arrays:
        """Return the mean of the controls, and what may be a rounding error where they do not vary."""
        from cellssl.profiling.moments import mean, rounding, std

        centre = mean(controls)
        constant = std(controls, centre) == 0
        return {"centre": centre, "rounding": np.where(constant, rounding(centre, controls.dtype), 0.0)}

    def apply(self, x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n d"]:
        """Return the rows less the mean of the controls; exactly 0 where the controls do not vary and a row equals
        them but for rounding errors, of which a later scale would make noise."""
        difference = x - arrays["centre"]
        return np.asarray(np.where(np.abs(difference) <= arrays["rounding"], 0.0, difference), x.dtype)
