"""confusion: confusion matrices -> one figure with one panel per matrix."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cellssl.reporting.figures.common import hide_axes
from cellssl.reporting.text_fitting import (
    set_title,
    set_x_tick_labels,
    set_y_tick_labels,
    widest_inch,
    x_tick_labels_height_inch,
    y_tick_labels_width_inch,
)
from cellssl.reporting.theme import COLOUR_MAP, LIGHT_SHADE, TICK_POINTS, figure_width_inch, styled

CLASSES_WRITTEN = 12
"""With more classes the numbers would not fit into their squares."""


@styled
def confusions(tables: Mapping[str, tuple[Sequence[str], Int[np.ndarray, "classes classes"]]]) -> Figure:
    """Draw one panel per matrix: cells by true class (rows) and predicted class (columns).

    Shades are shares of a row, so that rare classes are visible. Up to four classes have the number of cells and the
    percentage written in each square where they fit, up to `CLASSES_WRITTEN` only the percentage. With more classes,
    shades end at the largest share, and a colour scale explains them.
    """
    most = max(len(classes) for classes, _ in tables.values())
    most_columns = 3 if most <= 4 else 2 if most <= 2 * CLASSES_WRITTEN else 1
    columns = min(len(tables), most_columns)
    rows = -(-len(tables) // columns)
    width = figure_width_inch(columns, most_columns)
    class_names = [name for classes, _ in tables.values() for name in classes]
    side_inch = width / columns - 0.66 - y_tick_labels_width_inch(class_names)
    shares = {head: counts / np.maximum(1, counts.sum(axis=1, keepdims=True)) for head, (_, counts) in tables.items()}
    written = most <= CLASSES_WRITTEN
    scale = Normalize(0, 1 if written else max(float(each.max()) for each in shares.values()))
    height = rows * (side_inch + x_tick_labels_height_inch(class_names, side_inch / most) + 0.72) + (
        0 if written else 0.6
    )
    figure = Figure(figsize=(width, height), layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (head, (classes, counts)) in zip(axes, tables.items(), strict=False):
        _confusion(axis, classes, np.asarray(counts), scale, side_inch / len(classes))
        set_title(axis, head, side_inch)
        axis.set(xlabel="prediction", ylabel="true class")
    hide_axes(axes[len(tables) :])
    if not written:
        bar = figure.colorbar(
            ScalarMappable(scale, COLOUR_MAP), ax=list(axes), location="bottom", shrink=0.5, aspect=40, pad=0.02
        )
        bar.set_label("share of the cells of the true class")
    return figure


def _confusion(
    axis: Axes,
    classes: Sequence[str],
    counts: Int[np.ndarray, "classes classes"],
    scale: Normalize,
    spacing_inch: float,
) -> None:
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    axis.imshow(shares, cmap=COLOUR_MAP, norm=scale)
    places = list(range(len(classes)))
    set_x_tick_labels(axis, places, classes, spacing_inch)
    set_y_tick_labels(axis, places, classes, spacing_inch)
    with_counts = len(classes) <= 4 and widest_inch(f"{count:,}" for count in counts.flat) <= 0.95 * spacing_inch
    for row, column in np.ndindex(*counts.shape) if len(classes) <= CLASSES_WRITTEN else ():
        percent = f"{100 * shares[row, column]:.0f}"
        text = f"{counts[row, column]:,}\n{percent}%" if with_counts else percent
        colour = "black" if scale(shares[row, column]) > LIGHT_SHADE else "white"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=TICK_POINTS)
