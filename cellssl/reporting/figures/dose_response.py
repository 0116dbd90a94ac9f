"""dose_response: shares of clusters, or effects, per well, with doses -> curves over the dose."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from cellssl.reporting.figures.common import hide_axes, label_text, shared_legend, shared_legend_inch
from cellssl.reporting.natural_sort import natural_key
from cellssl.reporting.text_fitting import set_title
from cellssl.reporting.theme import (
    COLOURS,
    CONTROL,
    GROUP_STYLES,
    TREATED,
    GroupStyle,
    cluster_style,
    figure_width_inch,
    styled,
)

CURVES_SHOWN = 5
"""Where there are more clusters than colours, this many are drawn per compound: those whose share changes most with
the dose. wells.csv has all clusters."""


@dataclass(frozen=True)
class FittedCurve:
    """A logistic curve with four parameters through the effects of the wells of one compound; doses in micromolar."""

    ec50: float
    low: float
    """Lower end of the 95 % interval of the EC50."""
    high: float
    slope: float
    bottom: float
    top: float

    def at(self, dose_micromolar: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """Return the effect at some doses above 0."""
        with np.errstate(over="ignore"):
            return self.bottom + (self.top - self.bottom) / (1 + (self.ec50 / dose_micromolar) ** self.slope)


@styled
def dose_curves(
    dose_micromolar: Float[np.ndarray, "wells"],
    shares: Float[np.ndarray, "wells clusters"],
    compound: Iterable[object],
    is_control: Bool[np.ndarray, "wells"],
) -> Figure:
    """Draw the share of every cluster against dose: one panel per compound, one point per well, a line through the
    means per dose.

    The left end of each panel shows mean and standard deviation of the control wells. Where there are more clusters
    than colours, each panel shows at most `CURVES_SHOWN` clusters: those whose share changes most in it.
    """
    names = np.array([label_text(value) for value in compound], dtype=object)
    treated = ~is_control & (dose_micromolar > 0)
    compounds = sorted(set(names[treated]), key=natural_key)
    columns = min(3, max(1, len(compounds)))
    rows = -(-len(compounds) // columns) or 1
    width = figure_width_inch(columns, 3)
    clusters = {
        name: _most_changed(dose_micromolar, shares, treated & (names == name), is_control) for name in compounds
    }
    shown = sorted({cluster for each in clusters.values() for cluster in each})
    styles = {cluster: cluster_style(cluster) for cluster in shown}
    handles = [
        Line2D([], [], color=each.colour, linestyle=each.dash, label=f"cluster {cluster}")
        for cluster, each in styles.items()
    ]
    height_inch = 2.5 if len(compounds) <= 9 else 2.2
    figure = Figure(figsize=(width, height_inch * rows + shared_legend_inch(handles, width)))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axis, name in zip(axes, compounds, strict=False):
        in_panel = treated & (names == name)
        left = _dose_axis(axis, dose_micromolar[in_panel])
        for place, cluster in enumerate(clusters[name]):
            _dose_curve(
                axis, dose_micromolar[in_panel], shares[in_panel, cluster], cluster_style(cluster), f"cluster {cluster}"
            )
            apart = (dose_micromolar[in_panel].min() / left) ** (0.6 * ((place + 0.5) / len(clusters[name]) - 0.5))
            _control_mark(axis, left * apart, shares[is_control, cluster], cluster_style(cluster))
        set_title(axis, name, (width - 0.5) / columns - 0.15)
    hide_axes(axes[len(compounds) :])
    top = math.ceil(10 * max(0.1, float(shares[:, shown].max(initial=0)))) / 10
    axes[0].set_ylim(-0.03 * top, 1.03 * top)
    for axis in axes[::columns]:
        axis.set_ylabel("share of cells")
    shared_legend(figure, handles, width)
    return figure


@styled
def effect_curves(
    dose_micromolar: Float[np.ndarray, "wells"],
    effect: Float[np.ndarray, "wells"],
    compound: Iterable[object],
    is_control: Bool[np.ndarray, "wells"],
    curves: Mapping[str, FittedCurve],
) -> Figure:
    """Draw effect against dose: one panel per compound of `curves`, in their order, one point per well.

    The vertical line is the EC50, with its interval shaded; the left end shows mean and standard deviation of the
    control wells.
    """
    names = np.array([label_text(value) for value in compound], dtype=object)
    known = np.isfinite(effect)
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    width = figure_width_inch(columns, 3)
    figure = Figure(figsize=(width, 2.4 * rows))
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axis, (name, curve) in zip(axes, curves.items(), strict=False):
        in_panel = known & ~is_control & (dose_micromolar > 0) & (names == name)
        _fitted_panel(axis, dose_micromolar[in_panel], effect[in_panel], effect[known & is_control], curve)
        set_title(axis, f"{name}: EC50 {curve.ec50:.2g} µM", (width - 0.5) / columns - 0.15)
    hide_axes(axes[len(curves) :])
    for axis in axes[::columns]:
        axis.set_ylabel("distance from controls")
        axis.set_ylim(bottom=0)
    return figure


def _fitted_panel(
    axis: Axes, doses: np.ndarray, effects: np.ndarray, of_controls: np.ndarray, curve: FittedCurve
) -> None:
    left = _dose_axis(axis, doses)
    if math.isfinite(curve.low) and math.isfinite(curve.high):
        axis.axvspan(curve.low, curve.high, color=TREATED, alpha=0.15, linewidth=0)
    axis.axvline(curve.ec50, color=TREATED, linewidth=1.0, linestyle="--")
    axis.plot(doses, effects, "o", color=TREATED, markersize=3, alpha=0.5, markeredgewidth=0)
    along = np.geomspace(doses.min(), doses.max(), 100)
    axis.plot(along, curve.at(along), color=TREATED)
    _control_mark(axis, left, of_controls, GroupStyle(CONTROL, "o", "-"))


def most_changed_compounds(
    dose_micromolar: Float[np.ndarray, "wells"],
    shares: Float[np.ndarray, "wells clusters"],
    compound: Iterable[object],
    is_control: Bool[np.ndarray, "wells"],
) -> list[str]:
    """Return the compounds with doses by how much the mean share of any cluster changes over doses and controls."""
    names = np.array([label_text(value) for value in compound], dtype=object)
    treated = ~is_control & (dose_micromolar > 0)
    change = {
        name: float(_changes(dose_micromolar, shares, treated & (names == name), is_control).max(initial=0))
        for name in set(names[treated])
    }
    return sorted(change, key=lambda name: (-change[name], natural_key(name)))


def _most_changed(dose: np.ndarray, shares: np.ndarray, in_panel: np.ndarray, is_control: np.ndarray) -> list[int]:
    """Return the clusters whose mean share changes most over the doses and the controls; all where they are few."""
    if shares.shape[1] <= len(COLOURS):
        return list(range(shares.shape[1]))
    change = _changes(dose, shares, in_panel, is_control)[:GROUP_STYLES]
    most = np.argsort(-change, kind="stable")[:CURVES_SHOWN]
    return sorted(most[change[most] > 0].tolist())


def _changes(
    dose: np.ndarray, shares: np.ndarray, in_panel: np.ndarray, is_control: np.ndarray
) -> Float[np.ndarray, "clusters"]:
    """Return the range of the mean share of every cluster over the doses and the controls."""
    levels = [in_panel & (dose == level) for level in np.unique(dose[in_panel])]
    means = np.array([shares[rows].mean(axis=0) for rows in (*levels, is_control) if rows.any()])
    change: np.ndarray = np.ptp(means, axis=0)
    return change


def _dose_axis(axis: Axes, doses: np.ndarray) -> float:
    """Set a logarithmic dose axis; return the position of the controls, one step left of the lowest dose."""
    levels = np.unique(doses)
    step = float(np.median(levels[1:] / levels[:-1])) if len(levels) > 1 else 3.0
    room = float(levels[-1] / levels[0]) ** 0.35  # space for the label "controls"
    left: float = float(levels[0]) / max(step**1.5, room)
    axis.set_xscale("log")
    axis.set_xlim(left / max(step**0.6, room**0.4), float(levels[-1]) * step**0.4)
    few = levels if len(levels) <= 5 else levels[:: -(-len(levels) // 5)]
    axis.set_xticks([left, *few], ["controls", *(f"{level:.3g}" for level in few)])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("dose (µM)")
    return left


def _dose_curve(axis: Axes, doses: np.ndarray, shares: np.ndarray, mark: GroupStyle, label: str) -> None:
    levels = np.unique(doses)
    axis.plot(doses, shares, mark.marker, color=mark.colour, markersize=3, alpha=0.5, markeredgewidth=0)
    means = [shares[doses == level].mean() for level in levels]
    axis.plot(levels, means, color=mark.colour, linestyle=mark.dash, label=label)


def _control_mark(axis: Axes, left: float, shares: np.ndarray, mark: GroupStyle) -> None:
    if len(shares):
        spread = shares.std(ddof=1) if len(shares) > 1 else 0.0
        axis.errorbar(left, shares.mean(), yerr=spread, fmt=mark.marker, color=mark.colour, markersize=4, capsize=3)
