"""changed_cells: cells of treated and of control wells -> at least which share of a treatment's cells are changed.

The cells of a treatment are a mixture: a share of changed cells among cells as in control wells. Whatever the changed
cells look like, a region that holds a share t of the treated cells and c of the control cells says that at least
(t - c) / (1 - c) of them are changed (Blanchard, Lee and Scott 2010, section 4; Patra and Sen 2016,
doi:10.1111/rssb.12148). Regions are half-spaces of a linear discriminant, fitted on other wells than those that count.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float32, Int

from cellssl.profiling.control_cells import ControlCells, Discriminant, control_cells, discriminant
from cellssl.profiling.labels import Labels, codes
from cellssl.profiling.left_out_wells import LeftOut, TreatedCells, bound, left_out, well_variance
from cellssl.profiling.one_thread import one_thread
from cellssl.profiling.well_intervals import interval, resampled
from cellssl.randomness import generator

TREATED_CELLS = 1_000
"""Cells of a treated well that are looked at, at most."""
FOLDS = 8
"""A treatment with more wells is left out in this many groups of wells."""

TimesOfControls = Callable[[int, int, int], Int[np.ndarray, "draws wells"]]
"""Plate, half and number of control wells -> how often each is in each bootstrap sample."""


@dataclass(frozen=True)
class _Cells:
    """The cells, and what all treatments share."""

    x: Float32[np.ndarray, "n d"]
    plate: Int[np.ndarray, "n"]
    well: Int[np.ndarray, "n"]
    controls: dict[int, ControlCells]
    """Number of the plate -> its control cells."""
    discriminants: tuple[Discriminant, Discriminant]
    """What each half of the controls fits."""
    seed: int

    def left_out(self, chosen: Bool[np.ndarray, "n"]) -> list[LeftOut]:
        """Return the counts of the chosen cells, by folds of wells; nothing where fewer than two wells are compared."""
        rows = np.flatnonzero(chosen & (self.well >= 0))
        wells = np.unique(self.well[rows])
        left = {number: self.controls[number].without(wells) for number in self._plates(rows)}
        controls = {number: each for number, each in left.items() if each is not None}
        rows = rows[np.isin(self.plate[rows], list(controls))]
        if len(np.unique(self.well[rows])) < 2:
            return []
        return list(left_out(self._with_folds(self._sampled(rows)), controls, self.discriminants))

    def _plates(self, rows: Int[np.ndarray, "m"]) -> list[int]:
        return [number for number in np.unique(self.plate[rows]).tolist() if number in self.controls]

    def _sampled(self, rows: Int[np.ndarray, "m"]) -> Int[np.ndarray, "k"]:
        """Return rows without those beyond `TREATED_CELLS` of a well."""
        rng = generator("treated cells", self.seed)
        kept = [rows[self.well[rows] == number] for number in np.unique(self.well[rows])]
        kept = [rng.choice(each, TREATED_CELLS, replace=False) if len(each) > TREATED_CELLS else each for each in kept]
        return np.sort(np.concatenate(kept))

    def _with_folds(self, rows: Int[np.ndarray, "m"]) -> TreatedCells:
        wells, number = np.unique(self.well[rows], return_inverse=True)
        fold = (generator("folds of wells", self.seed).permutation(len(wells)) % FOLDS)[number]
        x, plate = np.array(self.x[rows]), self.plate[rows]
        for one in np.unique(plate).tolist():
            x[plate == one] -= self.controls[one].centre
        return TreatedCells(x, plate, self.well[rows], fold)


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

    The 95 % interval is a bootstrap of the estimate over treated and over control wells. With the reference `all`,
    cells of all other wells of the plate are the controls. A plate with fewer than three control wells is not compared:
    its controls do not show how much wells differ without a treatment, so that such differences would count as changed
    cells. A treatment with fewer than two wells on the other plates has NaN. Samples of cells are looked at, so memory
    does not grow with `n`.
    """
    data = _prepared(cells, codes(plates)[1], codes(wells)[1], is_control, reference, seed)
    names, treatment = codes(treatments)
    treatment = np.where(is_control, -1, treatment)
    times = cache(partial(_times_of_controls, draws, seed))
    rows = []
    with one_thread():
        for number, name in enumerate(names):
            folds = data.left_out(treatment == number) if data else []
            if not folds:
                rows.append((name, np.nan, np.nan, np.nan))
                continue
            share = _cut(_mean_share(folds) - _standard_error(folds))
            low, high = _interval(folds, resampled(_wells(folds), draws, "changed cells", name, seed), times)
            rows.append((name, share, min(low, share), max(high, share)))
    return pd.DataFrame(rows, columns=["treatment", "share", "low", "high"])


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
    controls = control_cells(cells, plate, well, is_reference, seed)
    if not controls:
        return None
    return _Cells(cells, plate, well, controls, (discriminant(controls, 0), discriminant(controls, 1)), seed)


def _wells(folds: list[LeftOut]) -> int:
    """Return the number of treated wells; each is left out once for each half of the controls."""
    return sum(len(fold.treated) for fold in folds) // 2


def _mean_share(folds: list[LeftOut]) -> float:
    """Return the mean share over wells and halves, which may be below 0."""
    shares = []
    for fold in folds:
        usual = {number: np.asarray(beyond.sum() / size.sum()) for number, (beyond, size) in fold.controls.items()}
        shares += [float(bound(share, usual[number])) for number, share in fold.treated]
    return float(np.mean(shares))


def _standard_error(folds: list[LeftOut]) -> float:
    """Return the standard error of the mean share, if wells of the treatment differ as control wells do."""
    variance = well_variance([counts for fold in folds for counts in fold.controls.values()])
    plates = [number for fold in folds for number, _ in fold.treated]
    controls = {(number, fold.half): len(size) for fold in folds for number, (_, size) in fold.controls.items()}
    wells = 1 / _wells(folds)
    for plate in set(plates):
        wells += (plates.count(plate) / len(plates)) ** 2 / sum(controls[plate, half] for half in (0, 1))
    return float(np.sqrt(variance * wells))


def _times_of_controls(draws: int, seed: int, plate: int, half: int, wells: int) -> Int[np.ndarray, "draws wells"]:
    """Return how often each control well of one half of a plate is drawn, for all treatments alike."""
    return resampled(wells, draws, "controls of changed cells", plate, half, seed)


def _interval(
    folds: list[LeftOut], times_of_well: Int[np.ndarray, "draws wells"], times_of_controls: TimesOfControls
) -> tuple[float, float]:
    """Return the bootstrap interval over treated wells and over the control wells of each half of a plate."""
    draws, wells = times_of_well.shape
    total, place = np.zeros(draws), 0
    for fold in folds:
        usual = {}
        for number, (beyond, size) in fold.controls.items():
            times = times_of_controls(number, fold.half, len(size))
            usual[number] = (times @ beyond) / (times @ size)
        for number, share in fold.treated:
            total += times_of_well[:, place % wells] * bound(share, usual[number])
            place += 1
    low, high = interval(total / (2 * wells), wells)
    return _cut(low), _cut(high)


def _cut(share: float) -> float:
    return float(np.clip(share, 0, 1))
