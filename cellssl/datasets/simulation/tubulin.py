"""tubulin: cells and their bodies in -> the light of their microtubules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float, Float32, Int, Int32
from scipy import ndimage

from cellssl.datasets.simulation.bodies import Bodies
from cellssl.datasets.simulation.cells import Cells
from cellssl.datasets.simulation.strokes import Strokes, draw, polar_paths, with_length

_STEPS = 36
_PX2_PER_FILAMENT = 26.0
_IN_FILAMENTS = 0.46  # share of a healthy cell's tubulin that is visible as filaments


def paint(
    cells: Cells, bodies: Bodies, nuclei: Int32[np.ndarray, "row column"], rng: np.random.Generator
) -> Float32[np.ndarray, "row column"]:
    """Return the light, relative to an average cell; phenotypes move tubulin between filaments, bundles and haze."""
    gone = np.maximum(cells.reaction.tubulin_lost, 0.5 * cells.reaction.contracted)
    bundled = cells.reaction.tubulin_bundled
    flat = np.clip(cells.body_radius / 45, 0.4, 1.0)  # in a thick cell filaments lie over each other and blur
    in_lines = np.where(cells.rounded, 0.0, _IN_FILAMENTS * flat * (1 - 0.93 * np.minimum(gone, 1)))
    families = [
        _network(cells, cells.tubulin * in_lines * (1 - 0.85 * bundled), rng),
        _bundles(cells, cells.tubulin * np.minimum(in_lines + 0.15, 0.8) * bundled, rng),
        _spindles(cells, rng),
        _asters(cells, rng),
        _dots(cells, rng),
    ]
    image = draw(_joined(families), bodies.owner) + _haze(cells, bodies, 1 - in_lines)
    return np.asarray(image * _around_nuclei(cells, bodies, nuclei))


def _haze(cells: Cells, bodies: Bodies, share: Float[np.ndarray, "cell"]) -> Float32[np.ndarray, "row column"]:
    """Draw tubulin that is not visible as filaments: much in the middle of the cell, little towards its outline."""
    mass = np.append(cells.tubulin * share * np.where(cells.rounded, 0.8, 1.0), 0.0).astype(np.float32)
    out = np.minimum(bodies.outness, 1)
    thickness = np.float32(0.25) + np.float32(1.2) * (1 - out * out) ** 1.5
    return np.asarray(mass[bodies.owner] * thickness)


def _around_nuclei(
    cells: Cells, bodies: Bodies, nuclei: Int32[np.ndarray, "row column"]
) -> Float32[np.ndarray, "row column"]:
    """Return a factor: tubulin is dense around the nucleus, absent inside it, and thin where cells meet."""
    flat = np.append(~cells.rounded, False)
    inside = (flat[nuclei] & (nuclei >= 0)).astype(np.float32)
    close = ndimage.uniform_filter(ndimage.uniform_filter(inside, 11), 11)
    crowded = 1 - np.float32(0.55) * np.exp(bodies.border_px / -5) * flat[bodies.owner]
    return np.asarray((np.float32(0.75) + close) * (1 - np.float32(0.62) * inside) * crowded)


def _network(cells: Cells, mass: Float[np.ndarray, "cell"], rng: np.random.Generator) -> Strokes:
    """Return fine filaments: most run outwards in curves, some around the nucleus, some across it."""
    area = np.pi * cells.body_radius**2
    counts = np.where(mass > 0, np.maximum(area / _PX2_PER_FILAMENT, 20), 0).astype(int)
    cell = np.repeat(np.arange(len(cells)), counts)
    n = len(cell)
    around = rng.random(n) < 0.27
    start = np.where(around, rng.uniform(-0.5, 0.6, n), rng.uniform(-0.7, 0.4, n))
    end = np.where(around, start + rng.normal(0, 0.15, n), rng.uniform(0.5, 1.1, n))
    turn = np.where(around, rng.choice([-1, 1], n) * rng.uniform(0.5, 2.2, n), rng.normal(0, 0.45, n))
    turn *= np.minimum(1, 40 / cells.body_radius[cell])
    theta, depth = _curves(rng, n, start, np.minimum(end, 1.0), turn, wiggle=0.06)
    rows, columns = polar_paths(cells, cell, theta, depth)
    rows, columns = _from_centrosomes(cells, cell, rows, columns, rng)
    brightness = np.exp(0.4 * rng.standard_normal(n)) / 0.9
    per_px = mass[cell] * area[cell] / np.maximum(counts[cell], 1) / (0.75 * cells.body_radius[cell])
    return with_length(rows, columns, cell, per_px * brightness)


def _from_centrosomes(
    cells: Cells,
    cell: Int[np.ndarray, "stroke"],
    rows: Float32[np.ndarray, "stroke step"],
    columns: Float32[np.ndarray, "stroke step"],
    rng: np.random.Generator,
) -> tuple[Float32[np.ndarray, "stroke step"], Float32[np.ndarray, "stroke step"]]:
    """Shift the start of every path, most towards the side of the nucleus where its cell's centrosome lies."""
    aside = rng.normal(0, 0.35, (2, len(cells)))[:, cell] + rng.normal(0, 0.45, (2, len(cell)))
    shift = (aside * cells.nucleus_radius[cell]).astype(np.float32)[:, :, None]
    left = np.linspace(1, 0, _STEPS, dtype=np.float32)
    return rows + shift[0] * left, columns + shift[1] * left


