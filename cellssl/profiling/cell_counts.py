"""cell_counts: the number of cells of every well -> its ratio to control wells, of wells and of treatments."""

from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.well_intervals import interval, resampled

HALF_A_CELL = 0.5
"""Added to every count, so that a well without cells has a logarithm."""


def well_count_ratios(
    cells: Shaped[np.ndarray, "n"],
    plates: Labels,
    is_control: Bool[np.ndarray, "n"],
    *,
    reference: Literal["controls", "all"] = "controls",
) -> Float[np.ndarray, "n"]:
    """Return the cells of each well divided by those of the control wells of its plate (their geometric mean).

    Wells without cells belong in: their ratio is near 0. With the reference `all`, wells are compared with the median
    well of their plate. A plate without control wells has NaN.
    """
    logs, (_, plate) = _logarithms(cells), codes(plates)
    found = np.full(len(logs), np.nan)
    for number in np.unique(plate):
        here = plate == number
        compared = logs[here & is_control] if reference == "controls" else logs[here]
        if len(compared):
            found[here] = logs[here] - (compared.mean() if reference == "controls" else np.median(compared))
    return np.asarray(np.exp(found))


def treatment_count_ratios(
    cells: Shaped[np.ndarray, "n"],
    plates: Labels,
    is_control: Bool[np.ndarray, "n"],
    treatments: Labels,
    *,
    reference: Literal["controls", "all"] = "controls",
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per treatment, sorted by name: treatment, ratio, low, high.

    The ratio is the geometric mean of the ratios of its wells. The 95 % interval is a bootstrap over its wells and over
    the control wells of each plate; with one well there is none. Control wells have no treatment.
    """
    ratios = np.log(well_count_ratios(cells, plates, is_control, reference=reference))
    names, treatment = codes(treatments)
    _, plate = codes(plates)
    errors = _errors_of_centres(_logarithms(cells), plate, is_control & (reference == "controls"), draws, seed)
    rows = []
    for number, name in enumerate(names):
        here = np.flatnonzero((treatment == number) & ~is_control & ~np.isnan(ratios))
        ratio = float(np.exp(ratios[here].mean())) if len(here) else np.nan
        rows.append((name, ratio, *_interval(ratios[here], [errors[plate[row]] for row in here], draws, seed, name)))
    return pd.DataFrame(rows, columns=["treatment", "ratio", "low", "high"])


def _logarithms(cells: Shaped[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    return np.asarray(np.log(cells + HALF_A_CELL))


def _errors_of_centres(
    logs: Float[np.ndarray, "n"], plate: Int[np.ndarray, "n"], is_control: Bool[np.ndarray, "n"], draws: int, seed: int
) -> dict[int, Float[np.ndarray, "draws"]]:
    """Return for each plate how much the mean of its control wells differs in bootstrap samples of them."""
    errors = {}
    for number in np.unique(plate).tolist():
        controls = logs[is_control & (plate == number)]
        times = resampled(len(controls), draws, "controls", number, seed) if len(controls) else np.zeros((draws, 0))
        errors[number] = times @ (controls - controls.mean()) / len(controls) if len(controls) else np.zeros(draws)
    return errors


def _interval(
    ratios: Float[np.ndarray, "k"], errors: list[Float[np.ndarray, "draws"]], draws: int, seed: int, name: str
) -> tuple[float, float]:
    """Return the interval of the mean of some logarithms, whose centres have errors, as ratios."""
    if len(ratios) < 2:
        return np.nan, np.nan
    times = resampled(len(ratios), draws, "counts", name, seed)
    means = (times * (ratios - np.stack(errors, axis=1))).sum(axis=1) / len(ratios)
    low, high = interval(means, len(ratios))
    return float(np.exp(low)), float(np.exp(high))
