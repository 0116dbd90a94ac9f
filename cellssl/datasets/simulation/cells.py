"""cells: positions, phenotypes and a random generator in -> size, shape and brightness of every cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from cellssl.datasets.simulation.phenotypes import Reaction, mask_of

ANGLES = 256  # directions in which an outline is known

Column = Float[np.ndarray, "cell"]


@dataclass(frozen=True)
class Cells:
    """One row per cell. Lengths are in px; brightness is relative to an average cell of an average plate."""

    row: Column
    column: Column
    reaction: Reaction
    angle: Column
    nucleus_radius: Column
    nucleus_ratio: Column
    outline: Float[np.ndarray, "cell angle"]
    fray: Float[np.ndarray, "cell angle"]
    dna: Column
    tubulin: Column
    actin: Column

    def __len__(self) -> int:
        return len(self.row)

    def having(self, *phenotypes: str) -> Bool[np.ndarray, "cell"]:
        """Return which cells have one of these phenotypes."""
        return np.asarray(mask_of(*phenotypes)[self.reaction.phenotype])

    def severity_of(self, *phenotypes: str) -> Column:
        """Return the severity where the cell has one of these phenotypes, else 0."""
        return np.asarray(np.where(self.having(*phenotypes), self.reaction.severity, 0.0))

    @property
    def rounded(self) -> Bool[np.ndarray, "cell"]:
        """Return which cells have rounded up and detached: cells in mitosis, arrested in mitosis, or dead."""
        return self.having("mitotic", "mitotic_arrest", "dead")

    @property
    def body_radius(self) -> Column:
        """Return the radius of a disc with the area that the cell would have without neighbours."""
        return np.asarray(np.sqrt((self.outline**2).mean(axis=1)))


def grow(
    rng: np.random.Generator,
    positions: Float[np.ndarray, "cell 2"],
    reaction: Reaction,
    nuclear_scale: float = 1.0,
) -> Cells:
    """Draw size, shape and brightness of cells whose position and reaction are known.

    All nuclei have `nuclear_scale` times their usual radius.
    """
    n, phenotype = len(positions), reaction.phenotype
    multi = np.where(mask_of("multinucleate")[phenotype], reaction.severity, 0.0)
    shrunken, clumped = reaction.contracted, reaction.actin_clumped
    content = _dna_content(rng, n)
    size = _lognormal(rng, n, 0.075)
    angle = rng.uniform(0, np.pi, n)
    elongation = 1.0 + rng.gamma(1.6, 0.28, n) * (1 - 0.5 * shrunken)
    nucleus_radius = 17.2 * content**0.28 * size * (1 - 0.25 * shrunken) * np.sqrt(1 + reaction.swollen)
    nucleus_radius *= nuclear_scale * np.sqrt(1 + 0.3 * reaction.enlarged)
    body = 45.0 * content**0.25 * size * _lognormal(rng, n, 0.24) * (1 + 0.2 * multi) * (1 - 0.55 * shrunken)
    body *= 1 + 0.3 * reaction.enlarged
    spikiness = _lognormal(rng, n, 0.4) * (1 + 1.5 * shrunken + 1.3 * clumped)
    outline = _outlines(rng, body, elongation, angle, spikiness)
    outline = np.where(_rounded(phenotype)[:, None], _round_outlines(rng, phenotype), outline)
    # The same mass in a smaller body is thicker, hence brighter, most of all in a ball; but retracted cells lose some.
    compact = 42.0 / np.sqrt((outline**2).mean(axis=1))
    thick = compact ** np.where(_rounded(phenotype), 1.5, 0.9) * (1 - 0.25 * shrunken)
    return Cells(
        row=positions[:, 0],
        column=positions[:, 1],
        reaction=reaction,
        angle=angle,
        nucleus_radius=nucleus_radius,
        nucleus_ratio=1.0 + rng.gamma(3.0, 0.085, n),
        outline=outline.astype(np.float32),
        fray=_fray(rng, spikiness),
        dna=content**0.3 * size**-1.2 * _lognormal(rng, n, 0.17) * (1 - 0.08 * reaction.enlarged),
        # Fixation washes out tubulin outside of filaments, and phalloidin binds only actin in filaments.
        tubulin=thick * _lognormal(rng, n, 0.27) * (1 - 0.5 * reaction.tubulin_lost),
        actin=thick**0.75 * _lognormal(rng, n, 0.27) * (1 - 0.4 * reaction.actin_clumped),
    )


def _rounded(phenotype: Int[np.ndarray, "cell"]) -> Bool[np.ndarray, "cell"]:
    return np.asarray(mask_of("mitotic", "mitotic_arrest", "dead")[phenotype])


def _dna_content(rng: np.random.Generator, n: int) -> Column:
    """Return DNA contents: 1 before replication, 2 after it; about half of the cells are at 1 and a fifth at 2."""
    return np.asarray(1.0 + np.clip(rng.uniform(-1.2, 1.5, n), 0.0, 1.0))


def _lognormal(rng: np.random.Generator, n: int, spread: float) -> Column:
    return np.asarray(np.exp(spread * rng.standard_normal(n)))


def _outlines(
    rng: np.random.Generator, body: Column, elongation: Column, angle: Column, spikiness: Column
) -> Float[np.ndarray, "cell angle"]:
    """Return the radius by direction of adherent cells: an ellipse, retracted between a few points of attachment."""
    n, points = len(body), 7
    theta = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    along = theta - angle[:, None]
    ratio = elongation[:, None]
    ellipse = np.sqrt(ratio) / np.sqrt(np.cos(along) ** 2 + (ratio * np.sin(along)) ** 2)
    at = angle[:, None] + np.where(
        rng.random((n, points)) < 0.55,
        rng.integers(0, 2, (n, points)) * np.pi + 0.5 * rng.standard_normal((n, points)),
        rng.uniform(0, 2 * np.pi, (n, points)),
    )
    height = rng.gamma(1.5, 0.22, (n, points)) * spikiness[:, None]
    width = rng.uniform(0.14, 0.50, (n, points))
    off = np.abs((theta - at[..., None] + np.pi) % (2 * np.pi) - np.pi)
    spikes = (height[..., None] * np.exp(-off / width[..., None])).max(axis=1)
    return np.asarray(body[:, None] * ellipse * (0.76 + spikes))


def _fray(rng: np.random.Generator, spikiness: Column) -> Float[np.ndarray, "cell angle"]:
    """Return a factor on the outline, different in every direction: the frayed edge of an attached cell."""
    teeth = rng.gamma(0.35, 0.07, (len(spikiness), ANGLES)) - 0.02
    return np.asarray(1 + np.sqrt(spikiness)[:, None] * teeth, np.float32)


def _round_outlines(rng: np.random.Generator, phenotype: Int[np.ndarray, "cell"]) -> Float[np.ndarray, "cell angle"]:
    """Return the radius by direction of cells that have rounded up; dead ones are smaller and have bulges."""
    n = len(phenotype)
    theta = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    dead = mask_of("dead")[phenotype]
    radius = np.where(dead, rng.uniform(11, 18, n), rng.uniform(19, 27, n))
    size = np.where(dead, 0.13, 0.04)[:, None]
    bulges = [
        size / wave * rng.normal(0, 1, (n, 1)) * np.sin(wave * theta + rng.uniform(0, 6.3, (n, 1)))
        for wave in (1, 2, 3)
    ]
    return np.asarray(radius[:, None] * (1 + np.clip(sum(bulges), -0.5, 0.5)))
