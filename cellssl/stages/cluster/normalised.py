"""normalised: cells and vectors in; the vectors after a chain, and who fitted it, out.

The chain is that of the recipe, or that of an earlier clustering.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.contents import not_as_written
from cellssl.artifacts.store import Artifact
from cellssl.bounded import read_arrays
from cellssl.engine.build import Job
from cellssl.errors import UsageError
from cellssl.stages.shared.card_shapes import embed_blocks
from cellssl.stages.shared.fitted_link import FittedLink, links_in
from cellssl.stages.shared.plate_layout import PlateLayout, frames_in_order

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.blocks import Blocks
    from cellssl.profiling.chain import FittedChain
    from cellssl.profiling.frames import Frames

OF_EACH_PLATE = "controls of each plate"


@dataclass(frozen=True)
class Normalised:
    """Vectors after a chain of normalisers."""

    x: np.ndarray
    chain: FittedChain
    fitted_by: tuple[FittedLink, ...]
    by_cell: tuple[str, ...]
    """Plates with one control well, whose controls are divided cell by cell."""

    @property
    def is_whitened(self) -> bool:
        """Whether the features are principal components of equal variance, the largest first."""
        last = self.chain.links[-1] if self.chain.links and not self.chain.blocks else None
        return bool(last and last.plugin_name() == "pca" and getattr(last, "whiten", False))


@dataclass(frozen=True)
class FittingControls:
    """The controls that fit the pooled parts of a chain, and the cells that are not scored for that reason."""

    fitting: np.ndarray
    not_scored: np.ndarray
    links: tuple[str, ...] = ()
    """Names of the links whose pooled parts are fitted on controls."""

    @classmethod
    def none(cls, count: int) -> FittingControls:
        """Return that none of so many cells fits."""
        return cls(np.zeros(count, bool), np.zeros(count, bool))


def fitting_controls(job: Job, cells: pd.DataFrame) -> FittingControls:
    """Return the drawn controls that may fit pooled parts: no cell that is scored, and none of its well, is among them.

    Where the wells without a scored cell have fewer than half of the drawn controls, one half of the control wells of
    every plate fits (of the cells, where a plate has one control well), and is not scored.
    """
    links = tuple(link.plugin_name() for link in job.settings.normalise if link.fitted_on == "controls")
    if not links:
        return FittingControls.none(len(cells))
    layout = PlateLayout.of(cells)
    drawn = layout.is_control & cells["drawn"].to_numpy(bool)
    well = cells.groupby(["plate", "well"], dropna=False, sort=False).ngroup().to_numpy()
    scored = cells["scored"].to_numpy(bool)
    elsewhere = drawn & ~np.isin(well, well[scored])
    if 2 * elsewhere.sum() >= drawn.sum():
        return FittingControls(elsewhere, np.zeros(len(cells), bool), links)
    half = _first_half(layout)
    return FittingControls(half & drawn, half, links)


def _first_half(layout: PlateLayout) -> np.ndarray:
    """Return one half of the controls of every plate that has two or more."""
    from cellssl.profiling.frames import halves

    plates, numbers = np.unique(layout.plates.astype(str), return_inverse=True)
    enough = np.bincount(numbers[layout.is_control], minlength=len(plates)) >= 2
    rows = np.flatnonzero(enough[numbers])
    chosen = np.zeros(len(numbers), bool)
    if len(rows):
        some = layout.of_rows(rows)
        (_, may_be_scored), _ = halves(some.plates, some.wells, some.is_control)
        chosen[rows] = ~may_be_scored
    return chosen


def normalised(job: Job, cells: pd.DataFrame, vectors: np.ndarray, fitting: np.ndarray) -> Normalised:
    """Return the vectors of all cells in use after the chain of the recipe.

    Pooled parts are fitted on the cells that are scored, or on the controls `fitting`; the parts of a plate on its own
    drawn controls, in folds, so that no control is normalised by itself. The blocks of joined vectors are normalised
    each by itself, and get their shares.
    """
    from cellssl.profiling.chain import fit_chain, fitted_by, is_per_plate

    links, layout = job.settings.normalise, PlateLayout.of(cells)
    frames = frames_of_draw(cells, layout) if is_per_plate(links) else None
    by = (cells["scored"].to_numpy(bool), layout.plates, layout.is_control, frames, fitting)
    blocks = embed_blocks(job.inputs["embed"])
    chain, x = fit_chain(links, vectors, *by, blocks=blocks)
    return Normalised(x, chain, FittedLink.each(fitted_by(links, *by, blocks=blocks)), frames.by_cell if frames else ())


def normalised_as_before(earlier: Artifact, embed: Artifact, cells: pd.DataFrame, vectors: np.ndarray) -> Normalised:
    """Return the vectors after the chain of an earlier clustering.

    Pooled parts and the factors of blocks are applied as saved; the parts of a plate are fitted on its own controls.
    Raises UsageError where a plate has none, and where the vectors have other blocks.
    """
    from cellssl.profiling.chain import FittedChain, fitted_by, is_per_plate

    path = earlier.file("centroids.npz")
    try:
        chain = FittedChain.from_arrays(read_arrays(path))
        pooled = [link for link in links_in(earlier.card.metrics) if link.on != OF_EACH_PLATE]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise not_as_written(earlier, path.name, str(error)) from error
    _check_blocks(chain.blocks, embed_blocks(embed))
    if not is_per_plate(chain.links):
        return Normalised(chain.apply(vectors), chain, tuple(pooled), ())
    layout = PlateLayout.of(cells)
    try:
        frames = frames_of_draw(cells, layout)
    except UsageError as error:
        raise UsageError(
            f"{error.message}; that chain is the one of the earlier clustering",
            hint="name these controls in fetch.controls, or cluster the earlier plates again with a chain that needs "
            'none, as cluster.normalise = ["zscore", "l2"]',
        ) from error
    everywhere = np.ones(len(cells), bool)
    here = FittedLink.each(fitted_by(chain.links, everywhere, layout.plates, layout.is_control, frames))
    of_plates = [link for link in here if link.on == OF_EACH_PLATE]
    return Normalised(chain.apply(vectors, frames), chain, (*pooled, *of_plates), frames.by_cell)


def _check_blocks(expected: Blocks, here: Blocks) -> None:
    """Raise UsageError where the blocks of these vectors differ from those of the earlier clustering."""
    if here != expected:
        raise UsageError(
            f"the earlier clustering was fitted on vectors with {_words(expected)}, these have {_words(here)}",
            hint="embed these cells with the blocks of the earlier clustering, in the same order and with the same "
            "weights (embed.blocks)",
        )


def _words(blocks: Blocks) -> str:
    """Return the blocks in words."""
    each = ", ".join(f"{one.name} ({one.dim} columns, weight {one.weight:g})" for one in blocks)
    return f"the blocks {each}" if blocks else "no blocks"


def frames_of_draw(cells: pd.DataFrame, layout: PlateLayout) -> Frames:
    """Return frames that the controls of the even draw fit.

    So the location of a plate is the same whichever cells the split has, and in whatever order: the draw describes
    wells.
    """
    order = np.argsort(cells["cell_id"].to_numpy(str), kind="stable")
    return frames_in_order(order, layout, ~cells["drawn"].to_numpy(bool))
