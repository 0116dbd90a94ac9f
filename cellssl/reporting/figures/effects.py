"""effects: the effect of every treatment, or the share of its cells in every cluster -> one picture that answers first.

The pictures are narrow, because they stand beside pictures of cells.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from cellssl.reporting.text_fitting import shorten_all
from cellssl.reporting.theme import COLOUR_MAP, HALF_INCH, LIGHT_SHADE, TICK_POINTS, cluster_style, styled

NAME_INCH = 0.9
"""Width for the names of treatments."""
LOWEST_INCH, HIGHEST_INCH = 1.2, 2.75
"""Least and greatest height, so that everything fits on the first screen."""
ROOM = 0.03
"""Share of an axis that stays free beyond the outermost points."""
OTHER_GREY = "#D9D9D9"
"""Clusters beyond those that have a colour of their own."""


@styled
def effects_by_dose(
    compounds: Sequence[str],
    doses: Sequence[float],
    effect: Float[np.ndarray, "compound dose"],
    active: Bool[np.ndarray, "compound dose"],
) -> Figure:
    """Draw compounds in rows against doses in columns, shaded by effect; active treatments have a frame and bold print.

    Treatments that there are not, or that have no effect, are left white.
    """
    figure, axis = _panel(len(compounds), 0.55)
    norm = Normalize(0.0, max(float(np.nanmax(effect, initial=0.0)), 1.0))
    shades = figure.colorbar(ScalarMappable(norm, COLOUR_MAP), ax=axis, fraction=0.04, pad=0.02)
    shades.set_label("effect", fontsize=TICK_POINTS)
    shades.outline.set_visible(False)
    axis.imshow(effect, cmap=COLOUR_MAP, norm=norm, aspect="auto", interpolation="nearest")
    for row, column in np.argwhere(np.isfinite(effect)).tolist():
        _number(axis, row, column, float(effect[row, column]), bool(active[row, column]), norm)
    axis.set_xticks(range(len(doses)), [f"{dose:.3g}" for dose in doses])
    axis.set_xlabel("dose (µM)")
    axis.set_xticks(np.arange(len(doses) - 1) + 0.5, minor=True)
    axis.set_yticks(np.arange(len(compounds) - 1) + 0.5, minor=True)
    axis.grid(which="minor", color="white", linewidth=1.0)
    _rows(axis, compounds)
    return figure


def _number(axis: Axes, row: int, column: int, effect: float, is_active: bool, norm: Normalize) -> None:
    """Write the effect into its square, and frame the square of an active treatment."""
    ink = "black" if norm(effect) > LIGHT_SHADE else "white"
    weight = "bold" if is_active else "normal"
    axis.text(
        column, row, f"{effect:.1f}", ha="center", va="center", color=ink, fontsize=TICK_POINTS, fontweight=weight
    )
    if is_active:
        outer = Rectangle((column - 0.44, row - 0.42), 0.88, 0.84, fill=False, edgecolor="white", linewidth=2.0)
        inner = Rectangle((column - 0.44, row - 0.42), 0.88, 0.84, fill=False, edgecolor="black", linewidth=1.0)
        axis.add_patch(outer)
        axis.add_patch(inner)


@styled
def effects_in_order(
    names: Sequence[str],
    effect: Float[np.ndarray, "treatment"],
    low: Float[np.ndarray, "treatment"],
    high: Float[np.ndarray, "treatment"],
    active: Bool[np.ndarray, "treatment"],
) -> Figure:
    """Draw the effect of every treatment as a point with its interval, in the order given; active ones are filled."""
    figure, axis = _panel(len(names), 0.75)
    place = np.arange(len(names))
    for chosen, face, label in ((active, "black", "active"), (~active, "white", "not active")):
        if chosen.any():
            axis.hlines(place[chosen], low[chosen], high[chosen], color="black", linewidth=1.2, zorder=2)
            axis.scatter(effect[chosen], place[chosen], s=16, facecolor=face, edgecolor="black", zorder=3, label=label)
    axis.axvline(1.0, color="black", linewidth=0.8, linestyle=":", zorder=1)
    ends = np.concatenate([effect, low, high, [0.0, 1.0]])
    lowest, highest = float(np.nanmin(ends)), float(np.nanmax(ends))
    space = ROOM * (highest - lowest)  # so that no point is cut by the edge
    axis.set_xlim(lowest - space, highest + space)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlabel("effect, with its 95 % interval")
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, handlelength=1.0)
    _rows(axis, names)
    return figure


@styled
def shares_of_clusters(
    names: Sequence[str],
    share: Float[np.ndarray, "group cluster"],
    clusters: Sequence[int],
    rest: bool = False,
    legend: bool = True,
) -> Figure:
    """Draw one bar per group of cells, divided into its clusters; `rest`: the last share is that of all others."""
    figure, axis = _panel(len(names), 0.85)
    left = np.zeros(len(names))
    for place, cluster in enumerate(clusters):
        is_rest = rest and place == len(clusters) - 1
        colour = OTHER_GREY if is_rest else cluster_style(cluster).colour
        label = "others" if is_rest else f"cluster {cluster}"
        axis.barh(range(len(names)), share[:, place], left=left, height=0.78, color=colour, label=label)
        left += share[:, place]
    axis.set_xlim(0, 1)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
    axis.set_xlabel("% of cells")
    _rows(axis, names)
    if legend:
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, columnspacing=1.0, handlelength=1.0)
    return figure


def _panel(rows: int, beside_inch: float) -> tuple[Figure, Any]:
    height = float(np.clip(0.2 * rows + beside_inch, LOWEST_INCH, HIGHEST_INCH))
    figure = Figure(figsize=(HALF_INCH, height))
    return figure, figure.subplots()


def _rows(axis: Axes, names: Sequence[str]) -> None:
    """Name the rows of a panel."""
    axis.yaxis.set_major_locator(FixedLocator(list(range(len(names)))))
    axis.set_yticklabels(shorten_all(list(names), NAME_INCH))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.tick_params(axis="both", which="both", length=0)
    for side in axis.spines.values():
        side.set_visible(False)
