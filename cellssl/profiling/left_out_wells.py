"""left_out_wells: cells of one treatment and of controls -> how many lie beyond a threshold that other wells fitted."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int

from cellssl.profiling.control_cells import ControlCells, Discriminant

LEVELS = (0.75, 0.9, 0.95, 0.98)
"""Thresholds that are tried: these quantiles of the scores of control cells. At lower ones, small differences between
wells look like many changed cells."""
CAUTION = 1.64
"""A threshold is chosen by its estimate minus this many standard errors."""


@dataclass(frozen=True)
class TreatedCells:
    """The cells of one treatment."""

    x: Float32[np.ndarray, "m d"]
    """Minus the centre of the control cells of the plate."""
    plate: Int[np.ndarray, "m"]
    well: Int[np.ndarray, "m"]
    fold: Int[np.ndarray, "m"]
    """Cells of a fold are left out together."""


@dataclass(frozen=True)
class LeftOut:
    """How often cells lie beyond the threshold, in one fold and one half of the controls, which did not fit it."""

    half: int
    """The half of the controls that fitted."""
    treated: list[tuple[int, float]]
    """Number of the plate and share, for each well of the fold."""
    controls: dict[int, tuple[Int[np.ndarray, "_"], Int[np.ndarray, "_"]]]
    """Number of the plate -> cells beyond the threshold, and cells, of each control well of the other half."""


@dataclass(frozen=True)
class _Scores:
    """Scores of treated and control cells along several directions; the mean of the fitting controls is at 0."""

    treated: Float32[np.ndarray, "m r"]
    controls: dict[int, Float32[np.ndarray, "_ r"]]


def left_out(
    cells: TreatedCells, controls: dict[int, ControlCells], discriminants: tuple[Discriminant, Discriminant]
) -> Iterator[LeftOut]:
    """Yield the counts for each half of the controls, which are those of the plates of the cells, and each fold.

    Each fold has two directions: from all cells of the other folds, along which it is scored; and from half of these
    cells, so that the scores of the rest choose the threshold.
    """
    fits_direction = np.arange(len(cells.x)) % 2 == 0
    folds = np.unique(cells.fold).tolist()
    for half, discriminant in enumerate(discriminants):
        chosen = [cells.fold != fold for fold in folds]
        chosen += [(cells.fold != fold) & fits_direction for fold in folds]
        scores = _scored(cells, controls, half, discriminant, chosen)
        for outer, fold in enumerate(folds):
            inner = outer + len(folds)
            tried = scores.treated[(cells.fold != fold) & ~fits_direction, inner]
            level = _level(tried, _of_half(controls, scores, inner, half), len(np.unique(cells.well)))
            threshold = float(np.quantile(_of_half(controls, scores, outer, half)[0], level))
            yield _counted(cells, controls, scores, outer, threshold, cells.fold == fold, half)


def _scored(
    cells: TreatedCells,
    controls: dict[int, ControlCells],
    half: int,
    discriminant: Discriminant,
    chosen: list[Bool[np.ndarray, "m"]],
) -> _Scores:
    """Return the scores along the directions from one half of the controls to some of the treated cells."""
    centres = {number: each.means[half] for number, each in controls.items()}
    directions = discriminant.directions(np.stack([_difference(cells, each, centres) for each in chosen]))
    offsets = {number: (centre @ directions).astype(np.float32) for number, centre in centres.items()}
    treated = cells.x @ directions
    for number, offset in offsets.items():
        treated[cells.plate == number] -= offset
    return _Scores(treated, {number: each.x @ directions - offsets[number] for number, each in controls.items()})


def _difference(
    cells: TreatedCells, chosen: Bool[np.ndarray, "m"], centres: dict[int, Float64[np.ndarray, "d"]]
) -> Float64[np.ndarray, "d"]:
    """Return how much the mean chosen cell differs from that of the controls; every well counts the same."""
    wells = [np.flatnonzero(chosen & (cells.well == number)) for number in np.unique(cells.well[chosen])]
    means = [cells.x[rows].mean(axis=0, dtype=np.float64) - centres[int(cells.plate[rows[0]])] for rows in wells]
    return np.asarray(np.mean(means, axis=0)) if means else np.zeros(cells.x.shape[1])


def _of_half(
    controls: dict[int, ControlCells], scores: _Scores, column: int, half: int
) -> tuple[Float32[np.ndarray, "c"], Int[np.ndarray, "c"]]:
    """Return the scores of the control cells of one half along one direction, and the wells of these cells."""
    rows = {number: each.half == half for number, each in controls.items()}
    found = np.concatenate([scores.controls[number][kept, column] for number, kept in rows.items()])
    return found, np.concatenate([controls[number].well[kept] for number, kept in rows.items()])


def _level(
    treated: Float32[np.ndarray, "m"], fitting: tuple[Float32[np.ndarray, "c"], Int[np.ndarray, "c"]], wells: int
) -> float:
    """Return the level whose cautious estimate is the largest, from cells that fit."""
    scores, of_well = fitting
    _, of_well, size = np.unique(of_well, return_inverse=True, return_counts=True)
    estimates = []
    for threshold in np.quantile(scores, LEVELS):
        is_beyond = scores > threshold
        control_wells = np.bincount(of_well, is_beyond).astype(np.int64), size
        treated_share = float((treated > threshold).mean()) if len(treated) else 0.0
        error = np.sqrt(well_variance([control_wells]) * (1 / wells + 1 / len(size)))
        estimates.append(float(bound(treated_share, np.asarray(is_beyond.mean()))) - CAUTION * error)
    return LEVELS[int(np.argmax(estimates))]


def bound(treated: float, controls: Float64[np.ndarray, "*draws"]) -> Float64[np.ndarray, "*draws"]:
    """Return the share of changed cells, from a share of treated cells and shares of control cells beyond a threshold.

    It may be below 0 by chance.
    """
    return np.asarray((treated - controls) / np.maximum(1 - controls, 1e-3))


def well_variance(counts: list[tuple[Int[np.ndarray, "_"], Int[np.ndarray, "_"]]]) -> float:
    """Return how much the bound of a well varies by chance, from counts of control wells that are compared.

    Each pair is the number of cells beyond a threshold, and of all cells, of the wells of one plate and half. Where no
    two wells can be compared, it is the variance of independent cells.
    """
    squares, free, of_cells = 0.0, 0, []
    for beyond, size in counts:
        usual = beyond.sum() / size.sum()
        weight = 1 / max(1 - usual, 1e-3) ** 2
        squares += weight * float(np.square(beyond / size - usual).sum())
        free += len(size) - 1
        of_cells.append(weight * usual * (1 - usual) / size.mean())
    return squares / free if free else float(np.mean(of_cells))


def _counted(
    cells: TreatedCells,
    controls: dict[int, ControlCells],
    scores: _Scores,
    column: int,
    threshold: float,
    chosen: Bool[np.ndarray, "m"],
    half: int,
) -> LeftOut:
    """Return the counts of the treated wells that were left out, and of the control wells of the other half."""
    beyond, plate, well = scores.treated[chosen, column] > threshold, cells.plate[chosen], cells.well[chosen]
    treated = [(int(plate[well == one][0]), float(beyond[well == one].mean())) for one in np.unique(well)]
    counts = {}
    for number in {number for number, _ in treated}:
        other = controls[number].half != half
        _, index, size = np.unique(controls[number].well[other], return_inverse=True, return_counts=True)
        is_beyond = scores.controls[number][other, column] > threshold
        counts[number] = (np.bincount(index, is_beyond).astype(np.int64), size)
    return LeftOut(half, treated, counts)
