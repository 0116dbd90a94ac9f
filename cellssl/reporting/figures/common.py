"""common: figures and labels -> shared legends, hidden panels and label texts that all figures use."""

import math
from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cellssl.reporting.text_fitting import LINE_INCH, shorten_all, widest_inch


def shared_legend(figure: Figure, handles: Sequence[Line2D], width_inch_: float) -> None:
    """Draw one legend below all panels, for styles that are the same in each."""
    if handles:
        columns, available_inch = _shared_columns(handles, width_inch_)
        labels = shorten_all([str(handle.get_label()) for handle in handles], available_inch)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.2)


def shared_legend_inch(handles: Sequence[Line2D], width_inch_: float) -> float:
    """Return the height of the shared legend."""
    return 0.15 + LINE_INCH * -(-len(handles) // _shared_columns(handles, width_inch_)[0]) if handles else 0.0


def _shared_columns(handles: Sequence[Line2D], width_inch_: float) -> tuple[int, float]:
    """Return how many names stand side by side, and the width for each."""
    line_inch = 0.5
    wanted = widest_inch(str(handle.get_label()) for handle in handles) + line_inch
    columns = max(1, min(len(handles), int((width_inch_ - 0.2) / wanted)))
    return columns, (width_inch_ - 0.2) / columns - line_inch


def hide_axes(axes: Iterable[Axes]) -> None:
    """Hide panels that are not used."""
    for axis in axes:
        axis.set_visible(False)


def label_text(value: object) -> str:
    """Return a label as text; empty where it is missing."""
    missing = value is None or str(value) in ("nan", "NaN", "<NA>", "NaT")
    if missing:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def round_below(most: float) -> float:
    """Return the largest of 1, 2 and 5 times a power of ten that is not above `most`."""
    power = float(f"1e{math.floor(math.log10(most))}")
    return max(each * power for each in (1, 2, 5) if each * power <= most or each == 1)
