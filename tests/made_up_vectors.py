"""made_up_vectors: a design of a screen in, a table of its cells with vectors and a known answer out.

Wells of one plate share an offset, wells at a place share position effects, and cells of a well share a well effect
with heavy tails and few strong directions. Features have different units, and some never vary.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from cellssl.datasets.simulation.plate_layout import SIZES, Treatment, at_random, is_outer
from cellssl.randomness import generator

CONTROL: Treatment = ("DMSO", 0.0)
HEAVY_TAILS = 5  # degrees of freedom of Student's t


@dataclass(frozen=True)
class Design:
    """What the plates of a screen carry, and how strong every effect is, in standard deviations of single cells."""

    plates: int = 1
    plate_wells: int = 96
    control_wells: int = 12
    """Per plate."""
    treatments: int = 20
    wells_per_treatment: int = 4
    """Per plate."""
    active: int = 0
    """Number of treatments that change cells; the first ones."""
    changed_share: float = 0.3
    """Share of cells that an active treatment changes."""
    shift: float = 3.0
    """Length of the change of such a cell."""
    layout: Literal["shuffled", "fixed", "controls_in_columns"] = "shuffled"
    """`shuffled`: drawn for every plate; `fixed`: drawn once; `controls_in_columns`: controls fill columns 1 and last
    (and next ones inwards), treatments are drawn once among the other wells."""
    cells_per_well: float = 40
    """Mean number of cells; wells differ by a factor with the standard deviation of the log 0.3."""
    dim: int = 60
    dead: int = 5
    """Features that never vary, among `dim`."""
    plate_effect: float = 2.0
    well_effect: float = 0.5
    edge_effect: float = 0.0
    gradient: float = 0.0
    """Length of the difference between the first and the last row, and between the columns."""
    same_positions: bool = True
    """Whether position effects are alike on all plates."""


@dataclass(frozen=True)
class Screen:
    """The cells of a screen, with their vectors."""

    cells: pd.DataFrame
    """plate, well, batch, compound, dose_micromolar, control."""
    x: Float[np.ndarray, "n d"]
    active: frozenset[str]
    """Compounds that change cells."""

    def write(self, path: Path) -> Path:
        """Write the table as `hits.table` reads it: parquet, or CSV where the name says so."""
        names = {"plate": "Metadata_Plate", "well": "Metadata_Well"}
        metadata = self.cells.rename(columns=lambda name: names.get(name, f"Metadata_{name}"))
        features = pd.DataFrame(self.x, columns=[f"emb_{number:04d}" for number in range(self.x.shape[1])])
        table = pd.concat([metadata, features], axis=1)
        table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)
        return path


def made_up_screen(design: Design, seed: int) -> Screen:
    """Return a screen; the same seed and design give the same cells."""
    wells = _wells(design, seed)
    varying = design.dim - design.dead
    middle = _middles(design, wells, varying, seed)
    of_well, change = _changed(design, wells, varying, seed)
    noise = generator("vectors: cells", seed).standard_normal((len(of_well), varying)) * _spectrum(varying)
    turned = noise @ _basis(varying, "cells", seed).T
    units = 10 ** generator("vectors: units", seed).uniform(-2, 3, design.dim)
    x = np.concatenate([middle[of_well] + change + turned, np.ones((len(of_well), design.dead))], axis=1) * units
    active = frozenset(f"drug-{number:03d}" for number in range(1, design.active + 1))
    return Screen(wells.iloc[of_well].reset_index(drop=True), x.astype(np.float32), active)


def _wells(design: Design, seed: int) -> pd.DataFrame:
    """Return one row per well: plate, well, batch, compound, dose, control."""
    rows = []
    for number in range(1, design.plates + 1):
        of_layout = number if design.layout == "shuffled" else 0
        for well, (compound, dose) in sorted(_layout(design, seed, of_layout).items()):
            plate, batch = f"P{number:02d}", f"batch {1 + (number - 1) // 2}"
            rows.append((plate, well, batch, compound, dose, compound == CONTROL[0]))
    return pd.DataFrame(rows, columns=["plate", "well", "batch", "compound", "dose_micromolar", "control"])


def _layout(design: Design, seed: int, number: int) -> dict[str, Treatment]:
    rng = generator("vectors: layout", seed, number)
    drugs = [(f"drug-{drug:03d}", 1.0) for drug in range(1, design.treatments + 1)] * design.wells_per_treatment
    if design.layout != "controls_in_columns":
        return at_random([CONTROL] * design.control_wells + drugs, design.plate_wells, rng)
    rows, columns = SIZES[design.plate_wells]
    inwards = [column for step in range(columns // 2) for column in (step + 1, columns - step)]
    wells = [f"{chr(ord('A') + row)}{column:02d}" for column in inwards for row in range(rows)]
    chosen = rng.permutation(wells[design.control_wells :])[: len(drugs)].tolist()
    return dict.fromkeys(wells[: design.control_wells], CONTROL) | dict(zip(chosen, drugs, strict=True))


def _middles(design: Design, wells: pd.DataFrame, dim: int, seed: int) -> Float[np.ndarray, "wells d"]:
    """Return where the cells of every well lie: plate, position and well effects."""
    rng = generator("vectors: wells", seed)
    well_effects = rng.standard_t(HEAVY_TAILS, (len(wells), dim)) * _spectrum(dim) @ _basis(dim, "wells", seed).T
    plate_effects = {plate: _direction(dim, seed, "plate", str(plate)) for plate in wells["plate"].unique()}
    of_plate = np.stack([plate_effects[plate] for plate in wells["plate"]])
    places = np.stack([_position(design, row.plate, row.well, dim, seed) for row in wells.itertuples()])
    return np.asarray(design.plate_effect * of_plate + places + design.well_effect * well_effects)


def _position(design: Design, plate: str, well: str, dim: int, seed: int) -> Float[np.ndarray, "d"]:
    of = "all plates" if design.same_positions else plate
    rows, columns = SIZES[design.plate_wells]
    along = {"row": (ord(well[0]) - ord("A")) / (rows - 1) - 0.5, "column": (int(well[1:]) - 1) / (columns - 1) - 0.5}
    gradients = [design.gradient * share * _direction(dim, seed, axis, of) for axis, share in along.items()]
    edge = design.edge_effect * is_outer(well, design.plate_wells) * _direction(dim, seed, "edge", of)
    return np.asarray(edge + sum(gradients))


def _changed(design: Design, wells: pd.DataFrame, dim: int, seed: int) -> tuple[np.ndarray, Float[np.ndarray, "n d"]]:
    """Return the well of every cell, and how its treatment changed it."""
    rng = generator("vectors: numbers of cells", seed)
    counts = np.maximum(2, rng.poisson(design.cells_per_well * np.exp(0.3 * rng.standard_normal(len(wells)))))
    of_well = np.repeat(np.arange(len(wells)), counts)
    change = np.zeros((len(of_well), dim))
    drug = wells["compound"].to_numpy(object)[of_well]
    reacts = rng.random(len(of_well)) < design.changed_share
    for number in range(1, design.active + 1):
        name = f"drug-{number:03d}"
        change[(drug == name) & reacts] = design.shift * _direction(dim, seed, "drug", name)
    return of_well, change


def _spectrum(dim: int) -> Float[np.ndarray, "d"]:
    """Return standard deviations that decay, with a floor: a few strong directions, and noise in all."""
    return np.asarray(np.hypot(1 / np.sqrt(np.arange(1, dim + 1)), 0.2))


def _basis(dim: int, *names: str | int) -> Float[np.ndarray, "d d"]:
    return np.linalg.qr(generator("vectors: basis", *names).standard_normal((dim, dim)))[0]


def _direction(dim: int, seed: int, *names: str) -> Float[np.ndarray, "d"]:
    drawn = generator("vectors: direction", seed, *names).standard_normal(dim)
    return np.asarray(drawn / np.linalg.norm(drawn))
