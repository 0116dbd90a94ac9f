"""score_bars: scores of arms -> bars with standard deviations over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cellssl.reporting.seed_statistics import mean_sd
from cellssl.reporting.text_fitting import shorten_all
from cellssl.reporting.theme import BASELINE, TICK_POINTS, TRAINED, WIDTH_INCH, styled

LOWEST_END = 0.1
"""The axis of scores ends at least here; otherwise scores at chance level would fill the page."""


@dataclass(frozen=True)
class Bar:
    """The score of one arm or baseline."""

    label: str
    values: Sequence[float]
    """One value per seed, drawn as points on the bar, which ends at their mean."""
    is_baseline: bool = False


@styled
def bars(scores: Sequence[Bar], metric: str, shuffled: float | None = None) -> Figure:
    """Draw one bar per score: mean and standard deviation over seeds, one point per seed; baselines are grey."""
    figure = Figure(figsize=(WIDTH_INCH, 0.36 * len(scores) + 1.0))
    axis = figure.subplots()
    for row, bar in enumerate(scores):
        _bar(axis, row, np.asarray(bar.values, dtype=float), BASELINE if bar.is_baseline else TRAINED)
    if shuffled is not None:
        axis.axvline(shuffled, color="black", linestyle="--", linewidth=1.2, label="shuffled labels")
    low, high = axis.get_xlim()
    high = max(high, LOWEST_END)
    axis.set_xlim(min(low, -0.02 * (high - low)), high + 0.14 * (high - low))  # space for the numbers on the right
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.set_yticks(range(len(scores)), shorten_all([bar.label for bar in scores], 2.5))
    axis.invert_yaxis()
    axis.set_xlabel(metric)
    _bars_legend(axis, scores)
    return figure


def _bar(axis: Axes, row: int, values: Float[np.ndarray, "seeds"], colour: str) -> None:
    score = mean_sd(values)
    reach = np.nan_to_num(score.sd)
    axis.barh(row, score.mean, height=0.65, color=colour, alpha=0.7)
    if score.n > 1:
        offsets = np.linspace(-0.2, 0.2, len(values))
        axis.errorbar(score.mean, row, xerr=reach, color="black", linewidth=1.2, capsize=3)
        axis.plot(values, row + offsets, "o", color="white", markeredgecolor="black", markersize=4, linestyle="none")
    end = np.nanmax([0.0, score.mean + reach, *values])
    axis.annotate(str(score), (end, row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=TICK_POINTS)


def _bars_legend(axis: Axes, scores: Sequence[Bar]) -> None:
    handles, labels = axis.get_legend_handles_labels()
    for is_baseline, name, colour in ((False, "trained", TRAINED), (True, "baseline", BASELINE)):
        if any(bar.is_baseline == is_baseline for bar in scores):
            handles.append(Patch(color=colour, alpha=0.75))
            labels.append(name)
    axis.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
