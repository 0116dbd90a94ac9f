"""strokes: curved paths through cells in -> an image of thin bright lines; all paths are drawn at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from cellssl.datasets.simulation.cells import ANGLES, Cells

_LEAK = 0.2  # visible share of a filament that runs under or over a neighbouring cell


@dataclass(frozen=True)
class Strokes:
    """Paths as points, their cell, and their light per px of length (or per point, for spots)."""

    rows: Float32[np.ndarray, "stroke step"]
    columns: Float32[np.ndarray, "stroke step"]
    cell: Int[np.ndarray, "stroke"]
    light: Float32[np.ndarray, "stroke step"]


def polar_paths(
    cells: Cells,
    cell: Int[np.ndarray, "stroke"],
    theta: Float32[np.ndarray, "stroke step"],
    depth: Float32[np.ndarray, "stroke step"],
) -> tuple[Float32[np.ndarray, "stroke step"], Float32[np.ndarray, "stroke step"]]:
    """Return points (rows, columns) at direction `theta`; depth is 0 at the rim of the nucleus, 1 at the outline."""
    direction = np.round(theta * np.float32(ANGLES / (2 * np.pi))).astype(np.int32) % ANGLES
    outline = cells.outline[cell[:, None], direction]
    rim = nucleus_rim(cells)[cell[:, None], direction]
    radius = rim + depth * (outline - rim)
    rows = cells.row.astype(np.float32)[cell, None] + radius * np.sin(theta)
    columns = cells.column.astype(np.float32)[cell, None] + radius * np.cos(theta)
    return rows, columns


def nucleus_rim(cells: Cells) -> Float32[np.ndarray, "cell angle"]:
    """Return the radius of the (elliptic) nucleus by direction; filaments go around it; never outside the outline."""
    along = np.arange(ANGLES) * (2 * np.pi / ANGLES) - cells.angle[:, None]
    ratio = cells.nucleus_ratio[:, None]
    ellipse = np.sqrt(ratio) / np.sqrt(np.cos(along) ** 2 + (ratio * np.sin(along)) ** 2)
    rim = 1.04 * cells.nucleus_radius[:, None] * ellipse
    return np.asarray(np.minimum(rim, 0.8 * cells.outline), np.float32)


def with_length(
    rows: Float32[np.ndarray, "stroke step"],
    columns: Float32[np.ndarray, "stroke step"],
    cell: Int[np.ndarray, "stroke"],
    brightness: Float[np.ndarray, "stroke"],
) -> Strokes:
    """Return lines of even brightness: each point has the light of the piece of path that leads to it."""
    pieces = np.hypot(np.diff(rows, axis=1), np.diff(columns, axis=1))
    light = brightness.astype(np.float32)[:, None] * np.concatenate([pieces[:, :1], pieces], axis=1)
    return Strokes(rows, columns, cell, light)


def draw(strokes: Strokes, owner: Int32[np.ndarray, "row column"]) -> Float32[np.ndarray, "row column"]:
    """Draw every point, distributed over the four pixels around it; outside of its own cell it is faint."""
    height, width = owner.shape
    rows, columns = strokes.rows.ravel(), strokes.columns.ravel()
    inside = (rows >= 0) & (rows < height - 1) & (columns >= 0) & (columns < width - 1)
    kept = np.flatnonzero(inside)
    rows, columns = rows[kept], columns[kept]
    top, left = rows.astype(np.int64), columns.astype(np.int64)
    down, right = rows - top, columns - left
    pixel = top * width + left
    cell = strokes.cell[kept // strokes.rows.shape[1]]
    light = strokes.light.ravel()[kept] * np.where(owner.ravel()[pixel] == cell, np.float32(1), np.float32(_LEAK))
    image = np.zeros(height * width)
    for offset, share in (
        (0, (1 - down) * (1 - right)),
        (1, (1 - down) * right),
        (width, down * (1 - right)),
        (width + 1, down * right),
    ):
        image += np.bincount(pixel + offset, weights=light * share, minlength=height * width)
    return image.reshape(height, width).astype(np.float32)
