"""dose_response: a response of every well, with compounds and doses -> EC50 where a curve fits, and a test of trend.

The curve is the logistic function of the logarithm of the dose with four parameters:
response = bottom + (top - bottom) / (1 + (ec50 / dose)^slope). Control wells have dose 0, where it is at the bottom.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.optimize import least_squares
from scipy.stats import f as f_distribution
from scipy.stats import rankdata

from cellssl.profiling.labels import Labels, codes
from cellssl.randomness import generator

LEAST_DOSES = 3
PARAMETERS = 4
BESIDE = 1.0
"""An EC50 is looked for within the tested doses and this many decades beside them."""
STEPS_PER_DECADE = 25
SLOPES = np.geomspace(0.4, 6, 25)
COARSE = 5, 12
"""The test of a curve tries every fifth EC50 and three slopes."""
PAIRS_AT_ONCE = 4_000_000
SIGNIFICANT = 0.01
"""A curve fits only where chance explains as much of the response less often than this."""
CONFIDENCE = 0.95
TESTED = ("compound", "doses", "wells", "lowest_dose_micromolar", "highest_dose_micromolar")
CURVE = ("ec50_micromolar", "ec50_low", "ec50_high", "slope", "bottom", "top")
NO_CURVE = (np.nan,) * len(CURVE)
DESCRIBED = ("fits", "fit_p_value", *CURVE, "trend", "trend_p_value", "remark")


@dataclass(frozen=True)
class _Wells:
    """Wells of one compound and control wells, whose dose is 0."""

    dose: Float[np.ndarray, "n"]
    """In micromolar."""
    response: Float[np.ndarray, "n"]
    is_control: Bool[np.ndarray, "n"]

    @property
    def logs(self) -> Float[np.ndarray, "n"]:
        """Return the logarithms of base 10 of the doses; -infinity for dose 0."""
        with np.errstate(divide="ignore"):
            return np.asarray(np.log10(self.dose))


@dataclass(frozen=True)
class _Curve:
    """A fitted curve."""

    bottom: float
    top: float
    log_ec50: float
    slope: float
    low: float
    """Ends of the 95 % interval of the logarithm of the EC50; infinite where it has no end."""
    high: float


@dataclass(frozen=True)
class _Shapes:
    """Curves from 0 to 1 at the doses of some wells, for every EC50 and slope that is tried."""

    log_ec50: Float[np.ndarray, "s"]
    slope: Float[np.ndarray, "s"]
    values: Float[np.ndarray, "s n"]

    def coarse(self) -> "_Shapes":
        """Return some of them."""
        of_slope = np.arange(len(self.slope)).reshape(-1, len(SLOPES))
        some = of_slope[:: COARSE[0], :: COARSE[1]].ravel()
        return _Shapes(self.log_ec50[some], self.slope[some], self.values[some])


def dose_response(
    response: Float[np.ndarray, "n"],
    compounds: Labels,
    dose_micromolar: Float[np.ndarray, "n"],
    is_control: Bool[np.ndarray, "n"],
    plates: Labels,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per compound with three or more different doses above 0, sorted by name.

    Its columns are `TESTED` and `DESCRIBED`.

    The control wells are those of the plates of the compound. `trend` is Kendall's tau-a of dose and response; its
    two-sided p-value is that of permuted doses (the test of Jonckheere 1954, doi:10.2307/2333011, and Terpstra, without
    its normal approximation). `fit_p_value` is the share of permutations whose best curve explains as much as that of
    the wells: the F-test against a constant, without the assumption that the best of many curves has an F distribution.

    A curve fits where this is below 0.01, its EC50 lies within the tested doses, and the 95 % interval of the EC50 ends
    within one decade beside them; else ec50, slope, bottom and top are empty and the remark says why. The interval is
    that of the profile likelihood with the variance of the treated wells around the curve. Wells of a compound at dose
    0 count as dose 0; wells without a response or with a dose that is negative or not known are left out.
    """
    names, compound = codes(compounds)
    _, plate = codes(plates)
    rows = []
    for number, name in enumerate(names):
        treated = (compound == number) & ~is_control
        known = treated & np.isfinite(response) & np.isfinite(dose_micromolar) & (dose_micromolar >= 0)
        doses = np.unique(dose_micromolar[known & (dose_micromolar > 0)])
        if len(doses) < LEAST_DOSES:
            continue
        controls = is_control & np.isfinite(response) & np.isin(plate, plate[known])
        chosen = known | controls
        wells = _Wells(np.where(controls, 0.0, dose_micromolar)[chosen], response[chosen], controls[chosen])
        left_out = int(treated.sum() - known.sum())
        rows.append(
            (name, len(doses), int(known.sum()), *doses[[0, -1]], *_described(wells, left_out, draws, seed, name))
        )
    return pd.DataFrame(rows, columns=[*TESTED, *DESCRIBED])


