"""lobes: cells in -> their bodies of DNA, by phenotype: nuclei, micronuclei, chromosomes, remains of dead cells."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float, Int

from cellssl.datasets.simulation.cells import Cells


@dataclass(frozen=True)
class Lobes:
    """Bodies of DNA, one row per body: a nucleus, one of several nuclei, a micronucleus, a clump of chromosomes."""

    cell: Int[np.ndarray, "lobe"]
    row: Float[np.ndarray, "lobe"]
    column: Float[np.ndarray, "lobe"]
    radius: Float[np.ndarray, "lobe"]
    ratio: Float[np.ndarray, "lobe"]
    angle: Float[np.ndarray, "lobe"]
    light: Float[np.ndarray, "lobe"]
    bumpiness: Float[np.ndarray, "lobe"]
    soft_px: Float[np.ndarray, "lobe"]
    nucleoli: Int[np.ndarray, "lobe"]
    grain: Float[np.ndarray, "lobe"]

    def __len__(self) -> int:
        return len(self.row)


_COLUMNS = tuple(field.name for field in fields(Lobes))


def all_lobes(cells: Cells, rng: np.random.Generator) -> Lobes:
    """Return the lobes of every cell, by its phenotype; cells keep their order."""
    builders = {
        "mitotic": _mitotic,
        "mitotic_arrest": _arrested,
        "dead": _dead,
        "multinucleate": _several,
        "micronucleate": _fragmented,
    }
    special = cells.having(*builders)
    parts = [_single(cells, np.flatnonzero(~special), rng)]
    for phenotype, build in builders.items():
        parts.append(build(cells, np.flatnonzero(cells.having(phenotype)), rng))
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
    order = np.argsort(joined["cell"], kind="stable")
    return Lobes(**{name: values[order] for name, values in joined.items()})


def _single(cells: Cells, which: Int[np.ndarray, "n"], rng: np.random.Generator) -> Lobes:
    """Return one nucleus per cell; its outline is uneven where the cytoskeleton around it is disturbed."""
    disturbed = cells.severity_of("bundled_tubulin", "depolymerised_tubulin", "shrunken", "actin_clumps")[which]
    bumpiness = np.abs(rng.normal(0.015, 0.02, len(which))) + disturbed * rng.gamma(2.0, 0.035, len(which))
    return _lobes(
        cells,
        which,
        radius=cells.nucleus_radius[which],
        ratio=cells.nucleus_ratio[which],
        angle=cells.angle[which] + rng.normal(0, 0.15, len(which)),
        light=cells.dna[which],
        bumpiness=bumpiness,
        nucleoli=rng.integers(0, 5, len(which)),
        grain=rng.uniform(0.09, 0.20, len(which)),
    )


def _several(cells: Cells, which: Int[np.ndarray, "n"], rng: np.random.Generator) -> Lobes:
    """Return two to four nuclei side by side, more at higher severity; together they hold more DNA than one."""
    counts = 2 + rng.binomial(2, 0.2 + 0.5 * cells.reaction.severity[which])
    cell = np.repeat(which, counts)
    position = np.concatenate([np.arange(count) for count in counts]) if len(counts) else np.empty(0)
    number = np.repeat(counts, counts)
    radius = cells.nucleus_radius[cell] * 1.12 / np.sqrt(number) * np.exp(0.15 * rng.standard_normal(len(cell)))
    around = cells.angle[cell] + 2 * np.pi * position / np.maximum(number, 1) + rng.normal(0, 0.25, len(cell))
    away = cells.nucleus_radius[cell] * np.where(number == 2, 0.72, 0.86) * rng.uniform(0.85, 1.15, len(cell))
    return _lobes(
        cells,
        cell,
        down=away * np.sin(around),
        across=away * np.cos(around),
        radius=radius,
        ratio=1 + rng.gamma(2.0, 0.1, len(cell)),
        angle=around + np.pi / 2 + rng.normal(0, 0.4, len(cell)),
        light=cells.dna[cell] * np.exp(0.1 * rng.standard_normal(len(cell))),
        bumpiness=np.abs(rng.normal(0.03, 0.03, len(cell))),
        nucleoli=rng.integers(0, 3, len(cell)),
        grain=rng.uniform(0.09, 0.20, len(cell)),
    )


def _fragmented(cells: Cells, which: Int[np.ndarray, "n"], rng: np.random.Generator) -> Lobes:
    """Return a main nucleus and micronuclei around it that took part of its DNA; more and larger at higher severity."""
    severity = cells.reaction.severity[which]
    main = _lobes(
        cells,
        which,
        radius=cells.nucleus_radius[which] * (1 - 0.4 * severity),
        ratio=cells.nucleus_ratio[which],
        angle=cells.angle[which],
        light=cells.dna[which],
        bumpiness=0.03 + 0.08 * severity,
        nucleoli=rng.integers(0, 3, len(which)),
        grain=rng.uniform(0.09, 0.20, len(which)),
    )
    cell = np.repeat(which, 1 + rng.poisson(1 + 7 * severity))
    bad = cells.reaction.severity[cell]
    around = rng.uniform(0, 2 * np.pi, len(cell))
    away = cells.nucleus_radius[cell] * rng.uniform(0.55, 1.25, len(cell))
    small = _lobes(
        cells,
        cell,
        down=away * np.sin(around),
        across=away * np.cos(around),
        radius=cells.nucleus_radius[cell] * rng.uniform(0.14, 0.2 + 0.32 * bad, len(cell)),
        ratio=1 + rng.gamma(2.0, 0.1, len(cell)),
        angle=around,
        light=cells.dna[cell] * rng.uniform(0.6, 1.1, len(cell)),
        bumpiness=np.full(len(cell), 0.02),
        nucleoli=np.zeros(len(cell), int),
        grain=rng.uniform(0.03, 0.08, len(cell)),
    )
    return _join(main, small)


def _mitotic(cells: Cells, which: Int[np.ndarray, "n"], rng: np.random.Generator) -> Lobes:
    """Return chromosomes aligned in one plate (metaphase), or in two separated ones (anaphase)."""
    parted = rng.random(len(which)) < 0.35
    cell = np.repeat(which, np.where(parted, 2, 1))
    side = np.concatenate([[-1.0, 1.0] if two else [0.0] for two in parted]) if len(which) else np.empty(0)
    away = side * rng.uniform(9, 15, len(which)).repeat(np.where(parted, 2, 1))
    return _lobes(
        cells,
        cell,
        down=away * np.sin(cells.angle[cell]),
        across=away * np.cos(cells.angle[cell]),
        radius=np.where(side == 0, 9.5, 7.8) * rng.uniform(0.9, 1.1, len(cell)),
        ratio=rng.uniform(1.8, 3.2, len(cell)),
        angle=cells.angle[cell] + np.pi / 2 + rng.normal(0, 0.12, len(cell)),
        light=cells.dna[cell] * rng.uniform(2.8, 4.8, len(cell)),
        bumpiness=rng.uniform(0.03, 0.1, len(cell)),
        nucleoli=np.zeros(len(cell), int),
        grain=rng.uniform(0.1, 0.2, len(cell)),
    )


def _arrested(cells: Cells, which: Int[np.ndarray, "n"], rng: np.random.Generator) -> Lobes:
    """Return condensed chromosomes that did not align: a ragged ball or ring of clumps."""
    cell = np.repeat(which, rng.integers(8, 17, len(which)))
    severity = cells.reaction.severity[cell]
    around = rng.uniform(0, 2 * np.pi, len(cell))
    away = np.sqrt(rng.uniform(0.05, 1, len(cell))) * (9 + 6 * severity)
    squash = 0.6 + 0.4 * severity
    down, across = away * np.sin(around), squash * away * np.cos(around)
    cos, sin = np.cos(cells.angle[cell]), np.sin(cells.angle[cell])
    return _lobes(
        cells,
        cell,
        down=down * cos + across * sin,
        across=across * cos - down * sin,
        radius=rng.uniform(2.8, 5.4, len(cell)),
        ratio=rng.uniform(1.0, 2.2, len(cell)),
        angle=rng.uniform(0, np.pi, len(cell)),
        light=cells.dna[cell] * rng.uniform(1.2, 2.5, len(cell)),
        bumpiness=np.zeros(len(cell)),
        nucleoli=np.zeros(len(cell), int),
        grain=rng.uniform(0.05, 0.15, len(cell)),
        soft_px=rng.uniform(0.8, 2.6, len(which)).repeat(
            np.bincount(np.searchsorted(which, cell), minlength=len(which))
        ),
    )


def _dead(cells: Cells, which: Int[np.ndarray, "n"], rng: np.random.Generator) -> Lobes:
    """Return one to three small, dense, very bright remains; they float, so they are out of focus."""
    counts = rng.integers(1, 4, len(which))
    cell = np.repeat(which, counts)
    spread = np.where(np.repeat(counts, counts) == 1, 0.0, 7.0)
    return _lobes(
        cells,
        cell,
        down=rng.normal(0, 1, len(cell)) * spread,
        across=rng.normal(0, 1, len(cell)) * spread,
        radius=rng.uniform(4.5, 9.5, len(cell)),
        ratio=1 + rng.gamma(2.0, 0.25, len(cell)),
        angle=rng.uniform(0, np.pi, len(cell)),
        light=cells.dna[cell] * rng.uniform(2.0, 5.5, len(cell)),
        bumpiness=rng.uniform(0.03, 0.12, len(cell)),
        nucleoli=np.zeros(len(cell), int),
        grain=np.full(len(cell), 0.05),
        soft_px=rng.uniform(1.0, 4.5, len(cell)),
    )


def _lobes(
    cells: Cells,
    cell: Int[np.ndarray, "lobe"],
    *,
    down: Float[np.ndarray, "lobe"] | float = 0.0,
    across: Float[np.ndarray, "lobe"] | float = 0.0,
    soft_px: Float[np.ndarray, "lobe"] | float = 1.0,
    **columns: np.ndarray,
) -> Lobes:
    """Return lobes at an offset from the centres of their cells."""
    soft = np.broadcast_to(np.asarray(soft_px, float), cell.shape)
    return Lobes(cell=cell, row=cells.row[cell] + down, column=cells.column[cell] + across, soft_px=soft, **columns)


def _join(first: Lobes, second: Lobes) -> Lobes:
    return Lobes(**{name: np.concatenate([getattr(first, name), getattr(second, name)]) for name in _COLUMNS})
