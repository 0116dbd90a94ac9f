"""changed_cells: cells of treated and of control wells -> at least which share of a treatment's cells are changed.

The cells of a treatment are a mixture: a share of changed cells among cells as in control wells. Whatever the changed
cells look like, a region that holds a share t of the treated cells and c of the control cells says that at least
(t - c) / (1 - c) of them are changed (Blanchard, Lee and Scott 2010, section 4; Patra and Sen 2016,
doi:10.1111/rssb.12148). Regions are half-spaces of a linear discriminant, fitted on other wells than those that count.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32, Float64, Int
from scipy.linalg import cho_factor, cho_solve

from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.one_thread import one_thread
from cellssl.profiling.well_intervals import interval, resampled
from cellssl.randomness import generator

CONTROL_CELLS = 2_000
"""Control cells of a plate that are looked at, at most."""
ALL_CONTROL_CELLS = 20_000
"""Control cells of all plates that are looked at, at most."""
TREATED_CELLS = 1_000
"""Cells of a treated well that are looked at, at most."""
FOLDS = 8
"""A treatment with more wells is left out in this many groups of wells."""
LEVELS = (0.75, 0.9, 0.95, 0.98)
"""Thresholds that are tried: these quantiles of the scores of control cells."""
CAUTION = 1.64
"""A threshold is chosen by its estimate minus this many standard errors."""


@dataclass(frozen=True)
class _Controls:
    """A sample of control cells of one plate, in the order of their wells."""

    x: Float32[np.ndarray, "m d"]
    well: Int[np.ndarray, "m"]
    half: Int[np.ndarray, "m"]
    """0 or 1: that of its well, or of the cell where the plate has one control well."""

    def mean(self, half: int) -> Float64[np.ndarray, "d"]:
        """Return the mean cell of one half."""
        return np.asarray(self.x[self.half == half].mean(axis=0, dtype=np.float64))


@dataclass(frozen=True)
class _Discriminant:
    """What turns differences of means into directions: the scale and the shrunken covariance of some control cells."""

    scale: Float[np.ndarray, "d"]
    factor: Float[np.ndarray, "d d"]

    def directions(self, differences: Float[np.ndarray, "r d"]) -> Float32[np.ndarray, "d r"]:
        """Return one direction per difference."""
        solved = cho_solve((self.factor, True), (differences / self.scale).T, check_finite=False)
        return np.asarray(solved / self.scale[:, None], np.float32)


@dataclass(frozen=True)
class _Cells:
    """The table, and what all treatments share."""

    x: Float32[np.ndarray, "n d"]
    plate: Int[np.ndarray, "n"]
    well: Int[np.ndarray, "n"]
    controls: dict[int, _Controls]
    """Number of the plate -> its control cells."""
    discriminants: tuple[_Discriminant, _Discriminant]
    """What each half of the controls fits."""


@dataclass(frozen=True)
class _Fold:
    """How often cells lie beyond the threshold, in wells that did not fit it."""

    treated: list[tuple[int, float]]
    """Number of the plate and share, for each well that was left out."""
    controls: dict[int, tuple[Int[np.ndarray, "w"], Int[np.ndarray, "w"]]]
    """Number of the plate -> cells beyond the threshold, and cells, of each control well that was left out."""


def changed_share(
    cells: Float32[np.ndarray, "n d"],
    plates: Labels,
    wells: Labels,
    treatments: Labels,
    is_control: Bool[np.ndarray, "n"],
    *,
    reference: Literal["controls", "all"] = "controls",
    draws: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return one row per treatment, sorted by name: treatment, share, low, high; share is that of changed cells.

    All arguments have one entry per cell; wells of different plates have different labels. At least this share of the
    cells of a treatment look unlike control cells. Each well of a treatment is left out in turn: the direction is that
    of a linear discriminant from its other wells and half of the control wells, as is the threshold; the estimate is
    (t - c) / (1 - c) of this well and the other half, as the mean over wells and halves. The share is this estimate
    minus one standard error, which follows from how much control wells differ, and is cut to [0, 1]. So a treatment
    without an effect has about 0, also where wells differ. Cells are compared within plates.

    The 95 % interval is a bootstrap of the estimate over treated and over control wells. A treatment with one well is
    split by cells and has no interval: as cells of a well resemble each other, its share counts only above that of
    control wells that are measured the same way (their mean and one standard deviation). With the reference `all`,
    cells of all other wells of the plate are the controls.
    Treatments on plates without controls have NaN. Samples of cells are looked at, so memory does not grow with `n`.
    """
    data = _prepared(cells, codes(plates)[1], codes(wells)[1], is_control, reference, seed)
    names, treatment = codes(treatments)
    treatment = np.where(is_control, -1, treatment)
    rows = []
    with one_thread():
        usual = None
        for number, name in enumerate(names):
            members = np.flatnonzero(treatment == number) if data else np.zeros(0, np.int64)
            if data is not None:
                members = _sampled(members[np.isin(data.plate[members], list(data.controls))], data.well, seed)
            if data is None or len(members) < 2:
                rows.append((name, np.nan, np.nan, np.nan))
            elif len(np.unique(data.well[members])) == 1:
                usual = _share_of_single_controls(data, seed) if usual is None else usual
                alone = _mean_share(list(_folds(data, members, _halves_of_cells(members, seed))))
                rows.append((name, _cut((alone - usual) / (1 - usual)), np.nan, np.nan))
            else:
                folds = list(_folds(data, members, _folds_of_wells(data.well[members], seed)))
                share = _cut(_mean_share(folds) - _standard_error(folds))
                low, high = _interval(folds, draws, seed, name)
                rows.append((name, share, min(low, share), high))
    return pd.DataFrame(rows, columns=["treatment", "share", "low", "high"])


