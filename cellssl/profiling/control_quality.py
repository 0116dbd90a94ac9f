"""control_quality: profiles of positive and negative control wells -> how far they are apart on every plate."""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.moments import NORMAL_MAD
from cellssl.profiling.well_scale import feature_scale

LEAST = 2
"""Wells of each kind that a plate needs: one well has no spread."""


def control_quality(
    x: Float[np.ndarray, "n d"],
    plates: Labels,
    is_positive: Bool[np.ndarray, "n"],
    is_negative: Bool[np.ndarray, "n"],
) -> pd.DataFrame:
    """Return one row per plate: plate, negative_controls, positive_controls, robust_z_prime, ssmd and remark.

    Every well has one score: its profile projected on the direction from the negative to the positive controls, so that
    they lie at about 0 and 1. The direction is fitted on the other plates, or without the well itself where no other
    plate has both kinds, because a direction that is fitted on the wells that it scores separates also equal ones.

    robust_z_prime: 1 - 3 (MAD_p + MAD_n) / |median_p - median_n| (Zhang, Chung and Oldenburg 1999,
    doi:10.1177/108705719900400206, with medians). ssmd: (median_p - median_n) / sqrt(MAD_p^2 + MAD_n^2) (Zhang 2007,
    doi:10.1016/j.ygeno.2006.12.014; robust as in Zhang 2011, doi:10.1017/CBO9780511973888). MAD is the median
    absolute deviation times 1.4826. A plate with fewer than two wells of a kind has NaN, and the remark says why; so
    has a plate where no direction can be fitted. Positive controls below the negative ones have a negative SSMD.
    """
    names, plate = codes(plates)
    centred = _centred(x, plate, is_negative)
    comparable = np.isin(plate, plate[is_negative])
    rows = []
    for number, name in enumerate(names):
        positive, negative = (np.flatnonzero(kind & (plate == number)) for kind in (is_positive, is_negative))
        remark = _too_few(len(positive), len(negative))
        z_prime = ssmd = np.nan
        if not remark:
            others = comparable & (plate != number)
            scores = _scores(centred, positive, negative, is_positive & others, is_negative & others)
            z_prime, ssmd = robust_z_prime(*scores), robust_ssmd(*scores)
            remark = "" if np.isfinite(ssmd) else "positive and negative controls do not differ"
        rows.append((name, len(negative), len(positive), z_prime, ssmd, remark))
    columns = ["plate", "negative_controls", "positive_controls", "robust_z_prime", "ssmd", "remark"]
    return pd.DataFrame(rows, columns=columns)


def robust_z_prime(positive: Float[np.ndarray, "p"], negative: Float[np.ndarray, "m"]) -> float:
    """Return the Z'-factor with medians and MADs; NaN where the medians are equal."""
    distance = abs(float(np.median(positive) - np.median(negative)))
    return 1 - 3 * (_mad(positive) + _mad(negative)) / distance if distance > 0 else np.nan


def robust_ssmd(positive: Float[np.ndarray, "p"], negative: Float[np.ndarray, "m"]) -> float:
    """Return the strictly standardised mean difference with medians and MADs; NaN where nothing varies."""
    spread = float(np.hypot(_mad(positive), _mad(negative)))
    return float(np.median(positive) - np.median(negative)) / spread if spread > 0 else np.nan


def _mad(values: Float[np.ndarray, "m"]) -> float:
    return NORMAL_MAD * float(np.median(np.abs(values - np.median(values))))


def _too_few(positive: int, negative: int) -> str:
    kinds = [f"{count} {name} control well" for name, count in (("positive", positive), ("negative", negative))]
    few = [text for text, count in zip(kinds, (positive, negative), strict=True) if count < LEAST]
    return " and ".join(few).replace("0 ", "no ") + "; two of each are needed" if few else ""


def _centred(
    x: Float[np.ndarray, "n d"], plate: Int[np.ndarray, "n"], is_negative: Bool[np.ndarray, "n"]
) -> Float[np.ndarray, "n d"]:
    """Return the profiles minus the mean of the negative controls of their plate, divided by the spread of features."""
    x = x.astype(np.float64)
    scale = feature_scale(x, plate, is_negative)
    for number in np.unique(plate[is_negative]):
        here = plate == number
        x[here] -= x[here & is_negative].mean(axis=0)
    return np.asarray(x / scale)


def _scores(
    x: Float[np.ndarray, "n d"],
    positive: Int[np.ndarray, "p"],
    negative: Int[np.ndarray, "m"],
    other_positive: Bool[np.ndarray, "n"],
    other_negative: Bool[np.ndarray, "n"],
) -> tuple[Float[np.ndarray, "p"], Float[np.ndarray, "m"]]:
    """Return the scores of the positive and the negative wells of one plate."""
    if other_positive.any() and other_negative.any():
        start, end = x[other_negative].mean(axis=0), x[other_positive].mean(axis=0)
        scores = _projected(x[np.concatenate([positive, negative])], start, end)
        return scores[: len(positive)], scores[len(positive) :]
    start, end = x[negative].mean(axis=0), x[positive].mean(axis=0)
    ends = [_projected(x[[row]], start, _without(x, positive, row)) for row in positive.tolist()]
    starts = [_projected(x[[row]], _without(x, negative, row), end) for row in negative.tolist()]
    return np.concatenate(ends), np.concatenate(starts)


def _without(x: Float[np.ndarray, "n d"], rows: Int[np.ndarray, "m"], row: int) -> Float[np.ndarray, "d"]:
    return np.asarray(x[rows[rows != row]].mean(axis=0))


def _projected(
    x: Float[np.ndarray, "m d"], start: Float[np.ndarray, "d"], end: Float[np.ndarray, "d"]
) -> Float[np.ndarray, "m"]:
    """Return where rows lie on the line from start (0) to end (1); NaN where these are equal."""
    direction = end - start
    length = float(direction @ direction)
    return np.asarray((x - start) @ direction / length) if length > 0 else np.full(len(x), np.nan)
