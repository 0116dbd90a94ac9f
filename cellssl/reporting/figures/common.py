"""common: plain arrays of scores, tiles and points -> matplotlib figures in the common look."""

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cellssl.reporting.text_fitting import LINE_INCH, all_fitted, widest_inch


def shared_legend(figure: Figure, handles: Sequence[Line2D], width_inch_: float) -> None:
    """One legend below all panels, for what looks the same in each."""
    if handles:
        columns, room_inch = _shared_columns(handles, width_inch_)
        labels = all_fitted([str(handle.get_label()) for handle in handles], room_inch)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.2)


def shared_legend_inch(handles: Sequence[Line2D], width_inch_: float) -> float:
    """Height of that legend."""
    return 0.15 + LINE_INCH * -(-len(handles) // _shared_columns(handles, width_inch_)[0]) if handles else 0.0


def _shared_columns(handles: Sequence[Line2D], width_inch_: float) -> tuple[int, float]:
    """How many names stand side by side, and the room for each."""
    line_inch = 0.5
    wanted = widest_inch(str(handle.get_label()) for handle in handles) + line_inch
    columns = max(1, min(len(handles), int((width_inch_ - 0.2) / wanted)))
    return columns, (width_inch_ - 0.2) / columns - line_inch


def hide_frame(axes: Iterable[Axes]) -> None:
    for axis in axes:
        axis.set_visible(False)


def as_word(value: object) -> str:
    """A label as text; empty where it is missing."""
    missing = value is None or str(value) in ("nan", "NaN", "<NA>", "NaT")
    if missing:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
