"""fold_vectors: cells, vectors and a chain of normalisers in; vectors of each fold, normalised by other cells, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.errors import UsageError
from cellssl.profiling.blocks import Blocks
from cellssl.profiling.normaliser import NormaliserSettings
from cellssl.stages.shared.fitted_link import FittedLink
from cellssl.stages.shared.plate_layout import PlateLayout, frames_in_order, order_of

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.folds import Fold


@dataclass(frozen=True)
class FoldVectors:
    """The normalised vectors of one fold, and who fitted the chain."""

    trains: np.ndarray
    """Which rows of the scheme train: those of the fold, without those of tested plates that are `untrained`."""
    train: np.ndarray
    test: np.ndarray
    fitted_by: tuple[FittedLink, ...]
    by_cell: tuple[str, ...]
    """Plates with one control well, whose controls are divided cell by cell."""
    blocks: Blocks = ()
    """The blocks of the normalised vectors, which may have other numbers of columns than before."""
    empty_blocks: tuple[str, ...] = ()
    """Blocks that are 0 for all training cells, and count for nothing."""


class FoldNormaliser:
    """Normalises the rows of a scheme fold by fold: pooled parts are fitted on training cells, and those of a plate on
    its own controls, so that no test cell is normalised by itself.

    A control fits the location of its plate also where it has no label, or is not in the sample.
    """

    def __init__(
        self,
        links: tuple[NormaliserSettings, ...],
        cells: pd.DataFrame,
        vectors: np.ndarray,
        rows: np.ndarray,
        fold: np.ndarray,
        key: str,
        blocks: Blocks = (),
    ) -> None:
        """Take all cells, the rows that the scheme uses, and the fold that tests each; `key` is the setting that names
        the controls. Each of the `blocks` is normalised by itself.
        """
        from cellssl.profiling.chain import needs_controls

        self._links, self._key, self._blocks = links, key, blocks
        layout, used = PlateLayout.of(cells), rows
        self._place = np.arange(len(rows))
        if needs_controls(links):
            used, place = np.unique(np.concatenate([rows, np.flatnonzero(layout.is_control)]), return_inverse=True)
            self._place = place[: len(rows)]
        self._x, self._layout = vectors[used], layout.of_rows(used)
        self._order = order_of(cells.iloc[used], self._x)
        places = zip(self._layout.plates, self._layout.wells, strict=True)
        self._well = np.unique([f"{plate}\t{well}" for plate, well in places], return_inverse=True)[1]
        self.untrained = self._tested_at_once(fold) if needs_controls(links) else ()

    def _tested_at_once(self, fold: np.ndarray) -> tuple[str, ...]:
        """Return the plates of which one fold tests nearly all controls, but not all cells.

        Where a cell of such a plate is tested, no other cell of it trains or fits a pooled part: its controls could do
        so only where the other class is tested, and that difference gives the class away.
        """
        from cellssl.profiling.frames import is_too_few

        plates, is_control = self._layout.plates, self._layout.is_control
        found = set()
        for number in np.unique(fold[fold >= 0]).tolist():
            held_out = self._held_out(fold == number, fold != number)
            tested = self._marked(fold == number)
            for plate in np.unique(plates[tested & is_control]).tolist():
                controls = is_control & (plates == plate)
                is_whole = bool((fold[plates[self._place] == plate] == number).all())
                if not is_whole and is_too_few(int((controls & ~held_out).sum()), int(controls.sum())):
                    found.add(plate)
        return tuple(sorted(found))

    def of_fold(self, fold: Fold) -> FoldVectors:
        """Return the vectors of one fold."""
        from cellssl.profiling.chain import fit_chain, fitted_by, is_per_plate

        plates, is_control = self._layout.plates, self._layout.is_control
        plate = plates[self._place]
        shut = sorted(set(plate[fold.test].tolist()) & set(self.untrained))
        trains: np.ndarray = fold.train & ~np.isin(plate, shut)
        if shut and not trains.any():
            raise UsageError(
                f"all controls of plate {shut[0]} are test cells of one fold, so no other cell of it may train",
                hint="add a second control well, or set evaluate.normalise to a chain that needs no controls",
            )
        held_out, frames = self._held_out(fold.test, trains) | np.isin(plates, shut), None
        if is_per_plate(self._links):
            frames = frames_in_order(self._order, self._layout, held_out, self._key)
        fitting = (self._marked(trains), plates, is_control, frames, is_control & ~held_out)
        chain, x = fit_chain(self._links, self._x, *fitting, key=self._key, blocks=self._blocks)
        return FoldVectors(
            trains,
            x[self._place[trains]],
            x[self._place[fold.test]],
            FittedLink.each(fitted_by(self._links, *fitting, blocks=self._blocks)),
            frames.by_cell if frames else (),
            chain.blocks_out,
            chain.empty_blocks,
        )

    def _held_out(self, test: np.ndarray, trains: np.ndarray) -> np.ndarray:
        """Return the rows that must not fit: those of the test, and others of their wells that do not train.

        Where the well of a cell is not known, its whole plate counts as its well.
        """
        tested = self._marked(test)
        return np.asarray(tested | (np.isin(self._well, self._well[tested]) & ~self._marked(trains)))

    def _marked(self, rows: np.ndarray) -> np.ndarray:
        marked = np.zeros(len(self._x), bool)
        marked[self._place[rows]] = True
        return marked
