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

# Phenotypes of a healthy culture: about 3 % in mitosis, and a few dead, multinucleate or retracted cells.
UNTREATED: Mapping[str, float] = {
    "normal": 0.925,
    "mitotic": 0.028,
    "dead": 0.015,
    "multinucleate": 0.012,
    "micronucleate": 0.010,
    "shrunken": 0.010,
}


@dataclass(frozen=True)
class Skeleton:
    """Effects of the drug on the cytoskeleton of every reacting cell, whatever its phenotype; shares of severity."""

    tubulin_lost: float = 0.0
    tubulin_bundled: float = 0.0
    actin_clumped: float = 0.0
    contracted: float = 0.0


@dataclass(frozen=True)
class Compound:
    """A simulated compound: which share of cells reacts at which dose, and how."""

    name: str
    moa: str
    doses_micromolar: tuple[float, ...]
    half_effect_micromolar: float
    steepness: float
    reactions: Mapping[str, float]
    skeleton: Skeleton

    def chance(self, dose_micromolar: float, effect_max: float) -> float:
        """Return the probability that a cell reacts: the Hill equation, with the maximum `effect_max`."""
        powered = dose_micromolar**self.steepness
        return float(effect_max * powered / (powered + self.half_effect_micromolar**self.steepness))


# Doses are those of the compounds in BBBC021. Half-effect doses are of the order that cell lines show after 24 h
# (taxol and nocodazole tens of nanomolar, cytochalasin B about one micromolar). Reactions follow the drugs' biology:
# without microtubules cells arrest in mitosis, slip out of it with several nuclei, or contract; stabilised
# microtubules bundle, and the chromosomes that they scatter end in micronuclei; without actin filaments cells keep
# clumps of actin, and contract. The drug reaches the cytoskeleton of every cell that reacts: without microtubules a
# cell contracts (they hold Rho's activator back), and without actin filaments it pulls back from its neighbours.
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
            skeleton=Skeleton(tubulin_lost=1.0, contracted=0.5),
        ),
        Compound(
            "sim-taxol",
            "Microtubule stabilizers",
            (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
            half_effect_micromolar=0.02,
            steepness=1.2,
            reactions={"bundled_tubulin": 0.35, "micronucleate": 0.30, "mitotic_arrest": 0.20, "multinucleate": 0.15},
            skeleton=Skeleton(tubulin_bundled=1.0),
        ),
        Compound(
            "sim-cytochalasin",
            "Actin disruptors",
            (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0),
            half_effect_micromolar=1.0,
            steepness=1.5,
            reactions={"actin_clumps": 0.65, "shrunken": 0.35},
            skeleton=Skeleton(actin_clumped=1.0, contracted=0.5),
        ),
    )
}


@dataclass(frozen=True)
class Reaction:
    """Per cell: its phenotype (position in PHENOTYPES), its severity (0 to 1), and the effects on its cytoskeleton."""

    phenotype: Int[np.ndarray, "cell"]
    severity: Float[np.ndarray, "cell"]
    tubulin_lost: Float[np.ndarray, "cell"]
    tubulin_bundled: Float[np.ndarray, "cell"]
    actin_clumped: Float[np.ndarray, "cell"]
    contracted: Float[np.ndarray, "cell"]


def react(rng: np.random.Generator, cells: int, chance: float, compound: Compound | None) -> Reaction:
    """Draw how every cell reacts; a cell that does not react is the same as without the compound."""
    without = _choose(rng, cells, UNTREATED)
    severity = rng.beta(4.0, 2.0, cells)
    reacts = rng.random(cells) < chance
    phenotype = np.where(reacts, _choose(rng, cells, compound.reactions if compound else {"normal": 1.0}), without)
    severity = np.where(phenotype == INDEX["normal"], 0.0, severity)
    skeleton = compound.skeleton if compound else Skeleton()

    def effect(share: float, *phenotypes: str) -> Float[np.ndarray, "cell"]:
        return np.maximum(
            np.where(reacts, share * severity, 0.0), np.where(mask_of(*phenotypes)[phenotype], severity, 0.0)
        )

    return Reaction(
        phenotype,
        severity,
        tubulin_lost=effect(skeleton.tubulin_lost, "depolymerised_tubulin"),
        tubulin_bundled=effect(skeleton.tubulin_bundled, "bundled_tubulin"),
        actin_clumped=effect(skeleton.actin_clumped, "actin_clumps"),
        contracted=effect(skeleton.contracted, "shrunken"),
    )


def _choose(rng: np.random.Generator, cells: int, shares: Mapping[str, float]) -> Int[np.ndarray, "cell"]:
    return rng.choice([INDEX[name] for name in shares], size=cells, p=list(shares.values()))


@cache
def mask_of(*names: str) -> np.ndarray:
    """Return a table over PHENOTYPES that is True for the named ones: `mask_of("dead")[phenotype]`."""
    table = np.zeros(len(PHENOTYPES), bool)
    table[[INDEX[name] for name in names]] = True
    table.setflags(write=False)
    return table
