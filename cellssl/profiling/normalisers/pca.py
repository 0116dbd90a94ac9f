"""pca: vectors -> their principal components over the cells, by default of variance 1."""

from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field

from cellssl.errors import DataError
from cellssl.profiling.normaliser import Arrays, NormaliserSettings, ReferenceRows, check_array, check_axes


class Settings(NormaliserSettings):
    """Project the vectors on their principal axes over all cells, so that features are uncorrelated and fewer."""

    fitted_on: ClassVar[Literal["nothing", "cells", "controls"]] = "cells"

    variance: float = Field(0.99, gt=0, le=1)
    """Share of the variance that is kept; the rest is noise, which whitening would scale up to variance 1."""
    whiten: bool = True
    """Whether every component is divided by its standard deviation, so that all count the same."""

    def fit(self, rows: ReferenceRows) -> Arrays:
        """Return the mean, the axes and the standard deviation along them."""
        from cellssl.profiling.moments import axes_kept, covariance, mean, std, with_signs

        centre = mean(rows.x)
        if not std(rows.x, centre).any():
            raise DataError(
                f"all {len(rows.x)} embeddings are the same, so they cannot be whitened",
                hint="the encoder has collapsed, or there is only one cell; check the training curves",
            )
        variances, axes = np.linalg.eigh(covariance(rows.x, centre))
        variances, axes = variances[::-1], axes.T[::-1]
        varies = variances > variances[0] * len(variances) * np.finfo(np.float64).eps
        kept = axes_kept(variances[varies], self.variance)
        scale = np.sqrt(variances[:kept]) if self.whiten else np.ones(kept)
        return {"centre": centre, "axes": with_signs(axes[:kept]), "scale": scale}

    def apply(self, x: Float[np.ndarray, "n d"], arrays: Arrays) -> Float[np.ndarray, "n _"]:
        """Return the components."""
        return np.asarray((x - arrays["centre"]) @ (arrays["axes"].T / arrays["scale"]), x.dtype)

    def check_arrays(self, pooled: Arrays, dim: int) -> int:
        """Check the centre, and one scale per axis."""
        kept = check_axes(pooled, "axes", dim)
        check_array(pooled, "centre", (dim,))
        check_array(pooled, "scale", (kept,), positive=True)
        return kept
