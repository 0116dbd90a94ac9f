"""control_spread: rows of many plates, some of them controls -> the scale of every feature, pooled over plates.

Parts of tables have one row per feature here, some features at a time, because medians make copies.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int

from cellssl.profiling.moments import NORMAL_MAD, features, rounding, zero_to_infinity
from cellssl.profiling.normaliser import ReferenceRows

RATIO_FEATURES = 200
"""Features from which a usual ratio is computed; more would take time and change little."""

CentreAndScale = Callable[[np.ndarray, np.dtype], tuple[np.ndarray, np.ndarray]]
"""Features (d, m) and the dtype that they had -> their centre and scale (d,); the scale is 0 where they do not vary."""


def median_and_mad(
    x: Float[np.ndarray, "d m"], dtype: np.dtype
) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d"]]:
    """Return the median and 1.4826 times the median absolute deviation; the standard deviation where that is 0."""
    centre = np.median(x, axis=1)
    return centre, _spread(x - centre[:, None], rounding(centre, dtype))


def low_and_width(
    x: Float[np.ndarray, "d m"], dtype: np.dtype
) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d"]]:
    """Return the 1st percentile and the distance of the 99th from it."""
    low, high = np.percentile(x, [1, 99], axis=1)
    return low, np.where(x.std(axis=1) > rounding(low, dtype), high - low, 0.0)


def pooled_scale(rows: ReferenceRows) -> Float[np.ndarray, "d"]:
    """Return the spread of every feature among controls around the median of their plate, pooled over plates.

    Where the median absolute deviation is 0, it is the standard deviation; where that is 0, that of all rows; infinite
    where a feature varies nowhere.
    """
    controls = np.flatnonzero(rows.is_control)
    scale = np.concatenate([_spread(*each) for each in _deviations(rows, controls, None, median_and_mad)])
    constant = np.flatnonzero(scale == 0)
    over_all = [_std(*each) for each in _deviations(rows, None, constant, median_and_mad)]
    scale[constant] = np.concatenate([np.zeros(0), *over_all])
    return zero_to_infinity(scale)


def usual_scale(rows: ReferenceRows, centre_and_scale: CentreAndScale) -> Float[np.ndarray, "d"]:
    """Return the scale of every feature for plates whose controls do not vary in it.

    It is its median scale on the plates where it has one; else its scale over all rows, divided by the median over
    other features of this scale and that of controls. So a feature in which only treated cells differ counts as much as
    a usual one. scikit-learn's scale of 1 would depend on its unit, and pycytominer's epsilon would let it outweigh all
    others. Infinite where a feature varies nowhere.
    """
    numbers = np.unique(rows.plate[rows.is_control]).tolist()
    of_plates = np.stack([_scale_of_plate(rows, number, centre_and_scale) for number in numbers])
    scale = np.asarray(np.ma.median(np.ma.masked_equal(of_plates, 0), axis=0).filled(0), np.float64)
    constant = np.flatnonzero(scale == 0)
    if len(constant):
        varying = np.flatnonzero((of_plates > 0).all(axis=0))[:RATIO_FEATURES]
        ratios = _scale_over_all(rows, varying, centre_and_scale) / scale[varying]
        usual_ratio = float(np.median(ratios[ratios > 0])) if (ratios > 0).any() else 1.0
        scale[constant] = _scale_over_all(rows, constant, centre_and_scale) / usual_ratio
    return zero_to_infinity(scale)


def of_controls(
    controls: Float[np.ndarray, "m d"], centre_and_scale: CentreAndScale, usual: Float[np.ndarray, "d"]
) -> dict[str, np.ndarray]:
    """Return the centre and scale of the controls of a plate; the usual scale where they do not vary."""
    parts = [centre_and_scale(part, controls.dtype) for part in features(controls)]
    centre, scale = (np.concatenate(each) for each in zip(*parts, strict=True))
    return {"centre": centre, "scale": np.where(scale > 0, scale, usual)}


def _scale_of_plate(rows: ReferenceRows, plate: int, centre_and_scale: CentreAndScale) -> Float[np.ndarray, "d"]:
    controls = np.flatnonzero(rows.is_control & (rows.plate == plate))
    return np.concatenate([centre_and_scale(part, rows.x.dtype)[1] for part in features(rows.x, controls)])


def _scale_over_all(
    rows: ReferenceRows, columns: Int[np.ndarray, "c"], centre_and_scale: CentreAndScale
) -> Float[np.ndarray, "c"]:
    """Return the scale of some features over all rows; their standard deviation where most of them are equal."""
    found = [np.zeros(0)]
    for deviation, least in _deviations(rows, None, columns, centre_and_scale):
        scale, std = centre_and_scale(deviation, rows.x.dtype)[1], _std(deviation, least)
        found.append(np.where((scale > 0) & (std > 0), scale, std))
    return np.concatenate(found)


def _deviations(
    rows: ReferenceRows, taken: Int[np.ndarray, "m"] | None, columns: Int[np.ndarray, "c"] | None, of: CentreAndScale
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the differences from the centre of the controls of the same plate; of all its rows where it has none.

    With them comes the largest difference of every feature that may be a rounding error.
    """
    plate = rows.plate if taken is None else rows.plate[taken]
    is_control = rows.is_control if taken is None else rows.is_control[taken]
    members = [np.flatnonzero(plate == number) for number in np.unique(plate)]
    for x in features(rows.x, taken, columns):
        least = np.zeros(len(x))
        for here in members:
            chosen = here[is_control[here]]
            centre = of(x[:, chosen if len(chosen) else here], rows.x.dtype)[0]
            x[:, here] -= centre[:, None]
            least = np.maximum(least, rounding(centre, rows.x.dtype))
        yield x, least


def _spread(deviation: Float[np.ndarray, "d m"], least: Float[np.ndarray, "d"]) -> Float[np.ndarray, "d"]:
    mad, std = NORMAL_MAD * np.median(np.abs(deviation), axis=1), _std(deviation, least)
    return np.where((mad > 0) & (std > 0), mad, std)


def _std(deviation: Float[np.ndarray, "d m"], least: Float[np.ndarray, "d"]) -> Float[np.ndarray, "d"]:
    """Return the standard deviation; 0 where it is only a rounding error."""
    std = deviation.std(axis=1)
    return np.where(std > least, std, 0.0)