def _cut(share: float) -> float:
    return float(np.clip(share, 0, 1))


def _prepared(
    cells: Float32[np.ndarray, "n d"],
    plate: Int[np.ndarray, "n"],
    well: Int[np.ndarray, "n"],
    is_control: Bool[np.ndarray, "n"],
    reference: Literal["controls", "all"],
    seed: int,
) -> _Cells | None:
    """Return the cells with samples of controls, and what these fit; None without controls."""
    is_reference = (is_control if reference == "controls" else np.ones(len(well), bool)) & (well >= 0) & (plate >= 0)
    numbers = np.unique(plate[is_reference]).tolist()
    at_most = min(CONTROL_CELLS, ALL_CONTROL_CELLS // max(1, len(numbers)))
    controls = {}
    for number in numbers:
        rows = np.flatnonzero(is_reference & (plate == number))
        rng = generator("control cells", seed, number)
        rows = np.sort(rng.choice(rows, at_most, replace=False)) if len(rows) > at_most else rows
        rows = rows[np.argsort(well[rows], kind="stable")]
        half = _half_of(well[rows], rng)
        if len(np.unique(half)) == 2:
            controls[number] = _Controls(np.asarray(cells[rows]), well[rows], half)
    if not controls:
        return None
    with one_thread():
        first, second = (_discriminant(controls, half) for half in (0, 1))
    return _Cells(cells, plate, well, controls, (first, second))


def _half_of(well: Int[np.ndarray, "m"], rng: np.random.Generator) -> Int[np.ndarray, "m"]:
    """Return the half of each control cell of a plate: that of its well, if there are two."""
    wells, number = np.unique(well, return_inverse=True)
    if len(wells) == 1:
        return np.asarray(rng.permutation(len(well)) % 2)
    return np.asarray((rng.permutation(len(wells)) % 2)[number])


def _discriminant(controls: dict[int, _Controls], half: int) -> _Discriminant:
    """Return what one half of the controls fits, from their differences from the mean cell of their plate."""
    from sklearn.covariance import ledoit_wolf

    inside = np.concatenate([each.x[each.half == half] - each.mean(half) for each in controls.values()])
    scale = inside.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 1e-6 * np.max(scale, initial=0), scale, np.inf)
    covariance, _ = ledoit_wolf(inside / scale, assume_centered=True)
    diagonal = np.diag_indices_from(covariance)
    covariance[diagonal] += np.where(np.isfinite(scale), 1e-6, 1)
    return _Discriminant(scale, cho_factor(covariance, lower=True)[0])


def _sampled(rows: Int[np.ndarray, "m"], well: Int[np.ndarray, "n"], seed: int) -> Int[np.ndarray, "k"]:
    """Return the rows, without those beyond the number of cells of a well that are looked at, in ascending order."""
    rng = generator("treated cells", seed)
    kept = []
    for number in np.unique(well[rows]):
        here = rows[well[rows] == number]
        kept.append(rng.choice(here, TREATED_CELLS, replace=False) if len(here) > TREATED_CELLS else here)
    return np.sort(np.concatenate(kept)) if kept else rows