def _bundles(cells: Cells, mass: Float[np.ndarray, "cell"], rng: np.random.Generator) -> Strokes:
    """Return thick cables that do not start at the centre: along the cell or around the nucleus."""
    cables, strands = 13, 5
    hit = np.flatnonzero(mass > 0)
    cable_cell = np.repeat(hit, cables)
    n = len(cable_cell)
    around = rng.random(n) < 0.5
    start = np.where(around, rng.uniform(-0.1, 0.6, n), rng.uniform(-0.3, 0.4, n))
    end = np.where(around, start + rng.normal(0, 0.2, n), rng.uniform(0.6, 1.05, n))
    turn = np.where(around, rng.choice([-1, 1], n) * rng.uniform(0.6, 1.6, n), rng.normal(0, 0.3, n))
    theta, depth = _curves(rng, n, start, np.minimum(end, 0.9), turn, wiggle=0.02)
    smooth = ndimage.uniform_filter1d(cells.outline, 41, axis=1, mode="wrap")  # cables do not bend at every spike
    rows, columns = polar_paths(replace(cells, outline=smooth), cable_cell, theta, depth)
    apart = rng.normal(0, 0.75, (2, n, strands, 1)).astype(np.float32)
    rows = (rows[:, None] + apart[0]).reshape(n * strands, _STEPS)
    columns = (columns[:, None] + apart[1]).reshape(n * strands, _STEPS)
    cell = np.repeat(cable_cell, strands)
    per_px = mass[cell] * np.pi * cells.body_radius[cell] / (1.1 * cables * strands)
    return with_length(rows, columns, cell, per_px * np.exp(0.4 * rng.standard_normal(len(cell))))


def _curves(
    rng: np.random.Generator,
    n: int,
    start: Float[np.ndarray, "stroke"],
    end: Float[np.ndarray, "stroke"],
    turn: Float[np.ndarray, "stroke"],
    wiggle: float,
) -> tuple[Float32[np.ndarray, "stroke step"], Float32[np.ndarray, "stroke step"]]:
    """Return direction and depth along paths that turn by `turn` radians while their depth goes from start to end."""
    along = np.linspace(0, 1, _STEPS, dtype=np.float32)
    first = rng.uniform(0, 2 * np.pi, n).astype(np.float32)[:, None]
    phase = rng.uniform(0, 2 * np.pi, n).astype(np.float32)[:, None]
    pace = rng.uniform(5, 14, n).astype(np.float32)[:, None]
    sway = (wiggle * np.abs(rng.standard_normal(n))).astype(np.float32)[:, None]
    theta = first + turn.astype(np.float32)[:, None] * along + sway * np.sin(pace * along + phase)
    depth = start.astype(np.float32)[:, None] + (end - start).astype(np.float32)[:, None] * along
    return theta, depth


