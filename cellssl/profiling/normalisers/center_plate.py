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
        """Return the mean of the controls."""
        from cellssl.profiling.moments import mean

        return {"centre": mean(controls)}

    def apply(self, x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n d"]:
        """Return the rows less the mean of the controls."""
        from cellssl.profiling.moments import centred

        return centred(x, arrays["centre"]).astype(x.dtype)
