"""effects: profiles of wells -> how far each well and each treatment lies from the control wells, with intervals.

The unit is the distance of a typical control well from the others, so 1 means: as far as a control well. The effect of
a treatment is how far its wells lie in common: what single wells vary is taken off, so that a treatment without an
effect lies near 0, however many wells it has.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.linalg import cho_factor, solve_triangular
from scipy.stats import rankdata

from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.one_thread import one_thread
from cellssl.profiling.well_intervals import interval, resampled
from cellssl.profiling.well_scale import feature_scale, plate_medians
from cellssl.randomness import generator

Reference = Literal["controls", "all"]
MOST_OF_FEATURE, MOST_OF_WELL = 5.0, 3.0
"""A deviation of a control well counts as at most this many times the spread of the feature, and as at most this many
times the length of a typical deviation."""
COVARIANCE_WELLS = 3
"""Where a half of the control wells, less one per plate, is fewer than this, features count as independent."""


@dataclass(frozen=True)
class WellEffects:
    """Distances of wells from the controls, in units of a typical control well."""

    effect: Float[np.ndarray, "n"]
    """One per well; NaN where the plate of a well has no other control well."""
    unit: float
    """Median Mahalanobis distance of control wells, by which distances are divided."""
    unit_wells: int
    """Number of wells that the unit is from: control wells that others could measure. 0 where there is no such well;
    then the unit is the median of all wells, and effects rank wells only: 1 is not a control well."""
    treatments: tuple[str, ...]
    """Names of the treatments, sorted."""
    products: tuple[Float[np.ndarray, "_ _"], ...]
    """For each treatment, the inner products of its wells in units of the control wells: the square of the distance of
    a mean of its wells is the mean of these."""


@dataclass(frozen=True)
class _Wells:
    """The wells, and which are the reference."""

    x: Float[np.ndarray, "n d"]
    plate: Int[np.ndarray, "n"]
    is_reference: Bool[np.ndarray, "n"]
    treatment: Int[np.ndarray, "n"]
    half: Int[np.ndarray, "n"]
    """0 or 1 for wells that fit one half; 2 for a reference well that is the only one of its plate, and fits both."""


def well_effects(
    x: Float[np.ndarray, "n d"],
    plates: Labels,
    is_control: Bool[np.ndarray, "n"],
    treatments: Labels,
    *,
    reference: Reference = "controls",
    seed: int = 0,
) -> WellEffects:
    """Return the robust Mahalanobis distance of every well from the control wells of its plate.

    The median of the control wells of a plate is its centre, and their covariance is pooled over plates: features are
    scaled robustly, deviations are winsorised, and the covariance is shrunk (Ledoit and Wolf 2004,
    doi:10.1016/S0047-259X(03)00096-4), so that it exists with fewer wells than features. Control wells are split in two
    halves, plate by plate. A control well is measured by what the other half fits, and a treated well by both (root
    mean square), so that a treated well without an effect is as far away as a control well.

    With the reference `all`, all wells take the part of the control wells, and the wells of a treatment are in the same
    half and measured by the other. With few control wells, features count as independent; with one per plate, their
    scale is that of all wells. Control wells and wells without a label belong to no treatment. Where no well is
    measured, as where profiles are all equal, effects are 0 or NaN.
    """
    wells = _split(x.astype(np.float64), plates, is_control, treatments, reference, seed)
    names = codes(treatments)[0]
    with one_thread():
        measured = [_measured(wells, half) for half in (0, 1)]
    uses = [_measured_wells(wells, half, reference) for half in (0, 1)]
    squares = _mean_of_halves([np.square(z).sum(axis=1) for z in measured], uses)
    distance = np.sqrt(squares)
    among_reference = distance[wells.is_reference & ~np.isnan(distance)]
    among_all = distance[~np.isnan(distance)]
    found = among_reference if len(among_reference) else among_all
    unit = float(np.median(found)) if len(found) else np.nan
    divisor = unit if unit > 0 else np.inf
    products = [
        _products(measured, uses, np.flatnonzero((wells.treatment == number) & ~np.isnan(distance))) / divisor**2
        for number in range(len(names))
    ]
    return WellEffects(distance / divisor, unit, len(among_reference), tuple(names), tuple(products))


def treatment_effects(measured: WellEffects, *, draws: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Return one row per treatment, sorted by name: treatment, wells, effect, low, high and rank (1 is the largest).

    The square of an effect is the mean inner product of two different wells of the treatment, which is that of the
    shift that they have in common: unlike the length of their mean, it does not contain how wells differ. Where it is
    negative, the effect is 0. For one well it is the square of its distance less that of a typical control well. The
    95 % interval is a bootstrap over these wells (not over the control wells), moved so that it is centred on the
    effect. With one well there is no interval, and without wells no effect.
    """
    rows = []
    for name, products in zip(measured.treatments, measured.products, strict=True):
        count = len(products)
        square = _common_square(products) if count else np.nan
        rows.append(
            (
                name,
                count,
                np.sqrt(max(square, 0.0)) if count else np.nan,
                square,
                *_interval(products, name, draws, seed),
            )
        )
    table = pd.DataFrame(rows, columns=["treatment", "wells", "effect", "square", "low", "high"])
    rank = rankdata(-table["square"], method="min", nan_policy="omit")
    return table.drop(columns="square").assign(rank=rank)


