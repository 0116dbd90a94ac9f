"""control_cells: cells of control wells -> a sample of each plate in two halves, and what each half fits."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int
from scipy.linalg import cho_factor, cho_solve

from cellssl.profiling.one_thread import one_thread
from cellssl.randomness import generator

PLATE_CELLS = 2_000
"""Control cells of a plate that are looked at, at most."""
FEWEST_WELLS = 3
"""Control wells that a plate needs: with fewer, no half has two wells, which would show how much wells differ without a
treatment."""
ALL_CELLS, ALL_NUMBERS = 20_000, 15_000_000
"""Control cells of all plates that are looked at, and numbers of them, at most."""


@dataclass(frozen=True)
class ControlCells:
    """A sample of control cells of one plate, in the order of their wells."""

    x: Float32[np.ndarray, "m d"]
    """Minus `centre`, so that float32 is exact enough."""
    centre: Float32[np.ndarray, "d"]
    """Mean of the sample."""
    well: Int[np.ndarray, "m"]
    half: Int[np.ndarray, "m"]
    """0 or 1: that of its well."""
    means: tuple[Float64[np.ndarray, "d"], Float64[np.ndarray, "d"]]
    """Mean of each half, minus `centre`."""

    def without(self, wells: Int[np.ndarray, "w"]) -> "ControlCells | None":
        """Return the cells that are in none of these wells; None where too few wells, or of one half, are left."""
        kept = ~np.isin(self.well, wells)
        if kept.all():
            return self
        if len(np.unique(self.well[kept])) < FEWEST_WELLS or len(np.unique(self.half[kept])) < 2:
            return None
        return _with_means(self.x[kept], self.centre, self.well[kept], self.half[kept])


@dataclass(frozen=True)
class Discriminant:
    """Fisher's linear discriminant: the scale and the shrunken covariance of the cells of one half."""

    scale: Float[np.ndarray, "d"]
    factor: Float[np.ndarray, "d d"]

    def directions(self, differences: Float[np.ndarray, "r d"]) -> Float32[np.ndarray, "d r"]:
        """Return the direction that separates best two groups of cells with each difference of means."""
        solved = cho_solve((self.factor, True), (differences / self.scale).T, check_finite=False)
        return np.asarray(solved / self.scale[:, None], np.float32)


def control_cells(
    x: Float32[np.ndarray, "n d"],
    plate: Int[np.ndarray, "n"],
    well: Int[np.ndarray, "n"],
    is_control: Bool[np.ndarray, "n"],
    seed: int,
) -> dict[int, ControlCells]:
    """Return the number of each plate with controls -> a sample of its control cells.

    A plate with fewer than `FEWEST_WELLS` control wells is left out.
    """
    numbers = np.unique(plate[is_control]).tolist()
    found = {}
    for number in numbers:
        rng = generator("control cells", seed, number)
        rows = np.flatnonzero(is_control & (plate == number))
        at_most = min(PLATE_CELLS, min(ALL_CELLS, ALL_NUMBERS // x.shape[1]) // len(numbers))
        rows = np.sort(rng.choice(rows, at_most, replace=False)) if len(rows) > at_most else rows
        rows = rows[np.argsort(well[rows], kind="stable")]
        if len(np.unique(well[rows])) >= FEWEST_WELLS:
            half = _halves(well[rows], rng)
            sample = np.asarray(x[rows])
            centre = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
            found[number] = _with_means(sample - centre, centre, well[rows], half)
    return found


def discriminant(controls: dict[int, ControlCells], half: int) -> Discriminant:
    """Fit the covariance of one half of the control cells around the mean cells of their plates.

    It is shrunk as in Ledoit and Wolf 2004, doi:10.1016/S0047-259X(03)00096-4. Features that do not vary count for
    nothing.
    """
    from sklearn.covariance import ledoit_wolf

    inside = np.concatenate([each.x[each.half == half] - each.means[half] for each in controls.values()])
    scale = inside.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 1e-6 * np.max(scale, initial=0), scale, np.inf)
    with one_thread():
        covariance, _ = ledoit_wolf(inside / scale, assume_centered=True)
    covariance[np.diag_indices_from(covariance)] += np.where(np.isfinite(scale), 1e-6, 1)
    return Discriminant(scale, cho_factor(covariance, lower=True)[0])


def _with_means(
    x: Float32[np.ndarray, "m d"],
    centre: Float32[np.ndarray, "d"],
    well: Int[np.ndarray, "m"],
    half: Int[np.ndarray, "m"],
) -> ControlCells:
    first, second = (np.asarray(x[half == number].mean(axis=0, dtype=np.float64)) for number in (0, 1))
    return ControlCells(x, centre, well, half, (first, second))


def _halves(well: Int[np.ndarray, "m"], rng: np.random.Generator) -> Int[np.ndarray, "m"]:
    """Return the half of each control cell of a plate, which is that of its well."""
    wells, number = np.unique(well, return_inverse=True)
    return np.asarray((rng.permutation(len(wells)) % 2)[number])
