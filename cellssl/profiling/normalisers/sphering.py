"""sphering: vectors -> features that are uncorrelated and of variance 1 among the controls of all plates."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from cellssl.errors import DataError
from cellssl.profiling.normaliser import Arrays, NormaliserSettings, ReferenceRows, check_array, check_axes


class Settings(NormaliserSettings):
    """Whiten by the controls of all plates together, as pycytominer's Spherize, so that the variation that controls
    have anyway counts little. Meant to follow a link that centres every plate.

    A feature that does not vary among controls becomes 0. Directions in which the controls do not vary, as where they
    are fewer than the features, are divided by their smallest standard deviation that is not 0. (pycytominer does so
    for fewer controls than features only. Where features depend on each other, it divides by epsilon, which makes large
    numbers of rounding errors.)
    """

    fitted_on: ClassVar[Literal["nothing", "cells", "controls"]] = "controls"

    method: Literal["ZCA", "PCA", "ZCA-cor", "PCA-cor"] = "ZCA"
    """`PCA` gives principal components; `ZCA` turns them back, so that features stay as near to themselves as can be
    (Kessy et al. 2018, doi:10.1080/00031305.2016.1277159). With `-cor`, features are first scaled to standard deviation
    1 among controls."""
    epsilon: float = Field(1e-6, ge=0)
    """Added to the singular values of the controls before anything is divided by them."""
    variance: float | None = Field(None, gt=0, le=1)
    """Share of the controls' variance whose axes are kept; the other axes are noise where controls are few. If it is
    not set, all are kept."""

    def fit(self, rows: ReferenceRows) -> Arrays:
        """Return the mean and scale of the controls, and the axes that whiten them."""
        from cellssl.profiling.moments import mean, singular_values, std, zero_to_infinity

        controls = np.flatnonzero(rows.is_control)
        centre = mean(rows.x, controls)
        scale = std(rows.x, centre, controls)
        if not scale.any():
            raise DataError(
                f"all {len(controls)} controls have the same vector, so sphering is not possible",
                hint="the encoder has collapsed: check the training curves, or leave sphering out of normalise",
            )
        scale = zero_to_infinity(scale if self.method.endswith("-cor") else (scale > 0).astype(np.float64))
        standard = {"centre": centre, "scale": scale}
        values, axes, rank = singular_values(rows.x, lambda part: _standardised(part, standard), controls)
        return {**standard, "axes": self._axes(values[:rank], axes, len(controls))}

    def apply(self, x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n _"]:
        """Return the rows whitened."""
        return np.asarray(_standardised(x, arrays) @ arrays["axes"].T, x.dtype)

    def check_arrays(self, pooled: Arrays, dim: int) -> int:
        """Check the centre, the scale and the axes."""
        check_array(pooled, "centre", (dim,))
        check_array(pooled, "scale", (dim,), positive=True)
        return check_axes(pooled, "axes", dim)

    def _axes(
        self, values: Float[np.ndarray, "r"], axes: Float[np.ndarray, "d d"], controls: int
    ) -> Float[np.ndarray, "_ d"]:
        from cellssl.profiling.moments import axes_kept

        if self.variance is None:
            values = np.concatenate([values, np.repeat(values[-1], len(axes) - len(values))])
        else:
            values = values[: axes_kept(np.square(values), self.variance)]
        axes = axes[: len(values)]
        whitening = axes / (values + self.epsilon)[:, None] * np.sqrt(controls - 1)
        return np.asarray(axes.T @ whitening if self.method.startswith("ZCA") else whitening)


def _standardised(x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n d"]:
    return np.asarray((x - arrays["centre"]) / arrays["scale"])
