"""well_scale: profiles of wells, some of them a reference -> centres of plates, and the spread of every feature."""

import numpy as np
from jaxtyping import Bool, Float, Int

from cellssl.profiling.moments import NORMAL_MAD, rounding

PRIOR_WELLS = 10
"""The spread among all wells counts as much as this many reference wells."""


def plate_medians(
    x: Float[np.ndarray, "n d"], plate: Int[np.ndarray, "n"], is_reference: Bool[np.ndarray, "n"]
) -> Float[np.ndarray, "plates d"]:
    """Return the median profile of the reference wells of every plate; NaN for a plate without any."""
    centres = np.full((int(plate.max(initial=-1)) + 1, x.shape[1]), np.nan)
    for number in np.unique(plate[is_reference]):
        centres[number] = np.median(x[is_reference & (plate == number)], axis=0)
    return centres


def feature_scale(
    x: Float[np.ndarray, "n d"], plate: Int[np.ndarray, "n"], is_reference: Bool[np.ndarray, "n"]
) -> Float[np.ndarray, "d"]:
    """Return the spread of every feature among reference wells of a plate; infinite where it varies among no wells.

    Few wells do not know the spread of a feature. So the variance (of the median absolute deviation) is a weighted mean
    of that of the reference wells, whose weight is their number less one per plate, and that of all wells, which is
    first multiplied by the usual ratio of the two (as in Smyth 2004, doi:10.2202/1544-6115.1027).
    """
    x = x.astype(np.float64)
    prior = _spread(x - plate_medians(x, plate, np.ones(len(x), bool))[plate], x)
    free = int(is_reference.sum()) - len(np.unique(plate[is_reference]))
    if free < 1:
        return np.where(prior > 0, prior, np.inf)
    inside = x[is_reference] - plate_medians(x, plate, is_reference)[plate[is_reference]]
    own = _spread(inside, x) * np.sqrt(len(inside) / free)
    both = (own > 0) & (prior > 0)
    ratio = np.median(np.square(own[both] / prior[both])) if both.any() else 1.0
    variance = (free * np.square(own) + PRIOR_WELLS * ratio * np.square(prior)) / (free + PRIOR_WELLS)
    return np.where(variance > 0, np.sqrt(variance), np.inf)


def _spread(deviation: Float[np.ndarray, "m d"], x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d"]:
    """Return the median absolute deviation, the standard deviation where most are 0, or 0 for rounding errors."""
    mad = NORMAL_MAD * np.median(np.abs(deviation), axis=0)
    std = np.sqrt(np.square(deviation).mean(axis=0))
    return np.where(std <= rounding(np.abs(x).max(axis=0), x.dtype), 0, np.where(mad > 0, mad, std))
