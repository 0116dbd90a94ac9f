"""evaluated_cells: all cells of a table in; those to evaluate, and controls that only fit a normalisation, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

FITS_ONLY = "fits_only"
"""The column that marks controls outside the split: they may fit the normalisation of others, and are in no number."""


def evaluated_cells(cells: pd.DataFrame, vectors: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the cells of the split, where there is one, and the controls outside it, with the column FITS_ONLY.

    The other cells that `embed` added only to describe wells are left out.
    """
    outside = np.zeros(len(cells), bool)
    if {"split", "drawn"} <= set(cells.columns) and cells["split"].notna().any():
        outside = cells["split"].isna().to_numpy(bool)
    is_control = cells["control"].to_numpy(bool) if "control" in cells else np.zeros(len(cells), bool)
    cells, kept = cells.assign(**{FITS_ONLY: outside}), ~outside | is_control
    return (cells, vectors) if kept.all() else (cells[kept].reset_index(drop=True), vectors[kept])
