"""fold_vectors: cells, vectors and a chain of normalisers in; vectors of each fold, normalised by other cells, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.profiling.normaliser import NormaliserSettings
from cellssl.stages.shared.fitted_link import FittedLink
from cellssl.stages.shared.plate_layout import PlateLayout

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.folds import Fold


@dataclass(frozen=True)
class FoldVectors:
    """The normalised vectors of one fold, and who fitted the chain."""

    train: np.ndarray
    test: np.ndarray
    fitted_by: tuple[FittedLink, ...]
    by_cell: tuple[str, ...]
    """Plates with one control well, whose controls are divided cell by cell."""


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
        key: str,
    ) -> None:
        """Take all cells, and the rows that the scheme uses; `key` is the setting that names the controls."""
        from cellssl.profiling.chain import needs_controls

        self._links, self._key = links, key
        layout, used = PlateLayout.of(cells), rows
        self._place = np.arange(len(rows))
        if needs_controls(links):
            used, place = np.unique(np.concatenate([rows, np.flatnonzero(layout.is_control)]), return_inverse=True)
            self._place = place[: len(rows)]
        self._x, self._layout = vectors[used], layout.of_rows(used)

    def of_fold(self, fold: Fold) -> FoldVectors:
        """Return the vectors of one fold."""
        from cellssl.profiling.chain import fit_chain, fitted_by, is_per_plate
        from cellssl.profiling.frames import cross_fitted

        is_train, is_test = (self._marked(rows) for rows in (fold.train, fold.test))
        plates, is_control = self._layout.plates, self._layout.is_control
        frames = None
        if is_per_plate(self._links):
            frames = cross_fitted(plates, self._layout.wells, is_control, held_out=is_test, key=self._key)
        fitting = (is_train, plates, is_control, frames, is_control & ~is_test)
        _, x = fit_chain(self._links, self._x, *fitting, key=self._key)
        return FoldVectors(
            x[self._place[fold.train]],
            x[self._place[fold.test]],
            FittedLink.each(fitted_by(self._links, *fitting)),
            frames.by_cell if frames else (),
        )

    def _marked(self, rows: np.ndarray) -> np.ndarray:
        marked = np.zeros(len(self._x), bool)
        marked[self._place[rows]] = True
        return marked