def _common_square(products: Float[np.ndarray, "k k"]) -> float:
    """Return the square of the shift that wells have in common; negative where they have none."""
    count = len(products)
    if count == 1:
        return float(products[0, 0]) - 1
    return float((products.sum() - np.trace(products)) / (count * (count - 1)))


def _interval(products: Float[np.ndarray, "k k"], name: str, draws: int, seed: int) -> tuple[float, float]:
    count = len(products)
    if count < 2:
        return np.nan, np.nan
    times = resampled(count, draws, "effects", name, seed) / count
    squares = np.einsum("ij,jk,ik->i", times, products, times, optimize=True)
    low, high = interval(squares - squares.mean() + _common_square(products), count)
    return float(np.sqrt(max(low, 0))), float(np.sqrt(max(high, 0)))


def _split(
    x: Float[np.ndarray, "n d"],
    plates: Labels,
    is_control: Bool[np.ndarray, "n"],
    treatments: Labels,
    reference: Reference,
    seed: int,
) -> _Wells:
    """Return the wells with their halves."""
    plate, treatment = codes(plates)[1], codes(treatments)[1]
    treatment = np.where(is_control, -1, treatment)
    is_reference = is_control.copy() if reference == "controls" else np.ones(len(x), bool)
    is_reference &= plate >= 0
    if reference == "controls":
        half = _halves_of_plates(plate, is_reference, seed)
    else:
        half = _halves_of_treatments(plate, treatment, seed)
    return _Wells(x, plate, is_reference, treatment, half)


def _halves_of_plates(
    plate: Int[np.ndarray, "n"], is_reference: Bool[np.ndarray, "n"], seed: int
) -> Int[np.ndarray, "n"]:
    """Return the half of each reference well, so that halves of every plate have the same size, or differ by one."""
    half = np.full(len(plate), -1)
    larger = 0
    for number in np.unique(plate[is_reference]).tolist():
        rows = np.flatnonzero(is_reference & (plate == number))
        rows = generator("halves of controls", seed, number).permutation(rows)
        half[rows] = (np.arange(len(rows)) + larger) % 2 if len(rows) > 1 else 2
        larger = (larger + len(rows)) % 2
    return half


def _halves_of_treatments(
    plate: Int[np.ndarray, "n"], treatment: Int[np.ndarray, "n"], seed: int
) -> Int[np.ndarray, "n"]:
    """Return the half of each well: that of its treatment, or its own where it has none."""
    unit = np.where(treatment >= 0, treatment, treatment.max(initial=-1) + 1 + np.arange(len(treatment)))
    _, unit = np.unique(unit, return_inverse=True)
    count = int(unit.max(initial=-1)) + 1
    half_of = np.empty(count, np.int64)
    half_of[generator("halves of treatments", seed).permutation(count)] = np.arange(count) % 2
    return np.where(plate >= 0, half_of[unit], -1)


