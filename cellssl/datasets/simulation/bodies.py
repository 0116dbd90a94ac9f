"""bodies: outlines of cells in -> which cell every pixel belongs to, and how deep inside it lies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32, Int32

from cellssl.datasets.simulation.cells import ANGLES, Cells

_REACH_PX = 220  # no cell is longer than this from its nucleus
_ON_TOP = 0.35  # weight of rounded cells, which lie on top of their neighbours


@dataclass(frozen=True)
class Bodies:
    """Per pixel: its cell (-1 for none), how far out it lies (0 nucleus, 1 outline), distance to the nearest border."""

    owner: Int32[np.ndarray, "row column"]
    outness: Float32[np.ndarray, "row column"]
    border_px: Float32[np.ndarray, "row column"]


def tessellate(cells: Cells, height_px: int, width_px: int) -> Bodies:
    """Assign every pixel to the cell in which it lies deepest, relative to the outline; neighbours meet in walls."""
    shape = (height_px, width_px)
    owner = np.full(shape, -1, np.int32)
    outness = np.ones(shape, np.float32)
    nearest = np.full(shape, 1.0, np.float32)
    second = np.full(shape, 1.0, np.float32)
    length = np.ones(shape, np.float32)
    weights = np.where(cells.rounded, _ON_TOP, 1.0).astype(np.float32)
    outlines = np.asarray(cells.outline * np.where(cells.rounded[:, None], 1, cells.fray), np.float32)
    for cell in range(len(cells)):
        window = _window(cells, cell, float(outlines[cell].max()), shape)
        if window is None:
            continue
        here, distance, direction = window
        radius = outlines[cell][direction]
        out = distance / radius
        rank = np.where(out < 1, out * weights[cell], np.float32(1))
        before = nearest[here]
        wins = rank < before
        np.copyto(second[here], np.where(wins, before, np.minimum(second[here], rank)))
        np.copyto(nearest[here], rank, where=wins)
        np.copyto(outness[here], out, where=wins)
        np.copyto(length[here], radius, where=wins)
        owner[here][wins] = cell
    border = np.minimum(1 - outness, (second - nearest) / 2) * length
    return Bodies(owner, outness, border)


def _window(
    cells: Cells, cell: int, longest_px: float, shape: tuple[int, int]
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray] | None:
    """Return the part of the field that a cell can reach, and distance and direction from its centre there."""
    row, column = round(float(cells.row[cell])), round(float(cells.column[cell]))
    reach = min(int(longest_px) + 1, _REACH_PX)
    top, bottom = max(row - reach, 0), min(row + reach + 1, shape[0])
    left, right = max(column - reach, 0), min(column + reach + 1, shape[1])
    if top >= bottom or left >= right:
        return None
    distance, direction = _polar_grid()
    inside = (
        slice(top - row + _REACH_PX, bottom - row + _REACH_PX),
        slice(left - column + _REACH_PX, right - column + _REACH_PX),
    )
    return (slice(top, bottom), slice(left, right)), distance[inside], direction[inside]


@cache
def _polar_grid() -> tuple[np.ndarray, np.ndarray]:
    """Return distance and direction (a position in an outline) of every pixel from the middle of a large square."""
    offsets = np.arange(-_REACH_PX, _REACH_PX + 1, dtype=np.float64)
    distance = np.hypot(offsets[:, None], offsets[None, :]).astype(np.float32)
    angle = np.arctan2(offsets[:, None], offsets[None, :])
    direction = np.round(angle * (ANGLES / (2 * np.pi))).astype(np.int64) % ANGLES
    distance.setflags(write=False)
    direction.setflags(write=False)
    return distance, direction
