"""layout: the size of a field and the number of cells expected in it -> where their nuclei lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage

MARGIN_PX = 80  # cells outside the field whose bodies reach into it
_LATTICE_PX = 16
_CLUMP_GAP_PX = 6.0  # how much further than its minimum distance a clumped nucleus lies from the one beside it


@dataclass(frozen=True)
class _Beside:
    """Per try: where it goes when it is placed beside a nucleus that lies already."""

    which: Float[np.ndarray, "try"]
    """Which of the nuclei that lie already, as a share of their number; nan where the try keeps its own place."""
    distance: Float[np.ndarray, "try"]
    turn: Float[np.ndarray, "try"]
    size: tuple[int, int]

    def place(
        self, number: int, point: Float[np.ndarray, "2"], taken: Float[np.ndarray, "n 2"]
    ) -> Float[np.ndarray, "2"]:
        """Return where this try goes; outside of the field it keeps its own place."""
        if np.isnan(self.which[number]) or not len(taken):
            return point
        away = self.distance[number] * np.array([np.sin(self.turn[number]), np.cos(self.turn[number])])
        moved = taken[int(self.which[number] * len(taken))] + away
        return np.asarray(moved if np.all((moved >= 0) & (moved < self.size)) else point)


def scatter(
    rng: np.random.Generator,
    height_px: int,
    width_px: int,
    cells: float,
    patchiness: float,
    clumped: float = 0.0,
    spacing: float = 1.0,
) -> Float[np.ndarray, "cell 2"]:
    """Return rows and columns of about `cells` nuclei inside the field, and of equally dense ones in a margin.

    Cells grow in patches: the log of their density is a smooth random surface with standard deviation `patchiness`.
    Each nucleus has a minimum distance of its own, so that some touch and a few overlap. The share `clumped` of the
    nuclei lies close beside another one, and all minimum distances are `spacing` times as large.
    """
    tall, wide = height_px + 2 * MARGIN_PX, width_px + 2 * MARGIN_PX
    wanted = int(rng.poisson(cells * tall * wide / (height_px * width_px)))
    surface = _density(rng, tall, wide, patchiness)
    tries = 8 * wanted + 8
    chosen = rng.choice(surface.size, size=tries, p=surface.ravel())
    corner = np.stack(np.unravel_index(chosen, surface.shape), axis=1) * _LATTICE_PX
    points = corner + rng.random((tries, 2)) * _LATTICE_PX
    apart = rng.triangular(27.0, 36.0, 50.0, tries) * spacing
    if clumped > 0:
        beside = np.where(rng.random(tries) < clumped, rng.random(tries), np.nan)
        turn = rng.uniform(0, 2 * np.pi, tries)
        gap = rng.uniform(0, _CLUMP_GAP_PX, tries)
        return _keep_apart(points, apart, wanted, _Beside(beside, apart + gap, turn, (tall, wide))) - MARGIN_PX
    return _keep_apart(points, apart, wanted) - MARGIN_PX


def _density(rng: np.random.Generator, tall: int, wide: int, patchiness: float) -> Float[np.ndarray, "row column"]:
    noise = rng.standard_normal((-(-tall // _LATTICE_PX), -(-wide // _LATTICE_PX)))
    smooth = ndimage.gaussian_filter(noise, 80 / _LATTICE_PX, mode="wrap")
    surface = np.exp(patchiness * smooth / (smooth.std() + 1e-9))
    return np.asarray(surface / surface.sum())


def _keep_apart(
    points: Float[np.ndarray, "try 2"], apart: Float[np.ndarray, "try"], wanted: int, beside: _Beside | None = None
) -> Float[np.ndarray, "cell 2"]:
    """Return the first `wanted` points that are not nearer than `apart` to one accepted before."""
    taken = np.empty((wanted, 2))
    count = 0
    for number, (drawn, distance) in enumerate(zip(points, apart, strict=True)):
        if count == wanted:
            break
        point = beside.place(number, drawn, taken[:count]) if beside else drawn
        gaps = taken[:count] - point
        if count == 0 or (gaps * gaps).sum(axis=1).min() >= distance * distance:
            taken[count] = point
            count += 1
    return taken[:count]
