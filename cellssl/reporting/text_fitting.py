"""text_fitting: texts and the space for them in inches -> shortened texts that the font has, and spaced tick labels."""

import math
import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from cellssl.reporting.theme import FONT, TICK_POINTS, TITLE_POINTS

LINE_INCH = 0.17
"""Height of a line of a legend."""
TICK_INCH = 0.105
"""Tick labels that are closer together than this would overlap."""
UPRIGHT_INCH = 1.0
"""Space for a label that stands upright below its tick, or lies to the left of it."""
POINTS_OF_INCH = 72
MISSING = "?"
"""What is drawn for a letter that the font does not have, such as Chinese ones."""


def drawable(text: str) -> str:
    """Return the text with `?` for every letter that the font lacks, and plain spaces for line breaks and the like."""
    if text.isascii() and text.isprintable():
        return text
    known = _letters_of_font()
    return "".join(letter if letter in known else " " if letter.isspace() else MISSING for letter in text)


@cache
def _letters_of_font() -> frozenset[str]:
    """Return the letters that both the plain and the bold font have."""
    plain, bold = (
        set(get_font(findfont(FontProperties(family=FONT, weight=weight))).get_charmap())
        for weight in ("normal", "bold")
    )
    return frozenset(map(chr, plain & bold))


@lru_cache(maxsize=4096)
def width_inch(text: str, points: float = TICK_POINTS, *, bold: bool = False) -> float:
    """Return the width of a text as it is drawn."""
    font = FontProperties(family=FONT, size=points, weight="bold" if bold else "normal")
    width, _, _ = text_to_path.get_text_width_height_descent(drawable(text), font, ismath=False)
    return float(width) / POINTS_OF_INCH


def widest_inch(texts: Iterable[str], points: float = TICK_POINTS) -> float:
    """Return the width of the widest text."""
    return max((width_inch(text, points) for text in texts), default=0.0)


def shorten(text: str, available_inch: float, points: float = TICK_POINTS, *, bold: bool = False) -> str:
    """Return the text, or its beginning and its end where it is too wide; names of one kind often differ at the end.

    Letters that the font lacks become `?`.
    """
    text = drawable(text)
    width = width_inch(text, points, bold=bold)
    kept = len(text) if width <= available_inch else min(len(text) - 1, math.ceil(len(text) * available_inch / width))
    short = text
    while width_inch(short, points, bold=bold) > available_inch and kept > 1:
        short = f"{text[: -(-kept // 2)]}…{text[len(text) - kept // 2 :]}"
        kept -= 1
    return short


def shorten_all(labels: Sequence[str], available_inch: float) -> list[str]:
    """Shorten every text; texts that would look the same begin where they differ."""
    short = [shorten(label, available_inch) for label in labels]
    alike: dict[str, set[str]] = {}
    for label, each in zip(labels, short, strict=True):
        alike.setdefault(each, set()).add(label)
    return [
        each if len(alike[each]) == 1 else shorten(f"…{_from_difference(label, alike[each])}", available_inch)
        for label, each in zip(labels, short, strict=True)
    ]


def _from_difference(label: str, others: set[str]) -> str:
    """Return a text from where it differs from the others; a number is not split."""
    shared = next((place for place, letters in enumerate(zip(*others, strict=False)) if len(set(letters)) > 1), 0)
    return label[len(re.sub(r"[^\W_]+$", "", label[:shared])) :]


def set_title(axis: Axes, text: str, available_inch: float) -> None:
    """Set a title that does not reach into the next panel."""
    axis.set_title(shorten(text, available_inch, TITLE_POINTS, bold=True))


def set_x_tick_labels(axis: Axes, places: Sequence[float], labels: Sequence[str], spacing_inch: float) -> None:
    """Label the horizontal axis: side by side where the labels fit, else upright, and every nth of too many."""
    if widest_inch(labels) <= 0.92 * spacing_inch:
        axis.set_xticks(places, list(map(drawable, labels)))
        return
    nth = _every_nth(spacing_inch)
    axis.set_xticks(places[::nth], shorten_all(labels, UPRIGHT_INCH)[::nth], rotation=90)


def set_y_tick_labels(axis: Axes, places: Sequence[float], labels: Sequence[str], spacing_inch: float) -> None:
    """Label the vertical axis, every nth of too many."""
    nth = _every_nth(spacing_inch)
    axis.set_yticks(places[::nth], shorten_all(labels, UPRIGHT_INCH)[::nth])


def x_tick_labels_height_inch(labels: Sequence[str], spacing_inch: float) -> float:
    """Return the height of the labels that `set_x_tick_labels` writes."""
    widest = widest_inch(labels)
    return TICK_INCH if widest <= 0.92 * spacing_inch else min(UPRIGHT_INCH, widest)


def y_tick_labels_width_inch(labels: Sequence[str]) -> float:
    """Return the width of the labels that `set_y_tick_labels` writes."""
    return min(UPRIGHT_INCH, widest_inch(labels))


def _every_nth(spacing_inch: float) -> int:
    return max(1, math.ceil(TICK_INCH / spacing_inch))
