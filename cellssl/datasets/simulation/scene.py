"""scene: the description of one field in -> its three images, the labels of its nuclei, and the truth of its cells."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float, Int, Int32, UInt16
from scipy import ndimage

from cellssl.datasets.simulation import actin, nuclei, optics, tubulin
from cellssl.datasets.simulation.bodies import tessellate
from cellssl.datasets.simulation.cells import Cells, grow
from cellssl.datasets.simulation.compounds import Compound, Surroundings, compound_of
from cellssl.datasets.simulation.layout import scatter
from cellssl.datasets.simulation.phenotypes import PHENOTYPES, react
from cellssl.randomness import generator

_PATCHINESS = 0.8
_FULL_PX2 = 1280 * 1024
_EDGE_LOSS, _EDGE_DIM, _EDGE_SHRINK = 0.35, 0.25, 0.08  # shares of cells, light and nuclear radius lost at the border


@dataclass(frozen=True)
class Scene:
    """Everything that the pixels of one field depend on. `cells_per_field` is the mean for 1280 x 1024 px."""

    seed: int
    plate: str
    well: str
    field_id: str
    compound: str | None
    dose_micromolar: float
    height_px: int
    width_px: int
    cells_per_field: float
    density_spread: float
    brightness_spread: float
    effect_max: float
    density_answer: float = 0.0
    """How strongly density, clumps and nuclear area answer the compound, as a share of what real wells show."""
    edge_effect: float = 0.0
    """How strongly the border of the plate acts on the well of this field; 0 inside the plate."""

    @property
    def treatment(self) -> Compound | None:
        """Return the compound of the well; None for DMSO."""
        return None if self.compound is None else compound_of(self.compound)

    @property
    def effect(self) -> float:
        """Return the effect of the compound at this dose, from 0 to 1."""
        return self.treatment.effect(self.dose_micromolar) if self.treatment else 0.0

    @property
    def answer(self) -> Surroundings:
        """Return how the well answers the compound at this dose; the count includes the border of the plate."""
        full = self.treatment.surroundings if self.treatment else Surroundings()
        survivors = self.treatment.survivors if self.treatment else 1.0
        share = self.effect * self.density_answer
        return Surroundings(
            count=full.count**share * survivors**self.effect * (1 - _EDGE_LOSS * self.edge_effect),
            clumped=full.clumped * share,
            spacing=full.spacing**share,
            swelling=full.swelling * share,
        )


@dataclass(frozen=True)
class Truth:
    """Ground truth, one row per cell whose nucleus is visible in the field; `label` is its value in the label image."""

    label: Int[np.ndarray, "cell"]
    row_px: Float[np.ndarray, "cell"]
    column_px: Float[np.ndarray, "cell"]
    phenotype: list[str]
    severity: Float[np.ndarray, "cell"]
    area_px: Int[np.ndarray, "cell"]


@dataclass(frozen=True)
class Rendered:
    """Images by channel, the label image (0: background; all nuclei of one cell have its label), the ground truth."""

    images: dict[str, UInt16[np.ndarray, "row column"]]
    labels: UInt16[np.ndarray, "row column"]
    truth: Truth


def render(scene: Scene) -> Rendered:
    """Draw one field; the same scene gives the same bits, whatever else is drawn."""
    draws = partial(generator, scene.seed, scene.plate, scene.field_id)
    size = (scene.height_px, scene.width_px)
    cells = populate(scene)
    bodies = tessellate(cells, *size)
    dna = nuclei.paint(cells, draws("nuclei"), *size)
    light = {
        "dna": dna.light,
        "tubulin": tubulin.paint(cells, bodies, dna.owner, draws("tubulin")),
        "actin": actin.paint(cells, bodies, dna.owner, draws("actin")),
    }
    focus_px = float(draws("focus").gamma(2.0, 0.22)) + 0.75
    images = {
        channel: optics.expose(
            light[channel],
            stain,
            _exposure(scene, channel),
            focus_px,
            draws("camera", channel),
        )
        for channel, stain in optics.STAINS.items()
    }
    labels, truth = label(cells, dna.owner)
    return Rendered(images, labels, truth)


def _exposure(scene: Scene, channel: str) -> optics.StainExposure:
    """Return the exposure of the plate; at the border of the plate the stain is dimmer, and the background is not."""
    drawn = optics.draw_exposure(generator(scene.seed, scene.plate, "look", channel), scene.brightness_spread)
    return replace(drawn, gain=drawn.gain * (1 - _EDGE_DIM * scene.edge_effect))


def expected_cells(scene: Scene) -> float:
    """Return the mean number of nuclei: varies between wells, half as much within a well, and as the well answers."""
    between_wells = generator(scene.seed, scene.plate, scene.well, "density").standard_normal()
    between_fields = generator(scene.seed, scene.plate, scene.field_id, "density").standard_normal()
    spread = scene.density_spread
    log = spread * between_wells + 0.5 * spread * between_fields - 0.625 * spread**2
    untreated = float(scene.cells_per_field * scene.height_px * scene.width_px / _FULL_PX2 * np.exp(log))
    return untreated * scene.answer.count


def populate(scene: Scene) -> Cells:
    """Draw the cells of a field and of a margin around it."""
    draws = partial(generator, scene.seed, scene.plate, scene.field_id)
    answer, compound = scene.answer, scene.treatment
    size = scene.height_px, scene.width_px
    positions = scatter(draws("layout"), *size, expected_cells(scene), _PATCHINESS, answer.clumped, answer.spacing)
    chance = compound.chance(scene.dose_micromolar, scene.effect_max) if compound else 0.0
    reaction = react(draws("phenotypes"), len(positions), chance, compound, answer.swelling)
    return grow(draws("cells"), positions, reaction, 1 - _EDGE_SHRINK * scene.edge_effect)


def label(cells: Cells, owner: Int32[np.ndarray, "row column"]) -> tuple[UInt16[np.ndarray, "row column"], Truth]:
    """Number the cells with visible nuclei, from 1 without gaps, and measure the visible part."""
    area = np.bincount(owner.ravel() + 1, minlength=len(cells) + 1)
    area[0] = 0
    seen = np.flatnonzero(area)
    number = np.zeros(len(cells) + 1, np.uint16)
    number[seen] = np.arange(1, len(seen) + 1)
    labels = number[owner + 1]
    numbers = np.arange(1, len(seen) + 1)
    centres = np.array(ndimage.center_of_mass(labels > 0, labels, numbers)).reshape(-1, 2)
    phenotype = cells.reaction.phenotype[seen - 1]
    truth = Truth(
        numbers,
        centres[:, 0],
        centres[:, 1],
        [PHENOTYPES[value] for value in phenotype],
        cells.reaction.severity[seen - 1],
        area[seen],
    )
    return labels, truth
