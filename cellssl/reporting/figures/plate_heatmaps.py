"""plate_heatmaps: scores of wells with their places -> a heat map per plate, with one scale of colours per score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cellssl.letters import letters_of
from cellssl.reporting.figures.common import hide_axes
from cellssl.reporting.text_fitting import set_title
from cellssl.reporting.theme import COLOUR_MAP, WIDTH_INCH, styled

LABELS_SHOWN = 12
"""Number of rows, and of columns, that are labelled side by side; of more, every second or fourth."""
HATCHED = "#F0F0F0"


@dataclass(frozen=True)
class PlateMap:
    """The wells of one plate; NaN where a well has no value."""

    name: str
    row: Int[np.ndarray, "wells"]
    """From 1, for A."""
    column: Int[np.ndarray, "wells"]
    """From 1."""
    control: Bool[np.ndarray, "wells"]
    values: Float[np.ndarray, "scores wells"]


@dataclass(frozen=True)
class Shades:
    """The name of a score, and the values of the darkest and the lightest colour."""

    name: str
    low: float
    high: float
    is_cut: bool
    """Whether values above `high` have the last colour."""


@styled
def plate_heatmaps(plates: Sequence[PlateMap], scores: Sequence[Shades], rows: int, columns: int) -> Figure:
    """Draw every plate once per score; controls are outlined, wells without a value hatched, unused ones white."""
    beside = 2 if len(plates) <= 2 else 3 if len(plates) in (3, 5, 6) else 4
    lines = -(-len(plates) // beside)
    side_inch = (WIDTH_INCH - 0.5) / beside
    line_inch = side_inch * rows / columns + 0.45
    figure = Figure(figsize=(WIDTH_INCH, len(scores) * (lines * line_inch + 0.55)))
    parts = figure.subfigures(len(scores), 1, squeeze=False).ravel()
    for number, (part, score) in enumerate(zip(parts, scores, strict=True)):
        axes = part.subplots(lines, beside, squeeze=False).ravel()
        norm = Normalize(score.low, score.high)
        for axis, plate in zip(axes, plates, strict=False):
            shades = _plate(axis, plate, plate.values[number], norm, rows, columns)
            set_title(axis, plate.name, side_inch - 0.3)
        hide_axes(axes[len(plates) :])
        scale = part.colorbar(
            shades,
            ax=axes[: len(plates)].tolist(),
            orientation="horizontal",
            fraction=0.04,
            aspect=50,
            pad=0.02,
            extend="max" if score.is_cut else "neither",
        )
        scale.set_label(score.name)
    return figure


def _plate(
    axis: Axes, plate: PlateMap, values: Float[np.ndarray, "wells"], norm: Normalize, rows: int, columns: int
) -> object:
    sheet = np.full((rows, columns), np.nan)
    sheet[plate.row - 1, plate.column - 1] = values
    for row, column, value, control in zip(plate.row, plate.column, values, plate.control, strict=True):
        corner = (column - 0.5, row - 0.5)
        if np.isnan(value):
            axis.add_patch(Rectangle(corner, 1, 1, facecolor=HATCHED, edgecolor="#999999", hatch="////", linewidth=0))
        if control:
            inner = (column - 0.42, row - 0.42)
            axis.add_patch(Rectangle(inner, 0.84, 0.84, fill=False, edgecolor="black", linewidth=1.0, zorder=3))
    shades = axis.imshow(sheet, cmap=COLOUR_MAP, norm=norm, extent=(0.5, columns + 0.5, rows + 0.5, 0.5))
    axis.set_xticks(range(1, columns + 1, _every(columns)))
    letters = range(1, rows + 1, _every(rows))
    axis.set_yticks(letters, [letters_of(row) for row in letters])
    axis.tick_params(length=0, labelsize=6, labeltop=True, labelbottom=False)
    for spine in axis.spines.values():
        spine.set_visible(True)
        spine.set_color("#999999")
    return shades


def _every(count: int) -> int:
    return 1 if count <= LABELS_SHOWN else 2 if count <= 2 * LABELS_SHOWN else 4
