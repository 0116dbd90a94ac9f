"""markdown: numbers in, the Markdown of tables, lists and sentences out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev

from page_numbers.marks import wrapped

UNITS = r"(?<=\d) (?=%)|(?<=±) | (?=±)|(?<=cluster) (?=\d)"
"""Spaces at which no line ends."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join([_line(header), "|" + "---|" * len(header), *map(_line, rows)])


def bullets(*sentences: str) -> str:
    """Return a Markdown list with wrapped lines."""
    return "\n".join(wrapped(f"- {one}", UNITS, "  ") for one in sentences)


def paragraph(text: str) -> str:
    """Return a paragraph with wrapped lines."""
    return wrapped(text, UNITS)


def mean_sd(values: Sequence[float], decimals: int = 2, scale: float = 1.0, sign: str = "") -> str:
    """Return mean ± standard deviation (ddof 1); only the mean of one value, and of values that are all the same."""
    mean = _number(scale * fmean(values), decimals, sign)
    if len(values) == 1 or all(math.isclose(value, values[0]) for value in values):
        return mean
    return f"{mean} ± {scale * stdev(values):.{decimals}f}"


def change(by: float, low: float, high: float) -> str:
    """Return a signed change with its interval."""
    return f"{_number(by, 2, '+')} ({_number(low)} to {_number(high)})"


def signed(value: float) -> str:
    """Return a number with two decimals and its sign."""
    return _number(value, 2, "+")


def in_words(items: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _line(cells: Sequence[str]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def _number(value: float, decimals: int = 2, sign: str = "") -> str:
    text = f"{value:{sign}.{decimals}f}"
    return text if float(text) else f"{0:.{decimals}f}"
