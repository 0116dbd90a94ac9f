"""map_data: cells, maps of arms and small pictures in; the data of an interactive map, as a script reads it, out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.imaging.colour import named_colours
from cellssl.reporting.figures.scatter import PALE
from cellssl.reporting.html import data_uri
from cellssl.stages.report.map_columns import MISSING, OTHERS, Column, cluster_column, columns_of, packed
from cellssl.stages.report.thumbnails import COLUMNS, Thumbnails

if TYPE_CHECKING:
    import pandas as pd

COUNTED = ("treatment", "label", "cluster")
"""What selected cells are counted by: the first of these that there is."""


@dataclass(frozen=True)
class Arm:
    """Where an arm has the cells."""

    name: str
    what: str
    """What its map shows, as a sentence begins."""
    table: pd.DataFrame
    """The columns cell_id, cluster, map_x and map_y."""
    effects: Column | None = None
    """The effect of the treatment of every cell."""


def map_data(
    cells: pd.DataFrame, arms: Sequence[Arm], start: int, pictures: dict[str, Any] | None, caption: str
) -> dict[str, Any]:
    """Return the data of a map of these cells, which shows the arm at the place `start` first.

    `caption` stands below the pictures of selected cells.
    """
    columns = columns_of(cells)
    known = {column.key for column in columns} | {"cluster"}
    return {
        "ids": cells["cell_id"].tolist(),
        "columns": [column.as_data() for column in columns],
        "arms": [_arm_data(arm, cells) for arm in arms],
        "start": start,
        "countBy": next(key for key in COUNTED if key in known),
        "missingColour": PALE,
        "othersColour": OTHERS.colour,
        "thumbnails": pictures,
        "caption": caption,
    }


def _arm_data(arm: Arm, cells: pd.DataFrame) -> dict[str, Any]:
    """Return where an arm's map has the cells, and what is known about them with this arm only."""
    of_arm = cells[["cell_id"]].merge(arm.table, on="cell_id", how="left", validate="one_to_one")
    columns = [cluster_column(of_arm["cluster"]), arm.effects]
    return {
        "name": arm.name,
        "what": arm.what,
        "columns": [column.as_data() for column in columns if column is not None],
        "ends": [_ends(of_arm["map_x"].to_numpy(float)), _ends(-of_arm["map_y"].to_numpy(float))],
        "x": packed(_on_scale(of_arm["map_x"].to_numpy(float))),
        "y": packed(_on_scale(-of_arm["map_y"].to_numpy(float))),  # rows of a screen are counted from the top
    }


def _ends(positions: np.ndarray) -> list[float]:
    """Return the least and the greatest position."""
    known = positions[np.isfinite(positions)]
    return [float(known.min()), float(known.max())] if len(known) else [0.0, 0.0]


def _on_scale(positions: np.ndarray) -> np.ndarray:
    """Return positions from 0 to 65,534, the greatest; cells without one have `MISSING`."""
    known = np.isfinite(positions)
    if not known.any():
        return np.full(len(positions), MISSING)
    low, high = _ends(positions)
    placed = np.rint((positions - low) / (high - low or 1.0) * (MISSING - 1))
    return np.where(known, placed, MISSING)


def picture_data(small: Thumbnails, channels: Sequence[str], pixel_um: float | None) -> dict[str, Any]:
    """Return the small copies of the cells, with the colour of every channel; `pixel_um` is that of the crops."""
    return {
        "side": small.side_px,
        "columns": COLUMNS,
        "perSheet": COLUMNS * COLUMNS,
        "channels": [
            {"name": name, "colour": [round(float(part), 3) for part in colour]}
            for name, colour in zip(channels, named_colours(channels), strict=True)
        ],
        "pixelUm": None if pixel_um is None else pixel_um * small.window_px / small.side_px,
        "sheets": [[str(data_uri(sheet)) for sheet in sheets] for sheets in small.sheets],
    }