def _measured(wells: _Wells, half: int) -> Float[np.ndarray, "n d"]:
    """Return every well as this half of the reference sees it: its centre at 0, and its covariance the identity.

    Rows of plates without a fitting well are NaN.
    """
    fits = wells.is_reference & ((wells.half == half) | (wells.half == 2))
    scale = feature_scale(wells.x, wells.plate, fits)
    centres = plate_medians(wells.x, wells.plate, fits)
    z = (wells.x - centres[wells.plate]) / scale
    z[wells.plate < 0] = np.nan
    free = int(fits.sum()) - len(np.unique(wells.plate[fits]))
    if free < COVARIANCE_WELLS:
        return np.asarray(z)
    factor = _cholesky(_winsorised(z[fits]))
    known = ~np.isnan(z).any(axis=1)
    z[known] = solve_triangular(factor, z[known].T, lower=True, check_finite=False).T
    return np.asarray(z)


def _winsorised(deviations: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    """Return deviations without the influence of a few broken wells.

    A whole well is drawn in, as clipping every feature by itself would change how they depend on each other.
    """
    clipped = np.clip(deviations, -MOST_OF_FEATURE, MOST_OF_FEATURE)
    length = np.linalg.norm(clipped, axis=1, keepdims=True)
    return np.asarray(clipped * np.minimum(1, MOST_OF_WELL * np.median(length) / np.where(length > 0, length, 1)))


def _cholesky(deviations: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "d d"]:
    """Return the lower Cholesky factor of the shrunken covariance of deviations from their centres."""
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(deviations, assume_centered=True)
    mean_variance = float(np.trace(covariance)) / len(covariance)
    if mean_variance <= 0:
        return np.eye(len(covariance))
    # features that do not vary have variance 0 and value 0; the added diagonal lets the factor exist
    covariance[np.diag_indices_from(covariance)] += 1e-9 * mean_variance
    return np.asarray(np.tril(cho_factor(covariance, lower=True)[0]))


def _measured_wells(wells: _Wells, half: int, reference: Reference) -> Bool[np.ndarray, "n"]:
    """Return which wells are measured by what this half fits: the other half, and wells that are no reference."""
    is_fitted = np.isin(wells.plate, wells.plate[wells.is_reference & np.isin(wells.half, [half, 2])])
    if reference == "all":
        return np.asarray(is_fitted & (wells.half == 1 - half))
    return np.asarray(is_fitted & (~wells.is_reference | (wells.half == 1 - half)))


def _mean_of_halves(each: list[Float[np.ndarray, "n"]], uses: list[Bool[np.ndarray, "n"]]) -> Float[np.ndarray, "n"]:
    """Return the mean over the halves that measure a well; NaN where neither does."""
    used = np.stack(uses)
    total = np.where(used, np.stack(each), 0).sum(axis=0)
    return np.divide(total, used.sum(axis=0), out=np.full(len(total), np.nan), where=used.any(axis=0))


def _products(
    measured: list[Float[np.ndarray, "n d"]], uses: list[Bool[np.ndarray, "n"]], rows: Int[np.ndarray, "k"]
) -> Float[np.ndarray, "k k"]:
    """Return the inner products of some wells, as the mean over the halves that measure both of a pair."""
    total, times = np.zeros((2, len(rows), len(rows)))
    for z, use in zip(measured, uses, strict=True):
        both = np.outer(use[rows], use[rows])
        part = np.where(use[rows, None], z[rows], 0)
        total += np.where(both, part @ part.T, 0)
        times += both
    return np.asarray(np.divide(total, times, out=np.zeros_like(total), where=times > 0))
