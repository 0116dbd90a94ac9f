"""control_spread: rows of many plates, some of them controls -> centre and spread of every feature by plate or pooled.

All functions work on some features at a time, because medians make copies.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from cellssl.profiling.moments import NORMAL_MAD, features, rounding, zero_to_infinity
from cellssl.profiling.normaliser import ReferenceRows


def pooled_scale(rows: ReferenceRows) -> Float[np.ndarray, "d"]:
    """Return the spread of every feature among controls around the median of their plate, pooled over plates."""
    plate = np.unique(rows.plate, return_inverse=True)[1].ravel()
    scales = [_pooled(part, plate, rows.is_control, rows.x.dtype) for part in features(rows.x)]
    return zero_to_infinity(np.concatenate(scales))


def _pooled(
    x: Float[np.ndarray, "d n"], plate: Int[np.ndarray, "n"], is_control: Bool[np.ndarray, "n"], dtype: np.dtype
) -> Float[np.ndarray, "d"]:
    centre = plate_medians(x, plate, is_control)
    deviation = x - centre[:, plate]
    deviation[np.abs(deviation) <= rounding(centre, dtype)[:, plate]] = 0.0
    of_controls = deviation[:, is_control]
    mad = NORMAL_MAD * np.median(np.abs(of_controls), axis=1)
    scale = np.where(mad > 0, mad, of_controls.std(axis=1))
    return np.where(scale > 0, scale, deviation.std(axis=1))


def plate_medians(
    x: Float[np.ndarray, "d n"], plate: Int[np.ndarray, "n"], is_control: Bool[np.ndarray, "n"]
) -> Float[np.ndarray, "d plates"]:
    """Return the median of the controls of every plate; of all its rows where it has none."""
    medians = []
    for number in range(int(plate.max()) + 1):
        here = plate == number
        chosen = here & is_control
        medians.append(np.median(x[:, chosen if chosen.any() else here], axis=1))
    return np.stack(medians, axis=1)
