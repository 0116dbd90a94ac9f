"""hits: effect and cell count of every treatment -> one point per treatment, with the names of active ones."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from cellssl.reporting.text_fitting import shorten_all, width_inch
from cellssl.reporting.theme import GREY, OTHER_COLOURS, TICK_POINTS, TREATED, WIDTH_INCH, styled

State = Literal["active", "not active", "not tested"]


class _Mark(NamedTuple):
    """How points of one state are drawn: states differ in shape and in colour."""

    colour: str
    marker: str
    order: int


MARKS: dict[State, _Mark] = {
    "active": _Mark(TREATED, "^", 4),
    "not active": _Mark(GREY, "o", 3),
    "not tested": _Mark(OTHER_COLOURS[0], "s", 3),
}
HEIGHT_INCH = 4.6
AREA_INCH = (0.65, 0.85, WIDTH_INCH - 0.8, HEIGHT_INCH - 1.0)
"""Left, bottom, width and height of the panel; fixed, so that names can be placed before anything is drawn."""
LABELS_TRIED = 60
"""Number of active treatments, from the largest effect on, for whose names a place is looked for."""
NAMED_INACTIVE = 10
LABEL_INCH = 2.0
LABEL_HEIGHT_INCH = 0.15
MARK_INCH = 0.05
"""Half the width of a point."""
TOP_ROOM = 1.15
"""The axis of effects is so much longer than its points need, so that the largest has room for its name."""
LOWEST = 0.05
"""Ratios below this are drawn there, since a logarithmic axis has no 0."""
FINE_STEPS = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
STEPS = (1.0, 2.0, 5.0)


@styled
def effect_against_count(
    effect: Float[np.ndarray, "treatments"],
    cell_count_ratio: Float[np.ndarray, "treatments"],
    states: Sequence[State],
    names: Sequence[str],
    other: str = "control well",
) -> Figure:
    """Draw effect against cell count ratio, one point per treatment; the axis of effects is linear from 0 to 1.

    Active treatments are named, from the largest effect on, as far as names fit without covering each other or the
    points of other active ones; where none is active, those with the largest effects are named. Treatments without an
    effect or a ratio are left out. `other` is what treated wells were compared with.
    """
    known = np.flatnonzero(np.isfinite(effect) & np.isfinite(cell_count_ratio))
    x, y = np.maximum(cell_count_ratio[known], LOWEST), effect[known]
    state = np.array(states, dtype=object)[known]
    figure = Figure(figsize=(WIDTH_INCH, HEIGHT_INCH))
    figure.set_layout_engine("none")
    left, bottom, width, height = AREA_INCH
    axis = figure.add_axes((left / WIDTH_INCH, bottom / HEIGHT_INCH, width / WIDTH_INCH, height / HEIGHT_INCH))
    _scale(axis, x, y)
    size = 26 if len(known) <= 500 else 12
    for each, mark in MARKS.items():
        here = state == each
        axis.scatter(
            x[here], y[here], s=size, c=mark.colour, marker=mark.marker, zorder=mark.order, linewidths=0, alpha=0.8
        )
        if here.any():
            axis.scatter([], [], s=26, c=mark.colour, marker=mark.marker, label=f"{each} ({here.sum():,})")
    axis.set(xlabel=f"cells per well, relative to {other}s of the plate", ylabel=f"effect (1: a typical {other})")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.55 / height), ncols=3, borderaxespad=0.0)
    named = np.flatnonzero(state == "active")
    if not len(named):
        named = np.argsort(-y, kind="stable")[:NAMED_INACTIVE]
    _name(axis, x[named], y[named], [names[known[row]] for row in named])
    return figure


def _scale(axis: Axes, x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]) -> None:
    """Set both axes, with a line at 1, where wells are like those compared with, or as far as one of these."""
    low, high = _limits(x)
    axis.set(xscale="log", xlim=(low, high))
    _set_ticks(axis.xaxis, _ticks(low, high))
    axis.set_yscale("symlog", linthresh=1.0)
    highest = TOP_ROOM * _limits(np.maximum(y, LOWEST))[1]
    axis.set_ylim(-0.05, highest)
    _set_ticks(axis.yaxis, [0.0, 0.5, *_ticks(1.0, max(highest, 2.0))])
    axis.axvline(1.0, color="black", linewidth=0.8, linestyle=":", zorder=1)
    axis.axhline(1.0, color="black", linewidth=0.8, linestyle=":", zorder=1)


def _set_ticks(side: Axis, ticks: Sequence[float]) -> None:
    low, high = side.get_view_interval()
    shown = [tick for tick in ticks if low <= tick <= high]
    side.set_ticks(shown, labels=[f"{tick:g}" for tick in shown])
    side.set_minor_locator(NullLocator())


def _limits(values: Float[np.ndarray, "n"]) -> tuple[float, float]:
    """Return limits that hold all values and 1, with space at both ends."""
    low, high = min(float(values.min(initial=1.0)), 0.8), max(float(values.max(initial=1.0)), 1.25)
    space = (high / low) ** 0.06
    return low / space, high * space


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between the limits, four to eleven of them where the limits allow it."""
    powers = range(int(np.floor(np.log10(low))), int(np.floor(np.log10(high))) + 1)
    for steps in (STEPS, FINE_STEPS):
        ticks = [float(f"{step * 10.0**power:.6g}") for power in powers for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 4:
            break
    return ticks[:: -(-len(ticks) // 11) or 1]


def _name(axis: Axes, x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"], names: Sequence[str]) -> None:
    """Write the names of points where they cover nothing; a name for which there is no place is left out."""
    places = np.stack([_inches(axis.xaxis, x, AREA_INCH[2]), _inches(axis.yaxis, y, AREA_INCH[3])], axis=1)
    tried = np.argsort(-y, kind="stable")[:LABELS_TRIED]
    texts = shorten_all([names[row] for row in tried], LABEL_INCH)
    points = np.concatenate([places - MARK_INCH, places + MARK_INCH], axis=1)
    taken = np.empty((0, 4))
    for row, text in zip(tried, texts, strict=True):
        others = np.concatenate([taken, np.delete(points, row, axis=0)])
        box = _free_box(places[row], width_inch(text), others)
        if box is not None:
            taken = np.concatenate([taken, box[None]])
            axis.text(
                box[0] / AREA_INCH[2],
                (box[1] + box[3]) / 2 / AREA_INCH[3],
                text,
                transform=axis.transAxes,
                fontsize=TICK_POINTS,
                va="center",
                zorder=5,
            )


def _inches(side: Axis, values: Float[np.ndarray, "n"], length_inch: float) -> np.ndarray:
    """Return how far values lie from the beginning of an axis."""
    scaled = side.get_transform().transform
    low, high = scaled(np.array(side.get_view_interval()))
    inches: np.ndarray = (scaled(values) - low) / (high - low) * length_inch
    return inches


def _free_box(
    point: Float[np.ndarray, "2"], text_inch: float, others: Float[np.ndarray, "n 4"]
) -> Float[np.ndarray, "4"] | None:
    """Return left, bottom, right and top of a place for a name beside a point; None where every place is taken."""
    gap, half = 2 * MARK_INCH, LABEL_HEIGHT_INCH / 2
    corners = [
        (gap, -half),
        (-gap - text_inch, -half),
        (-text_inch / 2, gap),
        (-text_inch / 2, -gap - 2 * half),
        (gap, gap - half),
        (gap, -gap - half),
        (-gap - text_inch, gap - half),
        (-gap - text_inch, -gap - half),
    ]
    for across, up in corners:
        left, bottom = float(point[0]) + across, float(point[1]) + up
        box = np.array([left, bottom, left + text_inch, bottom + 2 * half])
        inside = left >= 0 and bottom >= 0 and box[2] <= AREA_INCH[2] and box[3] <= AREA_INCH[3]
        common = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
        if inside and not (common > 0).all(axis=1).any():
            return box
    return None
