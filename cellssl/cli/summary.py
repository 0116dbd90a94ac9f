"""summary: a report in; its answer in a sentence, its table in lines that fit the terminal, and its page, out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cellssl.cli.columns import WIDTH, fitted
from cellssl.counting import counted
from cellssl.reporting.signs import SYMBOL_OF_COLOUR

if TYPE_CHECKING:
    from cellssl.artifacts.store import Artifact

MOST_ROWS = 40
"""Arms that are listed; the page has all of them."""
FIRST = ("arm", "AMI", "AMI label", "kNN", "kNN accuracy", "linear", "linear accuracy", "new plate", "active", "seeds")
"""Columns that stay as long as possible."""
LAST_TO_GO = ("seeds", "kNN", "kNN accuracy", "linear", "linear accuracy", "active", "new plate", "AMI", "AMI label")
LEGEND = (
    ({"AMI", "AMI label"}, "AMI: clusters and label"),
    ({"kNN", "linear", "kNN accuracy", "linear accuracy"}, "kNN, linear: accuracy on test cells"),
    ({"new plate"}, "new plate: linear, on plates left out"),
    ({"active"}, "active: of tested treatments"),
)
"""Columns, and what their names stand for."""


def summary(report: Artifact, width: int = WIDTH) -> list[str]:
    """Return what a terminal shows of a report, in lines of at most `width` characters; the path of the page may be
    longer."""
    from cellssl.artifacts.contents import read_json_of
    from cellssl.stages.shared.card_shapes import ShownTable

    table = read_json_of(report, "table.json", ShownTable)
    return [
        *wrapped(answer(report.card.metrics), width),
        *wrapped(str(report.card.metrics.get("since", "")), width),
        *_lights(report.card.metrics, width),
        *table_lines(table.header, table.rows, width),
        f"page: {report.path / 'report.html'}",
    ]


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]], width: int = WIDTH) -> list[str]:
    """Return a table of arms that fits; what is left out of it is said below."""
    if set(header) <= {"arm", "seeds"}:
        return []  # no score at all
    shown = [[cell.replace(" ± ", "±") for cell in row] for row in rows[:MOST_ROWS]]
    others = [name for name in reversed(header) if name not in FIRST]
    lines, left_out = fitted(header, shown, width, shrink=["arm"], drop=[*others, *LAST_TO_GO], right=header[1:])
    legend = "; ".join(words for columns, words in LEGEND if columns & (set(header) - set(left_out)))
    lines += wrapped(legend, width)
    rest = []
    if len(rows) > MOST_ROWS:
        rest.append(counted(len(rows) - MOST_ROWS, "more arm"))
    if left_out:
        rest.append(f"the columns {', '.join(sorted(left_out, key=list(header).index))}")
    return [*lines, *wrapped(f"on the page: {' and '.join(rest)}", width)] if rest else lines


def answer(metrics: Mapping[str, Any]) -> str:
    """Return the answer of a report in a sentence: that of its page, or how many treatments are active by each arm."""
    if isinstance(said := metrics.get("answer"), str):
        return said
    rows = [row for row in metrics.get("scores", []) if row.get("hits_tested")]
    if not rows:
        return ""
    of_arm = {str(row["arm"]): (int(row["hits_active"]), int(row["hits_tested"])) for row in reversed(rows)}
    low, high = min(of_arm.values()), max(of_arm.values())
    if low == high:
        by = "by every arm" if len(of_arm) > 1 else f"by the arm {next(iter(of_arm))}"
        return f"{high[0]} of {counted(high[1], 'tested treatment')} active, {by}"
    named = {ends: next(arm for arm, one in reversed(of_arm.items()) if one == ends) for ends in (low, high)}
    return f"active treatments: from {low[0]} of {low[1]} ({named[low]}) to {high[0]} of {high[1]} ({named[high]})"


def _lights(metrics: Mapping[str, Any], width: int) -> list[str]:
    """Return the checks of the page, each with its sign; none for a page that has no such checks."""
    lights = metrics.get("lights")
    if not isinstance(lights, list):
        return []
    pairs = [pair for pair in lights if isinstance(pair, list | tuple) and len(pair) == 2]
    each = ", ".join(f"{name} {SYMBOL_OF_COLOUR.get(light, light)}" for name, light in pairs)
    return wrapped(f"checks: {each}", width)


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Return a text in lines of at most `width` characters."""
    import textwrap

    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