def _folds_of_wells(well: Int[np.ndarray, "m"], seed: int) -> Int[np.ndarray, "m"]:
    """Return the fold of each cell; cells of a well have the same."""
    wells, number = np.unique(well, return_inverse=True)
    order = generator("folds of wells", seed).permutation(len(wells))
    return np.asarray((order % FOLDS)[number])


def _halves_of_cells(rows: Int[np.ndarray, "m"], seed: int) -> Int[np.ndarray, "m"]:
    return np.asarray(generator("halves of a well", seed).permutation(len(rows)) % 2)


def _folds(data: _Cells, rows: Int[np.ndarray, "m"], fold: Int[np.ndarray, "m"]) -> Iterator[_Fold]:
    """Yield the counts of every fold and every half of the controls.

    There are two directions per fold: from all cells of the other folds, whose scores count; and from half of these
    cells, so that the scores of the others choose the threshold.
    """
    x, plate, well = np.asarray(data.x[rows]), data.plate[rows], data.well[rows]
    part = np.arange(len(rows)) % 2
    controls = {number: _without(data.controls[number], np.unique(well)) for number in np.unique(plate).tolist()}
    numbers = np.unique(fold).tolist()
    for half, discriminant in enumerate(data.discriminants):
        centres = {number: each.mean(half) for number, each in controls.items()}
        chosen = [fold != number for number in numbers] + [(fold != number) & (part == 0) for number in numbers]
        differences = np.stack([_difference(x, plate, well, each, centres) for each in chosen])
        directions = discriminant.directions(differences)
        offsets = {number: (centre @ directions).astype(np.float32) for number, centre in centres.items()}
        scores = x @ directions
        for number, offset in offsets.items():
            scores[plate == number] -= offset
        of_controls = {number: each.x @ directions - offsets[number] for number, each in controls.items()}
        for column, number in enumerate(numbers):
            inner = column + len(numbers)
            tried = scores[(fold != number) & (part == 1), inner]
            fitting = [(each, of_controls[plate_][:, inner]) for plate_, each in controls.items()]
            level = _chosen_level(tried, fitting, half, len(np.unique(well)))
            fitted = [of_controls[plate_][each.half == half, column] for plate_, each in controls.items()]
            threshold = float(np.quantile(np.concatenate(fitted), level))
            left_out = fold == number
            yield _counted(
                scores[left_out, column] > threshold,
                plate[left_out],
                well[left_out],
                {
                    plate_: (each.well[each.half != half], of_controls[plate_][each.half != half, column] > threshold)
                    for plate_, each in controls.items()
                },
            )


def _without(controls: _Controls, wells: Int[np.ndarray, "w"]) -> _Controls:
    """Return the control cells that are in none of these wells."""
    kept = ~np.isin(controls.well, wells)
    if kept.all() or len(np.unique(controls.half[kept])) < 2:
        return controls
    return _Controls(controls.x[kept], controls.well[kept], controls.half[kept])


def _difference(
    x: Float32[np.ndarray, "m d"],
    plate: Int[np.ndarray, "m"],
    well: Int[np.ndarray, "m"],
    chosen: Bool[np.ndarray, "m"],
    centres: dict[int, Float64[np.ndarray, "d"]],
) -> Float64[np.ndarray, "d"]:
    """Return how much the mean chosen cell differs from that of the controls; every well counts the same."""
    wells = [np.flatnonzero(chosen & (well == number)) for number in np.unique(well[chosen])]
    if not wells:
        return np.zeros(x.shape[1])
    means = [x[rows].mean(axis=0, dtype=np.float64) - centres[int(plate[rows[0]])] for rows in wells]
    return np.asarray(np.mean(means, axis=0))


def _chosen_level(
    tried: Float32[np.ndarray, "m"], fitting: list[tuple[_Controls, np.ndarray]], half: int, wells: int
) -> float:
    """Return the level whose cautious estimate is the largest, from cells that fit."""
    scores = np.concatenate([found[each.half == half] for each, found in fitting])
    of_well = np.unique(np.concatenate([each.well[each.half == half] for each, _ in fitting]), return_inverse=True)[1]
    size = np.bincount(of_well)
    best, chosen = -np.inf, LEVELS[-1]
    for level in LEVELS:
        threshold = np.quantile(scores, level)
        beyond = float((scores > threshold).mean())
        of_wells = np.bincount(of_well, scores > threshold) / size
        well_variance = of_wells.var(ddof=1) if len(size) > 1 else beyond * (1 - beyond) / size[0]
        error = np.sqrt(well_variance * (1 / wells + 1 / len(size))) / (1 - beyond)
        treated = float((tried > threshold).mean()) if len(tried) else 0.0
        estimate = (treated - beyond) / (1 - beyond) - CAUTION * error
        if estimate > best:
            best, chosen = estimate, level
    return chosen


