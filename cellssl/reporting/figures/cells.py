"""cells: crops of cells -> montages of clusters, and sheets of augmented views."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from cellssl.reporting.figures.common import hide_axes, round_below
from cellssl.reporting.text_fitting import set_title
from cellssl.reporting.theme import HALF_INCH, WIDTH_INCH, styled

GAP_PX = 3
"""White gap between two tiles, in pixels of a tile of 100 px."""
TILE_INCH = 0.6
"""The smallest side of a view."""
GROUPS_IN_LARGE = 8
"""Cells of more groups are shown at half the size, so that the figure does not become too long."""


@styled
def montage(
    groups: Mapping[str, UInt8[np.ndarray, "n y x 3"]],
    pixel_um: float | None,
    columns: int | None = None,
    width_inch: float = WIDTH_INCH,
) -> Figure:
    """Draw cells in groups (usually clusters), each with a title, and a scale bar in the first cell of each group."""
    filled = {name: tiles for name, tiles in groups.items() if len(tiles)}
    columns = columns or (8 if len(filled) <= GROUPS_IN_LARGE else 16)
    heights = [-(-len(tiles) // columns) for tiles in filled.values()]
    tile_inch = width_inch / columns
    figure = Figure(figsize=(width_inch, sum(heights) * tile_inch + 0.3 * len(filled) + 0.1))
    axes = figure.subplots(len(filled), 1, squeeze=False, height_ratios=heights).ravel()
    for axis, (name, tiles) in zip(axes, filled.items(), strict=True):
        _sheet(axis, tiles, columns)
        set_title(axis, name, width_inch)
        axis.set_anchor("NW")
        if pixel_um is not None:
            _scale_bar(axis, tiles.shape[1], tiles.shape[2], pixel_um)
    return figure


@styled
def views(
    originals: UInt8[np.ndarray, "n y x 3"],
    draws: Mapping[str, UInt8[np.ndarray, "n draws y x 3"]],
    pixel_um: float | None = None,
) -> Figure:
    """Draw the views of each branch: one row per cell, first the original crop, then the views of every branch.

    Branches that would become too small side by side continue below, where the original crops are repeated.
    """
    lines = _lines(draws)
    widest = max(1 + sum(draws[name].shape[1] for name in line) for line in lines)
    most = max(1 + len(line) for line in lines)
    width = HALF_INCH if HALF_INCH - 0.3 * most >= TILE_INCH * widest else WIDTH_INCH
    tile_inch = (width - 0.3 * most) / widest
    figure = Figure(figsize=(width, len(lines) * (tile_inch * len(originals) + 0.4)))
    for part, line in zip(figure.subfigures(len(lines), 1, squeeze=False).ravel(), lines, strict=True):
        blocks = {"cell": originals[:, None], **{name: draws[name] for name in line}}
        widths = [block.shape[1] for block in blocks.values()]
        spare = [widest - sum(widths)] if sum(widths) < widest else []
        axes = part.subplots(1, len(widths + spare), squeeze=False, width_ratios=widths + spare).ravel()
        hide_axes(axes[len(widths) :])
        for axis, (name, block) in zip(axes, blocks.items(), strict=False):
            _sheet(axis, block.reshape(-1, *block.shape[2:]), block.shape[1])
            set_title(axis, name, tile_inch * block.shape[1] + 0.1)
            axis.set_anchor("NW")
        if pixel_um is not None:
            _scale_bar(axes[0], originals.shape[1], originals.shape[2], pixel_um)
    return figure


def _lines(draws: Mapping[str, UInt8[np.ndarray, "n draws y x 3"]]) -> list[list[str]]:
    """Return which branches stand side by side: as many as leave `TILE_INCH` for each tile."""
    lines: list[list[str]] = [[]]
    for name, block in draws.items():
        before = sum(draws[other].shape[1] for other in lines[-1])
        if lines[-1] and 1 + before + block.shape[1] > WIDTH_INCH / TILE_INCH:
            lines.append([])
        lines[-1].append(name)
    return lines


def _sheet(axis: Axes, tiles: UInt8[np.ndarray, "n y x 3"], columns: int) -> None:
    """Draw tiles row by row on white, as one image."""
    count, height, width, _ = tiles.shape
    gap = max(1, round(GAP_PX * width / 100))
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, dtype=np.uint8)
    for place, tile in enumerate(tiles):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    axis.imshow(sheet, interpolation="antialiased")
    axis.set_axis_off()


def _scale_bar(axis: Axes, height: int, width: int, pixel_um: float) -> None:
    """Draw a white bar of a round length in the lower right of the first tile, with its length above it."""
    length_um = round_below(0.45 * width * pixel_um)
    right, low = 0.93 * width, 0.91 * height
    outline = [withStroke(linewidth=4.5, foreground="black")]
    left = right - length_um / pixel_um
    axis.plot([left, right], [low, low], color="white", linewidth=2.5, solid_capstyle="butt", path_effects=outline)
    axis.text(
        right,
        low - 0.05 * height,
        f"{length_um:g} µm",
        color="white",
        fontsize=7,
        ha="right",
        va="bottom",
        path_effects=[withStroke(linewidth=1.8, foreground="black")],
    )
