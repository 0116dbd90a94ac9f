"""scatter: one position per cell -> maps coloured by class, cluster, plate or dose."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import NullLocator
from matplotlib.transforms import offset_copy

from cellssl.randomness import generator
from cellssl.reporting.figures.common import hide_axes, label_text
from cellssl.reporting.natural_sort import natural_key
from cellssl.reporting.text_fitting import LINE_INCH, drawable, set_title, shorten_all, widest_inch
from cellssl.reporting.theme import (
    COLOUR_MAP,
    COLOURS,
    NO_GROUP,
    TICK_POINTS,
    WIDTH_INCH,
    GroupStyle,
    cluster_style,
    figure_width_inch,
    label_colour,
    other_style,
    styled,
)

POINTS_DRAWN = 20_000
"""Number of points drawn at most; if there are more, a random sample is drawn."""
PALE = NO_GROUP
NO_CLUSTER = GroupStyle(PALE, "o", "-")
"""The style of cells that belong to no cluster (noise)."""
CLASSES_SHOWN = 2 * len(COLOURS)
"""With more classes, only the most frequent have a colour and the others are pale grey: more colours could not be
distinguished."""


@styled
def scatter(
    points: Float[np.ndarray, "n 2"],
    colourings: Mapping[str, Iterable[object]],
    axis_names: tuple[str, str] = ("component 1", "component 2"),
    amounts: Mapping[str, Float[np.ndarray, "n"]] | None = None,
    clusters: Collection[str] = (),
) -> Figure:
    """Draw the same points once for every colouring (label, cluster, plate); missing values are pale grey.

    `amounts` (doses) are coloured by their logarithm, from blue to yellow; doses that are 0 or missing are pale grey.
    Colourings in `clusters` have the colours of clusters, which no other group has, and each cluster's number is
    written in its middle. Controls and treated cells have the same two colours everywhere.
    """
    amounts = amounts or {}
    panels = len(colourings) + len(amounts)
    columns = min(3, panels)
    rows = -(-panels // columns)
    drawn = _drawn(len(points))
    labels = {head: np.array([label_text(value) for value in values], dtype=str) for head, values in colourings.items()}
    width = figure_width_inch(columns, 3)
    available_inch = width / columns - 0.3
    below_inch = max(_legend_inch(list(np.unique(each)), available_inch) for each in labels.values())
    figure = Figure(figsize=(width, rows * (WIDTH_INCH / max(2, columns) + 0.5 + below_inch)))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (head, each) in zip(axes, labels.items(), strict=False):
        _coloured(axis, points[drawn], each[drawn], available_inch, are_clusters=head in clusters)
        if head in clusters:
            _name(axis, points[drawn], each[drawn])
    for axis, values in zip(axes[len(colourings) :], amounts.values(), strict=False):
        _shaded(axis, points[drawn], np.asarray(values, dtype=float)[drawn])
    for axis, head in zip(axes, (*colourings, *amounts), strict=False):
        set_title(axis, head, available_inch)
        axis.set(xlabel=axis_names[0], ylabel=axis_names[1], xticks=[], yticks=[])
    hide_axes(axes[panels:])
    return figure


def _drawn(count: int) -> np.ndarray:
    """Return which points to draw, in random order, so that no class lies on top of the others."""
    return generator("scatter").permutation(count)[:POINTS_DRAWN]


def _coloured(
    axis: Axes, points: Float[np.ndarray, "n 2"], labels: np.ndarray, available_inch: float, *, are_clusters: bool
) -> None:
    names, counts = np.unique(labels, return_counts=True)
    by_number = sorted((name for name in names if name), key=lambda name: -counts[names == name][0])
    shown = sorted(by_number[:CLASSES_SHOWN], key=natural_key)
    styles = _styles(shown, are_clusters=are_clusters)
    columns, letters_inch = _legend_columns(list(names), available_inch)
    size = _point_size(len(points))
    for marker in dict.fromkeys(["o", *(each.marker for each in styles.values())]):
        with_marker = np.array(
            [styles[word].marker == marker if word in styles else marker == "o" for word in labels], dtype=bool
        )
        colours = [styles[word].colour if word in styles else PALE for word in labels[with_marker]]
        axis.scatter(
            points[with_marker, 0], points[with_marker, 1], s=size, c=colours, marker=marker, linewidths=0, alpha=0.7
        )
    for label, each in zip(shorten_all(shown, letters_inch), styles.values(), strict=True):
        axis.scatter([], [], s=18, c=each.colour, marker=each.marker, label=label)
    if len(styles) < len(names):
        left_out = "others" if len(by_number) > len(shown) else "unknown"
        axis.scatter([], [], s=18, c=PALE, label=left_out)
    _legend_below(axis, columns)


def _styles(names: Sequence[str], *, are_clusters: bool) -> dict[str, GroupStyle]:
    """Return the style of every group: of a cluster by its number, of controls and treated cells by what they are."""
    if are_clusters:
        return {name: cluster_style(int(name)) if name.isdecimal() else NO_CLUSTER for name in names}
    styles = {name: other_style(place) for place, name in enumerate(names)}
    return {name: replace(each, colour=label_colour(name) or each.colour) for name, each in styles.items()}


def _name(axis: Axes, points: Float[np.ndarray, "n 2"], labels: np.ndarray) -> None:
    """Write the name of each group near the median of its points, and apart from other names."""
    extent = np.maximum(np.ptp(points, axis=0), 1e-9)
    taken: list[np.ndarray] = []
    halo = [withStroke(linewidth=2, foreground="white")]
    for name in sorted(filter(None, np.unique(labels)), key=lambda name: -(labels == name).sum()):
        members = points[labels == name]
        nearest = members[np.abs((members - np.median(members, axis=0)) / extent).sum(axis=1).argsort(kind="stable")]
        free = (place for place in nearest if all(np.abs((place - other) / extent).max() > 0.07 for other in taken))
        taken.append(next(free, nearest[0]))
        axis.annotate(
            drawable(name),
            (float(taken[-1][0]), float(taken[-1][1])),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=TICK_POINTS,
            fontweight="bold",
            path_effects=halo,
        )


def _shaded(axis: Axes, points: Float[np.ndarray, "n 2"], values: Float[np.ndarray, "n"]) -> None:
    """Draw points coloured by the logarithm of their value, with a colour scale below."""
    given = values > 0  # false for NaN too
    size = _point_size(len(points))
    axis.scatter(points[~given, 0], points[~given, 1], s=size, c=PALE, linewidths=0, alpha=0.7)
    if not given.any():
        return
    x, y = points[given].T
    shades = axis.scatter(x, y, s=size, c=values[given], norm=LogNorm(), cmap=COLOUR_MAP, linewidths=0, alpha=0.7)
    levels = np.unique(values[given])
    few = levels if len(levels) <= 5 else levels[np.linspace(0, len(levels) - 1, 5).round().astype(int)]
    figure = axis.get_figure(root=True)
    assert figure is not None
    scale = figure.colorbar(shades, cax=axis.inset_axes((0.05, -0.15, 0.9, 0.04)), orientation="horizontal", alpha=1.0)
    scale.ax.xaxis.set_minor_locator(NullLocator())
    scale.set_ticks(few.tolist(), labels=[f"{level:.3g}" for level in few])


def _point_size(points: int) -> float:
    return float(np.clip(8000 / max(1, points), 2, 16))


def _legend_below(axis: Axes, columns: int) -> None:
    below = offset_copy(
        axis.transAxes, axis.get_figure(root=True), y=-0.22, units="inches"
    )  # the axis label lies between
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=below,
        ncols=columns,
        handletextpad=0.1,
        columnspacing=0.8,
    )


def _legend_columns(names: Sequence[str], available_inch: float) -> tuple[int, float]:
    """Return how many names stand side by side below a panel, and the width for each."""
    mark_inch = 0.27
    widest = widest_inch(names)
    few = 1 if len(names) <= 9 else 2
    columns = next((count for count in (3, 2) if widest <= available_inch / count - mark_inch), few)
    return columns, available_inch / columns - mark_inch


def _legend_inch(names: Sequence[str], available_inch: float) -> float:
    """Return the height of a legend with these names."""
    shown = min(len(names), CLASSES_SHOWN + 1)
    return LINE_INCH * -(-shown // _legend_columns(names, available_inch)[0])