def _counted(
    beyond: Bool[np.ndarray, "m"],
    plate: Int[np.ndarray, "m"],
    well: Int[np.ndarray, "m"],
    controls: dict[int, tuple[np.ndarray, np.ndarray]],
) -> _Fold:
    """Return the counts of wells that were left out."""
    treated = [(int(plate[well == one][0]), float(beyond[well == one].mean())) for one in np.unique(well)]
    counts = {}
    for number in {number for number, _ in treated}:
        of_cell, is_beyond = controls[number]
        _, index = np.unique(of_cell, return_inverse=True)
        counts[number] = (np.bincount(index, is_beyond).astype(np.int64), np.bincount(index))
    return _Fold(treated, counts)


def _mean_share(folds: list[_Fold]) -> float:
    """Return the mean share over wells and halves, which may be below 0."""
    shares = []
    for fold in folds:
        usual = {number: np.asarray(beyond.sum() / size.sum()) for number, (beyond, size) in fold.controls.items()}
        shares += [float(_bound(share, usual[number])) for number, share in fold.treated]
    return float(np.mean(shares))


def _standard_error(folds: list[_Fold]) -> float:
    """Return the standard error of the mean share, if wells of the treatment differ as control wells do."""
    variances = []
    for fold in folds:
        beyond, size = (np.concatenate(each) for each in zip(*fold.controls.values(), strict=True))
        usual = beyond.sum() / size.sum()
        variance = (beyond / size).var(ddof=1) if len(size) > 2 else usual * (1 - usual) / size.mean()
        variances.append(variance / max(1 - usual, 1e-3) ** 2)
    plates = [number for fold in folds for number, _ in fold.treated]
    weight = {number: plates.count(number) / len(plates) for number in plates}
    controls = dict.fromkeys(plates, 0)
    for fold in {tuple(sorted(fold.controls)): fold for fold in folds}.values():
        controls |= {number: 2 * len(size) for number, (_, size) in fold.controls.items()}
    wells = 2 / len(plates) + sum(weight[number] ** 2 / controls[number] for number in weight)
    return float(np.sqrt(np.mean(variances) * wells))


def _bound(treated: float, controls: np.ndarray) -> np.ndarray:
    """Return the estimate from a share of treated cells and shares of control cells beyond a threshold."""
    return np.asarray((treated - controls) / np.maximum(1 - controls, 1e-3))


def _interval(folds: list[_Fold], draws: int, seed: int, name: str) -> tuple[float, float]:
    """Return the bootstrap interval over treated wells and over control wells of each plate.

    Every control well is in one half, so the halves are resampled apart from each other.
    """
    wells = sum(len(fold.treated) for fold in folds) // 2
    times_of_well = resampled(wells, draws, "changed cells", name, seed)
    total, place = np.zeros(draws), 0
    for fold in folds:
        usual = {}
        for number, (beyond, size) in fold.controls.items():
            half = int(place >= wells)
            times = resampled(len(size), draws, "controls of changed cells", number, half, seed)
            usual[number] = (times @ beyond) / np.maximum(times @ size, 1)
        for number, share in fold.treated:
            total += times_of_well[:, place % wells] * _bound(share, usual[number])
            place += 1
    low, high = interval(total / (2 * wells), wells)
    return _cut(low), _cut(high)


def _share_of_single_controls(data: _Cells, seed: int, at_most: int = 32) -> float:
    """Return the share of control wells that are each treated like a treatment with one well: mean plus one SD."""
    shares = []
    wells = [(number, one) for number, each in data.controls.items() for one in np.unique(each.well).tolist()]
    order = generator("single control wells", seed).permutation(len(wells))[:at_most]
    for number, one in [wells[index] for index in order]:
        if len(np.unique(data.controls[number].well)) < 3:
            continue
        rows = _sampled(np.flatnonzero((data.well == one) & (data.plate == number)), data.well, seed)
        if len(rows) >= 2:
            shares.append(_mean_share(list(_folds(data, rows, _halves_of_cells(rows, seed)))))
    return float(np.clip(np.mean(shares) + np.std(shares), 0, 0.9)) if shares else 0.0
