"""cell_counts: the number of cells of every well -> its ratio to control wells, of wells and of treatments, and a test.

The test asks whether the wells of a treatment have another number of cells than control wells on average, and not
whether they resemble each other: a loss of cells that differs between replicates is a loss.
"""

from functools import partial
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped

from cellssl.profiling.activity_design import ActivityDesign
from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.permutation_test import permutation_p_value
from cellssl.profiling.retrieval import ROUNDING
from cellssl.profiling.well_intervals import interval, resampled
from cellssl.randomness import generator

HALF_A_CELL = 0.5
"""Added to every count, so that a well without cells has a logarithm."""
DRAWS_AT_ONCE = 4_000


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


def count_p_values(
    cells: Shaped[np.ndarray, "n"],
    plates: Labels,
    is_control: Bool[np.ndarray, "n"],
    treatments: Labels,
    *,
    blocks: Labels | None = None,
    reference: Literal["controls", "all"] = "controls",
    null_size: int = 10_000,
    seed: int = 0,
) -> dict[str, float]:
    """Return for every treatment the two-sided p-value of the mean log ratio of its cells to controls of the plate.

    It is that of a permutation test. Labels "treated" and "control" change between wells of one plate that have equal
    `blocks`, and ratios are to the wells that are controls then; p is the share of relabelings whose mean differs from
    the mean over all relabelings by at least as much as the observed one. All relabelings are counted where they are
    `null_size` at most; else they are drawn until 100 of them reach the observed value (Besag and Clifford 1991,
    doi:10.1093/biomet/78.2.301), or `null_size` times. With the reference `all`, all other wells of a plate are its
    controls. Tested are the wells that `activity` tests; a treatment without a test has NaN.
    """
    design = ActivityDesign.of(treatments, is_control, plates, blocks, reference)
    logs, found = _logarithms(cells), dict.fromkeys(design.names, np.nan)
    for number, name in enumerate(design.names):
        if not len(design.tested[number]):
            continue
        rows = design.compared(number, all_plates=False)
        is_treated = np.isin(rows, design.tested[number])
        parts = _parts_of_mean(logs[rows], is_treated, design.plate[rows], design.block[rows])
        rng = generator("relabelings of counts", seed, name)
        reached_by = partial(_reached, parts, abs(parts[is_treated].sum()))
        found[name], _ = permutation_p_value(
            design.relabelings(number, rows), reached_by, null_size, DRAWS_AT_ONCE, rng
        )
    return found


def _parts_of_mean(
    logs: Float[np.ndarray, "w"],
    is_treated: Bool[np.ndarray, "w"],
    plate: Int[np.ndarray, "w"],
    block: Int[np.ndarray, "w"],
) -> Float[np.ndarray, "w"]:
    """Return numbers whose sum over treated wells is their mean log ratio, minus its mean over all relabelings.

    This holds for every relabeling: on a plate with m controls among n wells, the mean of wells that are treated now is
    n / m times as far from that of the controls as from that of all.
    """
    around = logs - (np.bincount(block, logs) / np.maximum(np.bincount(block), 1))[block]
    controls = np.bincount(plate, ~is_treated)[plate]
    return np.asarray(around * np.bincount(plate)[plate] / controls / is_treated.sum())


def _reached(parts: Float[np.ndarray, "w"], observed: float, draws: Int[np.ndarray, "b k"]) -> Int[np.ndarray, "h"]:
    """Return the draws with a sum of parts that is at least as far from 0 as the observed one."""
    return np.flatnonzero(np.abs(parts[draws].sum(axis=1)) >= observed - ROUNDING)


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
