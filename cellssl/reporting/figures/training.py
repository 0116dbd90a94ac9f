"""training: logged metrics of a training run -> curves over its steps."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cellssl.reporting.figures.common import hide_axes, shared_legend, shared_legend_inch
from cellssl.reporting.text_fitting import set_title
from cellssl.reporting.theme import GroupStyle, figure_width_inch, other_style, styled


@styled
def curves(
    steps: Float[np.ndarray, "n"],
    panels: Mapping[str, Mapping[str, Float[np.ndarray, "n"]]],
    chance: Mapping[str, float] | None = None,
) -> Figure:
    """Draw metrics over training steps: one panel per metric, one line per branch.

    `chance` is the chance level of a metric, drawn as a dashed line. Where there are many steps, the values are pale
    and their running mean is drawn on top. A branch has the same style in all panels.
    """
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    width = figure_width_inch(columns, 2)
    names = list(dict.fromkeys(name for branches in panels.values() for name in branches))
    styles = {name: other_style(place) for place, name in enumerate(names)}
    handles = [Line2D([], [], color=each.colour, linestyle=each.dash, label=name) for name, each in styles.items()]
    if chance:
        handles.append(Line2D([], [], color="black", linestyle="--", linewidth=1, label="chance"))
    figure = Figure(figsize=(width, 2.4 * rows + shared_legend_inch(handles, width)))
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axis, (metric, branches) in zip(axes, panels.items(), strict=False):
        for branch, values in branches.items():
            _curve(axis, steps, np.asarray(values, dtype=float), branch, styles[branch])
        if chance and metric in chance:
            axis.axhline(chance[metric], color="black", linestyle="--", linewidth=1, label="chance")
        set_title(axis, metric, width / columns - 0.55)
        axis.set_xlabel("step")
        axis.xaxis.set_tick_params(labelbottom=True)
        axis.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    hide_axes(axes[len(panels) :])
    shared_legend(figure, handles, width)
    return figure


def running_mean_steps(steps: int) -> int:
    """Return over how many steps the mean is taken that is drawn on top of the values; 1 or 0: they are not pale."""
    return steps // 50


def _curve(axis: Axes, steps: np.ndarray, values: np.ndarray, branch: str, mark: GroupStyle) -> None:
    window = running_mean_steps(len(values))
    if window < 2:
        marker = "o" if len(values) < 3 else ""
        axis.plot(steps, values, mark.dash, color=mark.colour, label=branch, marker=marker)
        return
    axis.plot(steps, values, color=mark.colour, alpha=0.25, linewidth=0.8)
    smooth = np.convolve(values, np.ones(window) / window, mode="valid")
    centres = steps[window // 2 : window // 2 + len(smooth)]
    axis.plot(centres, smooth, mark.dash, color=mark.colour, label=branch)
