"""well_intervals: wells to resample with replacement -> how often each is drawn, and the 95 % interval of a number."""

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm, t

from cellssl.randomness import generator

COVERED = 0.95


def resampled(wells: int, draws: int, *names: str | int) -> Int[np.ndarray, "draws wells"]:
    """Return how often each well is in each bootstrap sample; `names` determine the random numbers."""
    rng = generator("bootstrap of wells", *names)
    return np.asarray(rng.multinomial(wells, np.full(wells, 1 / wells), size=draws))


def interval(values: Float[np.ndarray, "draws"], wells: int) -> tuple[float, float]:
    """Return the 95 % interval of the values of bootstrap samples of so many wells; NaN for fewer than two wells.

    Percentiles are expanded, because the bootstrap of few wells is too narrow (Hesterberg 2015, section 5.3,
    doi:10.1080/00031305.2015.1089789). With two to five wells they are about the smallest and the largest value, and
    two or three wells cannot say more: their interval contains the true number in less than 95 % of cases.
    """
    if wells < 2 or not len(values):
        return np.nan, np.nan
    outside = norm.cdf(np.sqrt(wells / (wells - 1)) * t.ppf((1 - COVERED) / 2, wells - 1))
    low, high = np.quantile(values, [outside, 1 - outside])
    return float(low), float(high)
