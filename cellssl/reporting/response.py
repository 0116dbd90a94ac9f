"""response: scores at the points of a sweep -> figures of curves with their spread, heat maps and shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cellssl.reporting.style import COLOURS, GREY, WIDTH_INCH, styled

SHADES = "viridis"
DASHES = ("-", "--", ":")
LINES_SHOWN = len(COLOURS) * len(DASHES)
"""Of more lines in a panel the first are drawn; all are in sweep.csv."""
PANEL_INCH = 2.5


@dataclass(frozen=True)
class Line:
    """Means over seeds at the values of a knob, in their order, and the standard deviations there."""

    mean: Float[np.ndarray, "points"]
    sd: Float[np.ndarray, "points"]
    """NaN where there is one seed."""


@dataclass(frozen=True)
class Panel:
    """The lines of one score, and what an arm that the knob leaves alone scores."""

    title: str
    lines: Mapping[str, Line]
    levels: Mapping[str, float]


@styled
def curves(knob: str, values: Sequence[object], panels: Sequence[Panel]) -> Figure:
    """A panel a score over the values of a knob; bands are one standard deviation over seeds either way."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    tallest = max((len(panel.lines) + len(panel.levels) for panel in panels), default=0)
    below_inch = 0.17 * -(-min(tallest, LINES_SHOWN + 4) // 2)
    figure = Figure(figsize=(WIDTH_INCH, rows * (PANEL_INCH + below_inch)))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=False):
        _panel(axis, knob, values, panel)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    return figure


@styled
def heat_maps(
    knobs: tuple[str, str],
    values: tuple[Sequence[object], Sequence[object]],
    scores: Mapping[str, Float[np.ndarray, "first second"]],
) -> Figure:
    """A panel a score, the first knob downwards and the second to the right; NaN stays empty."""
    columns = min(2, len(scores))
    rows = -(-len(scores) // columns)
    figure = Figure(figsize=(WIDTH_INCH, rows * (1.2 + 0.3 * len(values[0]))))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (title, score) in zip(axes, scores.items(), strict=False):
        _squares(axis, score, values)
        axis.set(title=title, ylabel=knobs[0], xlabel=knobs[1])
    for axis in axes[len(scores) :]:
        axis.set_visible(False)
    return figure


@styled
def shares(
    arms: Sequence[str], knobs: Sequence[str], by_title: Mapping[str, Float[np.ndarray, "arms knobs"]]
) -> Figure:
    """Shares of classes, an arm a row and a knob a column (figures 2 and 3 of Bendidi et al. 2023); a panel each."""
    figure = Figure(figsize=(WIDTH_INCH, 1.3 + 0.3 * len(arms)))
    axes = figure.subplots(1, len(by_title), squeeze=False).ravel()
    for axis, (title, share) in zip(axes, by_title.items(), strict=True):
        _squares(axis, share, (arms, knobs), (0.0, 1.0))
        axis.set_title(title)
    return figure


def _panel(axis: Axes, knob: str, values: Sequence[object], panel: Panel) -> None:
    """Numbers stand where they belong on the axis, words side by side."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    x = np.array(values, dtype=float) if numbers else np.arange(len(values), dtype=float)
    for place, (name, line) in enumerate(list(panel.lines.items())[:LINES_SHOWN]):
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS)]
        axis.plot(x, line.mean, dash, color=colour, label=name, marker="o", markersize=3)
        reach = np.nan_to_num(line.sd)
        axis.fill_between(x, line.mean - reach, line.mean + reach, color=colour, alpha=0.15, linewidth=0)
    for place, (name, level) in enumerate(panel.levels.items()):
        axis.axhline(level, color=GREY, linestyle=("--", ":", "-.", (0, (1, 3)))[place % 4], linewidth=1.2, label=name)
    axis.set(title=panel.title, xlabel=knob)
    if not numbers or len(values) <= 6:
        axis.set_xticks(x, [_said(value) for value in values])
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _squares(
    axis: Axes,
    score: Float[np.ndarray, "rows columns"],
    values: tuple[Sequence[object], Sequence[object]],
    limits: tuple[float, float] | None = None,
) -> None:
    known = score[~np.isnan(score)]
    low, high = limits or ((float(known.min()), float(known.max())) if len(known) else (0.0, 1.0))
    axis.imshow(score, cmap=SHADES, vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(score):
        dark = value < (low + high) / 2
        text = "" if np.isnan(value) else f"{value:.2f}"
        axis.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axis.set_yticks(range(len(values[0])), [_said(value) for value in values[0]])
    axis.set_xticks(range(len(values[1])), [_said(value) for value in values[1]])
    axis.tick_params(length=0)


def _said(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
