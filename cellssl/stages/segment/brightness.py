"""brightness: how bright the nuclei of a plate are in, a table of the cells that may set its intensity scale out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import ID, KEY, Column, read_table
from cellssl.imaging.cell_brightness import CellBrightness

if TYPE_CHECKING:
    import pandas as pd

OF_NUCLEI_FILE = "brightness.parquet"
"""The brightness of all nuclei of a plate, in the artifact of its nuclei: one row per nucleus, as in nuclei.parquet."""
OF_CELLS_FILE = "cell_brightness.parquet"
"""The brightness of the nuclei within the limits of a plate, in the artifact of its cells: those of control wells set
its scale. It is no part of cells.parquet, so that no measurement of a cell changes with the way it is scaled."""
LEVELS = ("high", "low", "between", "middle")
"""Attributes of CellBrightness; the table has a column of each for every channel, such as high_dna."""


def level_columns(channels: Iterable[str]) -> dict[str, Column]:
    """Return the columns of grey values in both tables."""
    return {f"{level}_{channel}": Column("number", needed=True) for channel in channels for level in LEVELS}


def with_levels(table: pd.DataFrame, levels: CellBrightness, channels: Sequence[str]) -> pd.DataFrame:
    """Return a table of cells with their grey values."""
    columns = {
        f"{level}_{channel}": getattr(levels, level)[:, number]
        for number, channel in enumerate(channels)
        for level in LEVELS
    }
    return table.assign(**columns)


def levels_of(table: pd.DataFrame, channels: Sequence[str]) -> CellBrightness:
    """Return the grey values of the cells of a table."""
    found = (table[[f"{level}_{channel}" for channel in channels]].to_numpy(np.float32) for level in LEVELS)
    return CellBrightness(*found)


def with_pixels(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that have pixels: an empty crop has no brightness."""
    return table[table.filter(like="high_").notna().all(axis=1)]


def read_nuclei_brightness(detected: Artifact, channels: Sequence[str]) -> pd.DataFrame:
    """Return the brightness of all nuclei of a plate, by field_id and nucleus_label."""
    columns = {"field_id": KEY, "nucleus_label": Column("whole", needed=True, gaps=False), **level_columns(channels)}
    return read_table(detected.file(OF_NUCLEI_FILE), columns, only=True)


def read_cell_brightness(part: Artifact, channels: Sequence[str]) -> pd.DataFrame:
    """Return the brightness of the cells of a plate within the limits, and which are controls."""
    columns = {"cell_id": ID, "field_id": KEY, "control": Column("flag", needed=True, gaps=False)}
    return read_table(part.file(OF_CELLS_FILE), {**columns, **level_columns(channels)}, only=True)


def brightness_of_cells(nuclei: pd.DataFrame, brightness: pd.DataFrame, fields: pd.DataFrame) -> pd.DataFrame:
    """Return the cells within the limits, those beyond `cells_per_well` too: the scale does not depend on that number.

    `nuclei` are all nuclei of the plate with the reason of every dropped one, `brightness` their grey values.
    """
    within = nuclei[nuclei["reason"].isna() | (nuclei["reason"] == "over_cap")]
    keys = ["field_id", "nucleus_label"]
    table = within[["cell_id", *keys]].merge(brightness, on=keys, how="left", validate="one_to_one")
    return with_control(table.drop(columns="nucleus_label"), fields)


def with_control(table: pd.DataFrame, fields: pd.DataFrame) -> pd.DataFrame:
    """Return a table of cells that says which are of control wells."""
    control = table["field_id"].isin(fields["field_id"][fields["control"]])
    table = table.copy()
    table.insert(2, "control", control.to_numpy(bool))
    return table