def _described(wells: _Wells, left_out: int, draws: int, seed: int, name: str) -> tuple[object, ...]:
    """Return the columns of `DESCRIBED` for one compound."""
    remarks = [f"{left_out} wells without a dose or a response are left out"] if left_out else []
    if np.ptp(wells.response) == 0:
        return (False, 1.0, *NO_CURVE, 0.0, 1.0, "; ".join([*remarks, "all responses are equal"]))
    orders = generator("permuted doses", name, seed).permuted(np.tile(np.arange(len(wells.dose)), (draws, 1)), axis=1)
    shapes = _shapes(wells)
    fit_p = _fit_p_value(wells, shapes.coarse(), orders)
    trend, trend_p = _trend(wells, orders)
    curve = _fitted(wells, shapes) if fit_p < SIGNIFICANT else None
    problem = _problem(wells, curve)
    if curve is None or problem:
        return (False, fit_p, *NO_CURVE, trend, trend_p, "; ".join([*remarks, problem]))
    ec50 = [float(10**value) for value in (curve.log_ec50, curve.low, curve.high)]
    return (True, fit_p, *ec50, curve.slope, curve.bottom, curve.top, trend, trend_p, "; ".join(remarks))


def _problem(wells: _Wells, curve: _Curve | None) -> str:
    """Return why a compound has no EC50; nothing where it has one."""
    if curve is None:
        return "no curve: chance explains as much too often (fit_p_value from 0.01)"
    treated = wells.logs[~wells.is_control & (wells.dose > 0)]
    if len(treated) < PARAMETERS:
        return f"no curve: {len(treated)} treated wells, and four are needed"
    if curve.log_ec50 < treated.min():
        return "no curve: its EC50 lies below the tested doses"
    if curve.log_ec50 > treated.max():
        return "no curve: its EC50 lies above the tested doses"
    open_ends = [name for name, end in (("lower", curve.low), ("upper", curve.high)) if not np.isfinite(end)]
    return f"no curve: its EC50 has no {' and no '.join(open_ends)} limit" if open_ends else ""


def _shapes(wells: _Wells) -> _Shapes:
    """Return the curves that are tried, from one decade below the tested doses to one above."""
    logs = wells.logs[wells.dose > 0]
    low, high = logs.min() - BESIDE, logs.max() + BESIDE
    grid = np.linspace(low, high, int(np.ceil((high - low) * STEPS_PER_DECADE)) + 1)
    log_ec50, slope = (each.ravel() for each in np.meshgrid(grid, SLOPES, indexing="ij"))
    return _Shapes(log_ec50, slope, _rise(wells.logs, log_ec50[:, None], slope[:, None]))


