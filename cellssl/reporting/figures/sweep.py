"""sweep: scores at the points of a sweep -> curves with standard deviations, heat maps, and shares of classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from cellssl.reporting.text_fitting import (
    LINE_INCH,
    drawable,
    set_title,
    set_x_tick_labels,
    set_y_tick_labels,
    shorten,
    shorten_all,
    widest_inch,
    x_tick_labels_height_inch,
    y_tick_labels_width_inch,
)
from cellssl.reporting.theme import (
    COLOUR_MAP,
    GREY,
    LIGHT_SHADE,
    OTHER_COLOURS,
    TICK_POINTS,
    TITLE_POINTS,
    WIDTH_INCH,
    other_style,
    styled,
)

LINES_SHOWN = 2 * len(OTHER_COLOURS)
"""A panel draws at most this many lines, the first ones; sweep.csv has all."""
PANEL_INCH = 2.5
NUMBER_INCH = 0.32
"""Narrower squares have no number written in them."""
LOG_AXIS_RATIO = 30.0
"""Positive values whose largest is more than this factor above the smallest are drawn on a logarithmic axis."""


@dataclass(frozen=True)
class Line:
    """Means and standard deviations over seeds at the values of a swept setting, in their order."""

    mean: Float[np.ndarray, "points"]
    sd: Float[np.ndarray, "points"]
    """NaN where there is only one seed."""


@dataclass(frozen=True)
class Panel:
    """The lines of one score, and the levels of arms that the sweep does not change."""

    title: str
    lines: Mapping[str, Line]
    levels: Mapping[str, float]


@styled
def curves(setting: str, values: Sequence[object], panels: Sequence[Panel]) -> Figure:
    """Draw one panel per score over the values of a setting; bands are one standard deviation over seeds either way."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    panel_inch = WIDTH_INCH / columns
    names = [list(panel.lines)[:LINES_SHOWN] + list(panel.levels) for panel in panels]
    legend = _legend([name for each in names for name in each], panel_inch)
    below_inch = LINE_INCH * -(-max(map(len, names), default=0) // legend.columns)
    below_inch += x_tick_labels_height_inch(_ticks(values), (panel_inch - 0.6) / len(values))
    figure = Figure(figsize=(WIDTH_INCH, rows * (PANEL_INCH + below_inch)))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        _panel(axis, setting, values, panel, legend, panel_inch - 0.6)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    return figure


@styled
def heat_maps(
    settings: tuple[str, str],
    values: tuple[Sequence[object], Sequence[object]],
    scores: Mapping[str, Float[np.ndarray, "first second"]],
) -> Figure:
    """Draw one panel per score, the first setting downwards and the second to the right; NaN stays empty."""
    columns = min(2, len(scores))
    rows = -(-len(scores) // columns)
    available_inch = WIDTH_INCH / columns - 0.4 - y_tick_labels_width_inch(_ticks(values[0]))
    height_inch = (
        1.1 + 0.3 * len(values[0]) + x_tick_labels_height_inch(_ticks(values[1]), available_inch / len(values[1]))
    )
    figure = Figure(figsize=(WIDTH_INCH, rows * height_inch))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (head, score) in zip(axes, scores.items(), strict=False):
        _squares(axis, score, values, available_inch)
        set_title(axis, head, available_inch)
        axis.set(ylabel=drawable(settings[0]), xlabel=shorten(settings[1], available_inch, TITLE_POINTS))
    for axis in axes[len(scores) :]:
        axis.set_visible(False)
    return figure


@styled
def shares(
    arms: Sequence[str], settings: Sequence[str], by_title: Mapping[str, Float[np.ndarray, "arms settings"]]
) -> Figure:
    """Draw shares of classes, one panel per title, with one row per arm and one column per setting.

    As in figures 2 and 3 of Bendidi et al. 2023.
    """
    available_inch = (WIDTH_INCH - 0.2 - y_tick_labels_width_inch(arms)) / len(by_title) - 0.1
    height_inch = 0.7 + 0.3 * len(arms) + x_tick_labels_height_inch(settings, available_inch / len(settings))
    figure = Figure(figsize=(WIDTH_INCH, height_inch))
    axes = figure.subplots(1, len(by_title), squeeze=False, sharey=True).ravel()
    for axis, (head, share) in zip(axes, by_title.items(), strict=True):
        _squares(axis, share, (arms, settings), available_inch, (0.0, 1.0))
        set_title(axis, head, available_inch)
    return figure


@dataclass(frozen=True)
class _Legend:
    """How many names stand side by side below a panel, and the width for each."""

    columns: int
    available_inch: float


def _legend(names: Sequence[str], panel_inch: float) -> _Legend:
    line_inch = 0.55
    columns = 2 if widest_inch(names) <= panel_inch / 2 - line_inch else 1
    return _Legend(columns, panel_inch / columns - line_inch)


def _panel(
    axis: Axes, setting: str, values: Sequence[object], panel: Panel, legend: _Legend, available_inch: float
) -> None:
    """Draw one panel: numbers at their position on the axis, text values side by side at equal distances."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    x = np.array(values, dtype=float) if numbers else np.arange(len(values), dtype=float)
    names = [*list(panel.lines)[:LINES_SHOWN], *panel.levels]
    shown = dict(zip(names, shorten_all(names, legend.available_inch), strict=True))
    for place, (name, line) in enumerate(list(panel.lines.items())[:LINES_SHOWN]):
        mark = other_style(place)
        axis.plot(x, line.mean, mark.dash, color=mark.colour, label=shown[name], marker=mark.marker, markersize=3.5)
        reach = np.nan_to_num(line.sd)
        axis.fill_between(x, line.mean - reach, line.mean + reach, color=mark.colour, alpha=0.15, linewidth=0)
    for place, (name, level) in enumerate(panel.levels.items()):
        dash = ("--", ":", "-.", (0, (1, 3)))[place % 4]
        axis.axhline(level, color=GREY, linestyle=dash, linewidth=1.2, label=shown[name])
    set_title(axis, panel.title, available_inch)
    below = x_tick_labels_height_inch(_ticks(values), available_inch / len(values))
    if numbers and _needs_log_axis(x):
        axis.set_xscale("log")
        axis.minorticks_off()
    if not numbers or len(values) <= 6:
        set_x_tick_labels(axis, x.tolist(), _ticks(values), available_inch / len(values))
    axis.set_xlabel(shorten(setting, available_inch, TITLE_POINTS))
    shift = offset_copy(axis.transAxes, axis.get_figure(root=True), y=-0.27 - below, units="inches")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=shift, ncols=legend.columns)


def _needs_log_axis(x: Float[np.ndarray, "points"]) -> bool:
    """Return whether values grow by factors, so that on a linear axis the small ones would overlap."""
    return bool((x > 0).all() and len(x) > 2 and x.max() / x.min() > LOG_AXIS_RATIO)


def _squares(
    axis: Axes,
    score: Float[np.ndarray, "rows columns"],
    values: tuple[Sequence[object], Sequence[object]],
    available_inch: float,
    limits: tuple[float, float] | None = None,
) -> None:
    known = score[~np.isnan(score)]
    low, high = limits or ((float(known.min()), float(known.max())) if len(known) else (0.0, 1.0))
    image = axis.imshow(score, cmap=COLOUR_MAP, vmin=low, vmax=high, aspect="auto")
    spacing_inch = available_inch / score.shape[1]
    for (row, column), value in np.ndenumerate(score):
        text = "" if np.isnan(value) or spacing_inch < NUMBER_INCH else f"{value:.2f}"
        colour = "black" if (value - low) > LIGHT_SHADE * (high - low) else "white"
        axis.text(column, row, text, ha="center", va="center", fontsize=TICK_POINTS, color=colour)
    set_y_tick_labels(axis, list(range(score.shape[0])), _ticks(values[0]), 0.3)
    set_x_tick_labels(axis, list(range(score.shape[1])), _ticks(values[1]), spacing_inch)
    axis.tick_params(length=0)
    figure = axis.get_figure(root=True)
    if spacing_inch < NUMBER_INCH and figure is not None:
        figure.colorbar(image, ax=axis, location="top", aspect=40, pad=0.02)


def _ticks(values: Sequence[object]) -> list[str]:
    return [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