def _spindles(cells: Cells, rng: np.random.Generator) -> Strokes:
    """Return filaments from pole to pole of cells in regular mitosis."""
    which = np.flatnonzero(cells.having("mitotic"))
    cell = np.repeat(which, 50)
    along = np.linspace(-1, 1, _STEPS, dtype=np.float32)
    half = rng.uniform(11, 15, len(which)).repeat(50).astype(np.float32)[:, None]
    bulge = rng.normal(0, 5.5, len(cell)).astype(np.float32)[:, None]
    length, beside = half * along, bulge * (1 - along**2)
    cos, sin = (f(cells.angle[cell]).astype(np.float32)[:, None] for f in (np.cos, np.sin))
    rows = cells.row[cell].astype(np.float32)[:, None] + length * sin + beside * cos
    columns = cells.column[cell].astype(np.float32)[:, None] + length * cos - beside * sin
    return with_length(rows, columns, cell, cells.tubulin[cell] * 0.2)


def _asters(cells: Cells, rng: np.random.Generator) -> Strokes:
    """Return small stars of filaments in arrested cells: single poles, or remains of a spindle."""
    which = np.flatnonzero(cells.having("mitotic_arrest"))
    stars, rays = 3, 16
    centre = rng.normal(0, 6.5, (2, len(which), stars)).repeat(rays, axis=2).reshape(2, -1).astype(np.float32)
    cell = np.repeat(which, stars * rays)
    angle = rng.uniform(0, 2 * np.pi, len(cell)).astype(np.float32)[:, None]
    along = np.linspace(0, 1, _STEPS, dtype=np.float32) * rng.uniform(2, 8, len(cell)).astype(np.float32)[:, None]
    rows = cells.row[cell].astype(np.float32)[:, None] + centre[0][:, None] + along * np.sin(angle)
    columns = cells.column[cell].astype(np.float32)[:, None] + centre[1][:, None] + along * np.cos(angle)
    return with_length(rows, columns, cell, cells.tubulin[cell] * 0.5 * (1 - 0.8 * cells.reaction.severity[cell]))


def _dots(cells: Cells, rng: np.random.Generator) -> Strokes:
    """Return bright centrosomes beside some nuclei, and short remains of lost filaments."""
    gone = cells.reaction.tubulin_lost
    counts = rng.binomial(1, np.where(cells.rounded, 0.0, 0.3)) + rng.poisson(5 * gone)
    cell = np.repeat(np.arange(len(cells)), counts)
    n = len(cell)
    theta = (rng.uniform(0, 2 * np.pi, n)[:, None] + rng.normal(0, 0.04, (n, _STEPS))).astype(np.float32)
    depth = (rng.uniform(-0.1, 0.35, n)[:, None] + rng.normal(0, 0.03, (n, _STEPS))).astype(np.float32)
    rows, columns = polar_paths(cells, cell, theta, depth)
    light = np.repeat((cells.tubulin[cell] * rng.uniform(0.1, 0.6, n)).astype(np.float32)[:, None], _STEPS, axis=1)
    return Strokes(rows, columns, cell, light)


def _joined(families: list[Strokes]) -> Strokes:
    return Strokes(
        rows=np.concatenate([family.rows for family in families]),
        columns=np.concatenate([family.columns for family in families]),
        cell=np.concatenate([family.cell for family in families]),
        light=np.concatenate([family.light for family in families]),
    )