def _rise(logs: Float[np.ndarray, "n"], log_ec50: np.ndarray | float, slope: np.ndarray | float) -> np.ndarray:
    """Return the curve from 0 to 1 at logarithms of doses; one per row where EC50 and slope have one per row."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + 10 ** (slope * (log_ec50 - logs))))


def _explained(shapes: _Shapes, responses: Float[np.ndarray, "draws n"]) -> Float[np.ndarray, "draws s"]:
    """Return the share of the sum of squares that every curve explains, with the best bottom and top."""
    curves = shapes.values - shapes.values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(curves, axis=1, keepdims=True)
    curves = np.divide(curves, length, out=np.zeros_like(curves), where=length > 1e-9)
    centred = responses - responses.mean(axis=1, keepdims=True)
    total = np.square(centred).sum(axis=1, keepdims=True)
    return np.asarray(np.square(centred @ curves.T) / np.where(total > 0, total, 1))


def _fit_p_value(wells: _Wells, shapes: _Shapes, orders: Int[np.ndarray, "draws n"]) -> float:
    observed = _explained(shapes, wells.response[None]).max()
    best = np.concatenate([_explained(shapes, wells.response[part]).max(axis=1) for part in np.array_split(orders, 10)])
    return float((np.sum(best >= observed - 1e-9) + 1) / (len(orders) + 1))


def _trend(wells: _Wells, orders: Int[np.ndarray, "draws n"]) -> tuple[float, float]:
    """Return Kendall's tau-a of dose and response and its two-sided p-value."""
    observed = int(_concordance(wells, np.arange(len(wells.dose))[None])[0])
    parts = np.array_split(orders, 1 + orders.size * int((wells.dose > 0).sum()) // PAIRS_AT_ONCE)
    found = np.concatenate([_concordance(wells, part) for part in parts])
    p = (np.sum(np.abs(found) >= abs(observed)) + 1) / (len(orders) + 1)
    count = len(wells.dose)
    return 2 * observed / (count * (count - 1)), float(p)


def _concordance(wells: _Wells, orders: Int[np.ndarray, "draws n"]) -> Int[np.ndarray, "draws"]:
    """Return the pairs of wells whose order by dose and by response agrees minus those where it does not.

    Wells of dose 0 do not differ by dose. A well with a dose has for each response below its own one pair that agrees
    with a well of dose 0, and for each above one that does not; what other wells with a dose add to these numbers
    cancels out. Then come the pairs of wells that both have a dose.
    """
    rank = rankdata(wells.response, method="dense")
    lower, higher = (np.searchsorted(np.sort(rank), rank, side) for side in ("left", "right"))
    balance = lower - (len(rank) - higher)
    treated = np.flatnonzero(wells.dose > 0)
    drawn = orders[:, treated]
    by_dose = np.sign(np.subtract.outer(wells.dose[treated], wells.dose[treated])).astype(np.int64)
    by_response = np.sign(rank[drawn][:, :, None] - rank[drawn][:, None, :])
    return np.asarray(balance[drawn].sum(axis=1) + (by_response * by_dose).sum(axis=(1, 2)) // 2)


def _fitted(wells: _Wells, shapes: _Shapes) -> _Curve:
    """Return the curve of least squares, from several starts, with the interval of its EC50."""
    explained = _explained(shapes, wells.response[None])[0].reshape(-1, len(SLOPES))
    best = explained.argmax(axis=0)
    starts = {(int(best[slope]), slope) for slope in (0, 12, 24, int(explained.max(axis=0).argmax()))}
    found = min(
        (_refined(wells, float(shapes.log_ec50[row * len(SLOPES)]), float(SLOPES[slope])) for row, slope in starts),
        key=lambda parameters: float(np.square(_residuals(parameters, wells)).sum()),
    )
    total = float(np.square(wells.response - wells.response.mean()).sum())
    remaining = (1 - explained.max(axis=1)) * total
    low, high = _interval(wells, found, shapes.log_ec50[:: len(SLOPES)], remaining)
    bottom, top, log_ec50, slope = found.tolist()
    return _Curve(bottom, top, log_ec50, slope, low, high)


def _residuals(parameters: Float[np.ndarray, "4"], wells: _Wells) -> Float[np.ndarray, "n"]:
    bottom, top, log_ec50, slope = parameters.tolist()
    return np.asarray(bottom + (top - bottom) * _rise(wells.logs, log_ec50, slope) - wells.response)


def _refined(wells: _Wells, log_ec50: float, slope: float) -> Float[np.ndarray, "4"]:
    """Return bottom, top, logarithm of the EC50, and slope, from a start."""
    rise = _rise(wells.logs, log_ec50, slope)
    (bottom, span), *_ = np.linalg.lstsq(np.stack([np.ones(len(rise)), rise], axis=1), wells.response, rcond=None)
    logs = wells.logs[wells.dose > 0]
    least = [-np.inf, -np.inf, logs.min() - BESIDE, SLOPES[0]]
    most = [np.inf, np.inf, logs.max() + BESIDE, SLOPES[-1]]
    start = np.clip([bottom, bottom + span, log_ec50, slope], least, most)
    fit = least_squares(_residuals, start, bounds=(least, most), x_scale="jac", args=(wells,))
    return np.asarray(fit.x)


def _interval(
    wells: _Wells,
    found: Float[np.ndarray, "4"],
    log_ec50: Float[np.ndarray, "e"],
    remaining: Float[np.ndarray, "e"],
) -> tuple[float, float]:
    """Return the ends of the interval of the logarithm of the EC50: where curves are not clearly worse than the best.

    `remaining` is the sum of squares that the best curve with each EC50 leaves. Infinite where there is no such end.
    """
    residuals = _residuals(found, wells)
    treated = ~wells.is_control
    free = max(1, int(treated.sum()) - PARAMETERS + bool(wells.is_control.any()))
    variance = float(np.square(residuals[treated]).sum()) / free
    least = min(float(np.square(residuals).sum()), float(remaining.min()))
    allowed = least + variance * float(f_distribution.ppf(CONFIDENCE, 1, free))
    inside = np.flatnonzero(remaining <= allowed)
    if not len(inside):
        return float(found[2]), float(found[2])
    first, last = int(inside[0]), int(inside[-1])
    low = _crossing(log_ec50, remaining, first, first - 1, allowed) if first > 0 else -np.inf
    high = _crossing(log_ec50, remaining, last, last + 1, allowed) if last < len(remaining) - 1 else np.inf
    return min(low, float(found[2])), max(high, float(found[2]))


def _crossing(
    log_ec50: Float[np.ndarray, "e"], remaining: Float[np.ndarray, "e"], inside: int, outside: int, allowed: float
) -> float:
    """Return where the sum of squares reaches what is allowed, between two neighbouring EC50."""
    share = (allowed - remaining[inside]) / (remaining[outside] - remaining[inside])
    return float(log_ec50[inside] + share * (log_ec50[outside] - log_ec50[inside]))
