"""plate_layout: a table of cells in; the plate and well of each, and which are controls, as arrays, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.counting import counted

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.frames import Frames


@dataclass(frozen=True)
class PlateLayout:
    """Where every cell is: its plate, its well, and whether it is a control."""

    plates: np.ndarray
    wells: np.ndarray
    """None for a cell whose well is not known."""
    is_control: np.ndarray

    @classmethod
    def of(cls, cells: pd.DataFrame) -> PlateLayout:
        """Return the layout of a table of cells; cells without a plate are of one plate without a name."""
        plates, wells = (_names(cells, name) for name in ("plate", "well"))
        is_control = cells["control"].to_numpy(bool) if "control" in cells else np.zeros(len(cells), bool)
        return cls(np.where(plates == None, "", plates), wells, is_control)  # noqa: E711 - element by element

    def of_rows(self, rows: np.ndarray) -> PlateLayout:
        """Return the layout of some of the rows."""
        return PlateLayout(self.plates[rows], self.wells[rows], self.is_control[rows])


def order_of(cells: pd.DataFrame, vectors: np.ndarray) -> np.ndarray:
    """Return the rows in the order of their cell_id, or of their vectors where that is not known of all.

    Which controls fit which rows depends on this order, and so not on that of the table.
    """
    if "cell_id" in cells and cells["cell_id"].notna().all():
        return np.asarray(np.argsort(cells["cell_id"].to_numpy(str), kind="stable"))
    return np.asarray(np.lexsort(vectors[:, :8].T[::-1]))


def frames_in_order(
    order: np.ndarray, layout: PlateLayout, held_out: np.ndarray, key: str = "fetch.controls"
) -> Frames:
    """Return `cross_fitted` frames of rows that are taken in this order; `key` is the setting that names controls."""
    from cellssl.profiling.frames import Frame, Frames, cross_fitted

    ordered = layout.of_rows(order)
    found = cross_fitted(ordered.plates, ordered.wells, ordered.is_control, held_out=held_out[order], key=key)
    frames = tuple(Frame(one.plate, order[one.rows], order[one.fitting]) for one in found.frames)
    return Frames(frames, found.folds, found.by_cell)


def split_by_cell(plates: Sequence[str]) -> str:
    """Return the sentence on plates whose controls are divided cell by cell, because they have one control well."""
    named = ", ".join(plates[:3]) + (", …" if len(plates) > 3 else "")
    return (
        f"{counted(len(plates), 'plate')} of which one control well fits, or its wells are not known ({named}): single "
        "cells fit the normalisation of the others, so what they share as a well is taken off too"
    )


def _names(cells: pd.DataFrame, column: str) -> np.ndarray:
    if column not in cells:
        return np.full(len(cells), None, dtype=object)
    names = cells[column].astype(object)
    return names.where(names.notna(), None).to_numpy(object)
