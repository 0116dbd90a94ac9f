"""tvn: vectors -> features that are uncorrelated among controls, with the same covariance on every plate."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from cellssl.errors import DataError
from cellssl.profiling.normaliser import Arrays, NormaliserSettings, ReferenceRows, check_array, check_axes

RIDGE = 0.5
"""Added to the variances of the controls of a plate along every axis, as in EFAAR's benchmarks."""


class Settings(NormaliserSettings):
    """Typical variation normalisation (Ando et al. 2017, doi:10.1101/161422), as in EFAAR's benchmarks: standardise by
    the controls of all plates, take their principal components, and standardise these. Then CORAL: multiply the rows of
    every plate by (C + 0.5 I)^(-1/2), where C is the covariance of its own controls. Axes in which the controls do not
    vary are left out.

    It needs many controls on every plate: with few, C is noise, and it can do more harm than good.
    """

    of_plate: ClassVar[bool] = True
    fitted_on: ClassVar[Literal["nothing", "cells", "controls"]] = "controls"

    def fit(self, rows: ReferenceRows) -> Arrays:
        """Return mean and standard deviation of the controls, and their axes divided by the spread along them."""
        from cellssl.profiling.moments import mean, singular_values, std, zero_to_infinity

        controls = np.flatnonzero(rows.is_control)
        centre = mean(rows.x, controls)
        scale = zero_to_infinity(std(rows.x, centre, controls))
        if not np.isfinite(scale).any():
            raise DataError(
                f"all {len(controls)} controls have the same vector, so tvn is not possible",
                hint="the encoder has collapsed: check the training curves, or leave tvn out of normalise",
            )
        values, axes, rank = singular_values(rows.x, lambda part: (part - centre) / scale, controls)
        spread = values[:rank, None] / np.sqrt(len(controls))
        return {"centre": centre, "scale": scale, "axes": axes[:rank] / spread}

    def fit_plate(self, controls: Float[np.ndarray, "m d"], pooled: Arrays) -> Arrays:
        """Return the axes along which the controls of the plate vary, and what each is multiplied by beyond the rest.

        (C + 0.5 I)^(-1/2) is the same number along all other axes, so it needs no matrix of all features.
        """
        from cellssl.profiling.moments import mean, singular_values

        middle = _components(mean(controls)[None], pooled)
        values, axes, rank = singular_values(controls, lambda part: _components(part, pooled) - middle)
        variances = np.square(values[:rank]) / max(1, len(controls) - 1)
        factor = (variances + RIDGE) ** -0.5 - RIDGE**-0.5
        return {"plate_axes": axes[:rank], "plate_factor": factor}

    def apply(self, x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n _"]:
        """Return the components, multiplied by the matrix of their plate."""
        components = _components(x, arrays)
        along = components @ arrays["plate_axes"].T
        scaled = components * RIDGE**-0.5 + (along * arrays["plate_factor"]) @ arrays["plate_axes"]
        return np.asarray(scaled, x.dtype)

    def check_arrays(self, pooled: Arrays, dim: int) -> int:
        """Check the centre, the scale and the axes."""
        check_array(pooled, "centre", (dim,))
        check_array(pooled, "scale", (dim,), positive=True)
        return check_axes(pooled, "axes", dim)


def _components(x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n _"]:
    return np.asarray(((x - arrays["centre"]) / arrays["scale"]) @ arrays["axes"].T)
