"""phenotypes: a compound and a dose in -> how every single cell of a field reacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

PHENOTYPES = (
    "normal",
    "mitotic",
    "dead",
    "multinucleate",
    "micronucleate",
    "mitotic_arrest",
    "bundled_tubulin",
    "depolymerised_tubulin",
    "actin_clumps",
    "shrunken",
)
INDEX = {name: position for position, name in enumerate(PHENOTYPES)}

# What a healthy culture holds anyway: about 3 % in mitosis, and a few dead, multinucleate or retracted cells.
UNTREATED: Mapping[str, float] = {
    "normal": 0.925,
    "mitotic": 0.028,
    "dead": 0.015,
    "multinucleate": 0.012,
    "micronucleate": 0.010,
    "shrunken": 0.010,
}


@dataclass(frozen=True)
class Compound:
    """A simulated compound: how many cells react at which dose, and in which ways."""

    name: str
    moa: str
    doses_micromolar: tuple[float, ...]
    half_effect_micromolar: float
    steepness: float
    reactions: Mapping[str, float]

    def chance(self, dose_micromolar: float, effect_max: float) -> float:
        """The chance of one cell to react: Hill's curve, which levels off at `effect_max`."""
        powered = dose_micromolar**self.steepness
        return float(effect_max * powered / (powered + self.half_effect_micromolar**self.steepness))


# Doses are those of the compounds in BBBC021. Half-effect doses are of the order that cell lines show after 24 h
# (taxol and nocodazole tens of nanomolar, cytochalasin B about one micromolar). Reactions follow the drugs' biology:
# without microtubules cells arrest in mitosis, slip out of it with several nuclei, or contract; stabilised
# microtubules bundle, and the chromosomes that they scatter end in micronuclei; without actin filaments cells keep
# clumps of actin, and contract.
COMPOUNDS: Mapping[str, Compound] = {
    compound.name: compound
    for compound in (
        Compound(
            "sim-nocodazole",
            "Microtubule destabilizers",
            (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
            half_effect_micromolar=0.05,
            steepness=1.5,
            reactions={"depolymerised_tubulin": 0.35, "mitotic_arrest": 0.30, "multinucleate": 0.20, "shrunken": 0.15},
        ),
        Compound(
            "sim-taxol",
            "Microtubule stabilizers",
            (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
            half_effect_micromolar=0.02,
            steepness=1.2,
            reactions={"bundled_tubulin": 0.35, "micronucleate": 0.30, "mitotic_arrest": 0.20, "multinucleate": 0.15},
        ),
        Compound(
            "sim-cytochalasin",
            "Actin disruptors",
            (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
            half_effect_micromolar=1.0,
            steepness=1.5,
            reactions={"actin_clumps": 0.65, "shrunken": 0.35},
        ),
    )
}


def react(
    rng: np.random.Generator, cells: int, chance: float, reactions: Mapping[str, float]
) -> tuple[Int[np.ndarray, "cell"], Float[np.ndarray, "cell"]]:
    """Phenotype (position in PHENOTYPES) and severity (0 to 1; 0 where normal) of every cell.

    A cell that does not react is what it would have been without the compound.
    """
    without = _choose(rng, cells, UNTREATED)
    severity = rng.beta(4.0, 2.0, cells)
    reacts = rng.random(cells) < chance
    phenotype = np.where(reacts, _choose(rng, cells, reactions or {"normal": 1.0}), without)
    return phenotype, np.where(phenotype == INDEX["normal"], 0.0, severity)


def _choose(rng: np.random.Generator, cells: int, shares: Mapping[str, float]) -> Int[np.ndarray, "cell"]:
    return rng.choice([INDEX[name] for name in shares], size=cells, p=list(shares.values()))


@cache
def mask_of(*names: str) -> np.ndarray:
    """A table over PHENOTYPES that is True for the named ones: `mask_of("dead")[phenotype]`."""
    table = np.zeros(len(PHENOTYPES), bool)
    table[[INDEX[name] for name in names]] = True
    table.setflags(write=False)
    return table
