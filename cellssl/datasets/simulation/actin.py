"""actin: cells and their bodies in -> the light of cortex, stress fibres, spikes and clumps."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from cellssl.datasets.simulation.bodies import Bodies
from cellssl.datasets.simulation.cells import Cells
from cellssl.datasets.simulation.strokes import Strokes, draw, polar_paths, with_length
from cellssl.datasets.simulation.texture import covering, tile

_STEPS = 40


def paint(
    cells: Cells, bodies: Bodies, nuclei: Int32[np.ndarray, "row column"], rng: np.random.Generator
) -> Float32[np.ndarray, "row column"]:
    """Return the light of actin, relative to an average cell; clumps take their actin from cortex and fibres."""
    lost = cells.reaction.actin_clumped
    height, width = bodies.owner.shape
    fine = covering(tile(rng, 1.5), height, width)
    coarse = covering(tile(rng, 9.0), height, width)
    image = _membrane(cells, bodies, fine, coarse) + _cortex(cells, bodies, coarse, lost, rng)
    fibres = (_mesh(cells, lost, rng), _stress_fibres(cells, lost, rng), _spikes(cells, rng))
    for family in (*fibres, _spots(cells, rng), _clumps(cells, lost, rng)):
        image += draw(family, bodies.owner)
    return np.asarray(image * (1 - np.float32(0.14) * (nuclei >= 0)))


def _by_cell(values: Float[np.ndarray, "cell"], bodies: Bodies) -> Float32[np.ndarray, "row column"]:
    return np.asarray(np.append(values, 0.0).astype(np.float32)[bodies.owner])


def _membrane(
    cells: Cells, bodies: Bodies, fine: Float32[np.ndarray, "r c"], coarse: Float32[np.ndarray, "r c"]
) -> Float32[np.ndarray, "r c"]:
    """Draw the thin sheet over the whole cell, grainy and uneven."""
    sheet = _by_cell(cells.actin * np.where(cells.rounded, 1.1, 0.78), bodies)
    out = np.minimum(bodies.outness, 1)
    dome = np.float32(1.12) - np.float32(0.5) * out * out
    return np.asarray(sheet * dome * (1 + np.float32(0.09) * fine + np.float32(0.14) * coarse))


def _cortex(
    cells: Cells,
    bodies: Bodies,
    coarse: Float32[np.ndarray, "r c"],
    lost: Float[np.ndarray, "cell"],
    rng: np.random.Generator,
) -> Float32[np.ndarray, "r c"]:
    """Draw a bright line along the border of the cell, of uneven strength, with ruffles where it is strongest."""
    strength = np.exp(0.45 * rng.standard_normal(len(cells))) * (1 - 0.75 * lost) * np.where(cells.rounded, 1.2, 1.0)
    edge = _by_cell(cells.actin * strength, bodies)
    line = np.exp(-((bodies.border_px / np.float32(1.7)) ** 2)) + np.float32(0.35) * np.exp(bodies.border_px / -4)
    uneven = np.exp(np.float32(0.55) * coarse) * np.float32(0.55)
    return np.asarray(edge * line * uneven)


def _stress_fibres(cells: Cells, lost: Float[np.ndarray, "cell"], rng: np.random.Generator) -> Strokes:
    """Return straight parallel fibres along the axis of some cells; clumped cells have none."""
    has = ~cells.rounded & (rng.random(len(cells)) < 0.6)
    counts = np.where(has, rng.poisson(20 * (1 - np.minimum(1.2 * lost, 1))), 0)
    cell = np.repeat(np.arange(len(cells)), counts)
    n = len(cell)
    reach = cells.body_radius[cell]
    beside = (rng.uniform(-0.85, 0.85, n) * reach).astype(np.float32)[:, None]
    middle = (rng.normal(0, 0.3, n) * reach).astype(np.float32)[:, None]
    half = (rng.uniform(0.25, 0.9, n) * reach).astype(np.float32)[:, None]
    along = middle + half * np.linspace(-1, 1, _STEPS, dtype=np.float32)
    angle = (cells.angle[cell] + rng.normal(0, 0.09, n)).astype(np.float32)[:, None]
    bent = beside + (rng.normal(0, 0.0015, n)).astype(np.float32)[:, None] * along**2
    rows = cells.row[cell].astype(np.float32)[:, None] + along * np.sin(angle) + bent * np.cos(angle)
    columns = cells.column[cell].astype(np.float32)[:, None] + along * np.cos(angle) - bent * np.sin(angle)
    faint = rng.gamma(1.5, 0.13, len(cells))[cell]
    return with_length(rows, columns, cell, cells.actin[cell] * faint * np.exp(0.4 * rng.standard_normal(n)))


def _mesh(cells: Cells, lost: Float[np.ndarray, "cell"], rng: np.random.Generator) -> Strokes:
    """Return faint short fibres all over the sheet, roughly along the axis of the cell."""
    area = np.pi * cells.body_radius**2
    cell = np.repeat(np.arange(len(cells)), np.where(cells.rounded, 0, area / 60).astype(int))
    n = len(cell)
    theta = rng.uniform(0, 2 * np.pi, (n, 1)).astype(np.float32)
    depth = (1.9 * np.sqrt(rng.uniform(0, 1, (n, 1))) - 0.95).astype(np.float32)
    rows, columns = polar_paths(cells, cell, theta, depth)
    angle = (cells.angle[cell] + rng.normal(0, 0.5, n)).astype(np.float32)[:, None]
    along = np.linspace(-1, 1, 12, dtype=np.float32) * rng.uniform(3, 11, n).astype(np.float32)[:, None]
    light = cells.actin[cell] * (1 - 0.6 * lost[cell]) * rng.gamma(1.2, 0.15, n)
    return with_length(rows + along * np.sin(angle), columns + along * np.cos(angle), cell, light)


def _spikes(cells: Cells, rng: np.random.Generator) -> Strokes:
    """Return short fibres that stick out of the outline or run into it."""
    counts = np.where(cells.rounded, 5, 26)
    cell = np.repeat(np.arange(len(cells)), counts)
    n = len(cell)
    along = np.linspace(0, 1, 14, dtype=np.float32)
    theta = (rng.uniform(0, 2 * np.pi, n)[:, None] + rng.normal(0, 0.12, n)[:, None] * along).astype(np.float32)
    first = rng.uniform(0.80, 0.98, n)[:, None]
    depth = (first + (1.02 + rng.gamma(1.0, 0.05, n)[:, None] - first) * along).astype(np.float32)
    rows, columns = polar_paths(cells, cell, theta, depth)
    return with_length(rows, columns, cell, cells.actin[cell] * rng.uniform(0.1, 0.8, n))


def _spots(cells: Cells, rng: np.random.Generator) -> Strokes:
    """Return small dots, which healthy cells have too."""
    return _blobs(cells, rng.poisson(2.5, len(cells)), rng, width_px=(0.8, 2.0), light=(4.0, 14.0))


def _clumps(cells: Cells, lost: Float[np.ndarray, "cell"], rng: np.random.Generator) -> Strokes:
    """Return aggregates of the actin that cortex and fibres have lost."""
    counts = np.where(lost > 0, rng.poisson(4 + 14 * lost), 0)
    return _blobs(cells, counts, rng, width_px=(1.2, 3.2), light=(25.0, 110.0))


def _blobs(
    cells: Cells,
    counts: Int[np.ndarray, "cell"],
    rng: np.random.Generator,
    width_px: tuple[float, float],
    light: tuple[float, float],
) -> Strokes:
    cell = np.repeat(np.arange(len(cells)), counts)
    n, points = len(cell), 60
    theta = np.repeat(rng.uniform(0, 2 * np.pi, n).astype(np.float32)[:, None], points, axis=1)
    depth = np.repeat(rng.uniform(-0.6, 0.9, n).astype(np.float32)[:, None], points, axis=1)
    rows, columns = polar_paths(cells, cell, theta, depth)
    scatter = rng.standard_normal((2, n, points), dtype=np.float32) * rng.uniform(*width_px, (n, 1)).astype(np.float32)
    each = (cells.actin[cell] * rng.uniform(*light, n) / points).astype(np.float32)
    return Strokes(rows + scatter[0], columns + scatter[1], cell, np.repeat(each[:, None], points, axis=1))
