"""phenotypes: a compound and a dose in -> how every single cell of a field reacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from cellssl.datasets.simulation.compounds import Compound, Skeleton

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
    "enlarged",
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
class Reaction:
    """Per cell: its phenotype (position in PHENOTYPES), its severity (0 to 1), and the effects on its cytoskeleton."""

    phenotype: Int[np.ndarray, "cell"]
    severity: Float[np.ndarray, "cell"]
    tubulin_lost: Float[np.ndarray, "cell"]
    tubulin_bundled: Float[np.ndarray, "cell"]
    actin_clumped: Float[np.ndarray, "cell"]
    contracted: Float[np.ndarray, "cell"]
    enlarged: Float[np.ndarray, "cell"]
    swollen: Float[np.ndarray, "cell"]
    """By how much the area of the nucleus grows beside all that, as a share of it."""


def react(
    rng: np.random.Generator, cells: int, chance: float, compound: Compound | None, swelling: float = 0.0
) -> Reaction:
    """Draw how every cell reacts; a cell that does not react is the same as without the compound.

    The area of the nucleus of a reacting cell grows by the share `swelling`, times its severity.
    """
    without = _choose(rng, cells, UNTREATED)
    severity = rng.beta(4.0, 2.0, cells)
    reacts = rng.random(cells) < chance
    phenotype = np.where(
        reacts, _choose(rng, cells, compound.reactions if compound and compound.reactions else {"normal": 1.0}), without
    )
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
        enlarged=effect(skeleton.enlarged, "enlarged"),
        swollen=np.where(reacts, swelling * severity, 0.0),
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
