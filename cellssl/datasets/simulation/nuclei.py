"""nuclei: cells in -> the light of their DNA, and a label image of their nuclei."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32

from cellssl.datasets.simulation.cells import Cells
from cellssl.datasets.simulation.lobes import Lobes, all_lobes
from cellssl.datasets.simulation.texture import TILE_PX, tile

_WAVES = np.array([2, 3, 4, 5], np.float32)


@dataclass(frozen=True)
class Nuclei:
    """Light relative to an average nucleus, and the cell of every nuclear pixel (-1 for none)."""

    light: Float32[np.ndarray, "row column"]
    owner: Int32[np.ndarray, "row column"]


def paint(cells: Cells, rng: np.random.Generator, height_px: int, width_px: int) -> Nuclei:
    """Draw all nuclei; where two overlap, light adds up and the pixel belongs to the one in which it lies deeper."""
    lobes = all_lobes(cells, rng)
    light = np.zeros((height_px, width_px), np.float32)
    owner = np.full((height_px, width_px), -1, np.int32)
    outness = np.ones((height_px, width_px), np.float32)
    fine, coarse = tile(rng, 1.2), tile(rng, 2.8)
    waves = (rng.standard_normal((len(lobes), len(_WAVES))) / _WAVES).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, (len(lobes), len(_WAVES))).astype(np.float32)
    shifts = rng.integers(0, TILE_PX - 160, (len(lobes), 2))
    for lobe in range(len(lobes)):
        reach = (
            lobes.radius[lobe] * lobes.ratio[lobe] ** 0.5 * (1 + 2 * lobes.bumpiness[lobe]) + 3 * lobes.soft_px[lobe]
        )
        here, grid = _window(lobes.row[lobe], lobes.column[lobe], min(reach + 2, 78.0), light.shape)
        if here is None:
            continue
        out, shape = _shape(lobes, lobe, waves[lobe], phases[lobe], *grid)
        top, left = shifts[lobe]
        patch = (slice(top, top + shape.shape[0]), slice(left, left + shape.shape[1]))
        grain = lobes.grain[lobe] * (0.6 * fine[patch] + 0.75 * coarse[patch])
        chromatin = np.maximum(1 + grain, 0.3) * _nucleoli(rng, lobes, lobe, *grid)
        light[here] += np.float32(lobes.light[lobe]) * shape * chromatin
        wins = out < outness[here]
        outness[here][wins] = out[wins]
        owner[here][wins] = lobes.cell[lobe]
    return Nuclei(light, owner)


def _window(
    row: float, column: float, reach: float, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice] | None, tuple[np.ndarray, np.ndarray]]:
    """Return the part of the field around a lobe, and the offsets of its rows and columns."""
    top, bottom = max(int(row - reach), 0), min(int(row + reach) + 1, shape[0])
    left, right = max(int(column - reach), 0), min(int(column + reach) + 1, shape[1])
    if top >= bottom or left >= right:
        return None, (np.empty(0), np.empty(0))
    down = (np.arange(top, bottom) - row).astype(np.float32)[:, None]
    across = (np.arange(left, right) - column).astype(np.float32)[None, :]
    return (slice(top, bottom), slice(left, right)), (down, across)


def _shape(
    lobes: Lobes, lobe: int, waves: np.ndarray, phases: np.ndarray, down: np.ndarray, across: np.ndarray
) -> tuple[Float32[np.ndarray, "r c"], Float32[np.ndarray, "r c"]]:
    """Return how far out every pixel lies (1 is the rim), and the thickness of the lobe there (0 to 1)."""
    cos, sin = np.float32(np.cos(lobes.angle[lobe])), np.float32(np.sin(lobes.angle[lobe]))
    stretch = np.float32(np.sqrt(lobes.ratio[lobe]) * lobes.radius[lobe])
    squeeze = np.float32(lobes.radius[lobe] / np.sqrt(lobes.ratio[lobe]))
    along, beside = (across * cos + down * sin) / stretch, (down * cos - across * sin) / squeeze
    distance = np.sqrt(along * along + beside * beside)
    rim = np.float32(1)
    if lobes.bumpiness[lobe] > 0:
        theta = np.arctan2(beside, along)
        waved = sum(w * np.sin(k * theta + p) for w, k, p in zip(waves, _WAVES, phases, strict=True))
        rim = np.maximum(1 + np.float32(2 * lobes.bumpiness[lobe]) * waved, np.float32(0.4))
    out = distance / rim
    edge = np.float32(lobes.radius[lobe] / max(lobes.soft_px[lobe], 0.3))
    cover = np.clip((1 - out) * edge + np.float32(0.5), 0, 1)
    dome = np.sqrt(np.maximum(1 - 0.85 * out * out, 0, dtype=np.float32))
    return out, cover * (np.float32(0.55) + np.float32(0.5) * dome)


def _nucleoli(
    rng: np.random.Generator, lobes: Lobes, lobe: int, down: np.ndarray, across: np.ndarray
) -> Float32[np.ndarray, "r c"]:
    """Return a factor for the dark nucleoli in the chromatin."""
    factor = np.ones((len(down), across.shape[1]), np.float32)
    radius = lobes.radius[lobe]
    for _ in range(lobes.nucleoli[lobe]):
        spot, depth = rng.normal(0, 0.3 * radius, 2), rng.uniform(0.05, 0.45)
        width = rng.uniform(0.09, 0.19) * radius
        away = (down - np.float32(spot[0])) ** 2 + (across - np.float32(spot[1])) ** 2
        factor -= np.float32(depth) * np.exp(away * np.float32(-0.5 / width**2))
    return np.maximum(factor, 0.35)
