"""neighbours: cells and, for every arm, the cells most similar to them -> one figure, one row per cell."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cellssl.reporting.text_fitting import set_title, shorten
from cellssl.reporting.theme import TICK_POINTS, WIDTH_INCH, styled

NAME_INCH = 1.25
"""Width of the names of the rows, at the left."""
TITLE_INCH, ROW_GAP_INCH = 0.3, 0.02
LARGEST_TILE_INCH = 0.62
GROUP_GAP = 0.35
"""Gap between two arms, in tiles."""
FRAME_POINTS = 2.2
INSET = 0.06
"""Space around a tile for its frame, in tiles."""


@styled
def neighbours(
    names: Sequence[str],
    cells: UInt8[np.ndarray, "rows y x 3"],
    colours: Sequence[str | None],
    near: Mapping[str, UInt8[np.ndarray, "rows count y x 3"]],
    near_colours: Mapping[str, Sequence[Sequence[str | None]]],
) -> Figure:
    """Draw one row per cell: its name, the cell, and its nearest cells in every arm, each in a frame of its colour."""
    counts = [each.shape[1] for each in near.values()]
    wide = 1 + sum(counts) + GROUP_GAP * len(counts)
    tile_inch = min(LARGEST_TILE_INCH, (WIDTH_INCH - NAME_INCH) / wide)
    height_inch = len(cells) * (tile_inch + ROW_GAP_INCH) + TITLE_INCH
    figure = Figure(figsize=(WIDTH_INCH, height_inch))
    figure.set_layout_engine("none")
    left = 0.0
    groups = [("cell", cells[:, None], [[colour] for colour in colours])]
    groups += [(name, tiles, [list(row) for row in near_colours[name]]) for name, tiles in near.items()]
    for title, tiles, frames in groups:
        axis = _axis(figure, NAME_INCH + left * tile_inch, tiles.shape[1] * tile_inch, height_inch)
        _tiles(axis, tiles, frames)
        set_title(axis, title, tiles.shape[1] * tile_inch + 0.5 * GROUP_GAP * tile_inch)
        left += tiles.shape[1] + GROUP_GAP
    for row, name in enumerate(names):
        middle = 1 - (TITLE_INCH + (row + 0.5) * (height_inch - TITLE_INCH) / len(cells)) / height_inch
        lines = [shorten(line, NAME_INCH - 0.08) for line in name.split("\n")]
        figure.text(0, middle, "\n".join(lines), va="center", fontsize=TICK_POINTS)
    return figure


def _axis(figure: Figure, left_inch: float, width_inch: float, height_inch: float) -> Axes:
    whole_inch = float(figure.get_figwidth())
    axis = figure.add_axes((left_inch / whole_inch, 0, width_inch / whole_inch, 1 - TITLE_INCH / height_inch))
    axis.set_axis_off()
    return axis


def _tiles(axis: Axes, tiles: UInt8[np.ndarray, "rows count y x 3"], frames: Sequence[Sequence[str | None]]) -> None:
    rows, count = tiles.shape[:2]
    axis.set(xlim=(0, count), ylim=(rows, 0))
    for row, column in np.ndindex(rows, count):
        inside = (column + INSET, column + 1 - INSET, row + 1 - INSET, row + INSET)
        axis.imshow(tiles[row, column], extent=inside, interpolation="antialiased", aspect="auto")
        if (colour := frames[row][column]) is not None:
            side = 1 - 2 * INSET
            frame = Rectangle((column + INSET, row + INSET), side, side, fill=False, edgecolor=colour)
            frame.set_linewidth(FRAME_POINTS)
            axis.add_patch(frame)
    axis.set(xlim=(0, count), ylim=(rows, 0))
