"""text_fitting: words, and the inches that there are for them -> words that fit, and ticks that bear them."""

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from cellssl.reporting.theme import FONT, TICK_POINTS, TITLE_POINTS

LINE_INCH = 0.19
"""Height of a line of a legend."""
TICK_INCH = 0.12
"""Ticks nearer each other than this would write over their neighbours."""
UPRIGHT_INCH = 1.1
"""Room for a word that stands upright below its tick, or left of it."""
POINTS_OF_INCH = 72


@lru_cache(maxsize=4096)
def width_inch(text: str, points: float = TICK_POINTS, *, bold: bool = False) -> float:
    """How wide a text is when drawn."""
    font = FontProperties(family=FONT, size=points, weight="bold" if bold else "normal")
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / POINTS_OF_INCH


def widest_inch(words: Iterable[str], points: float = TICK_POINTS) -> float:
    """The widest of several words."""
    return max((width_inch(word, points) for word in words), default=0.0)


def fitted(text: str, room_inch: float, points: float = TICK_POINTS, *, bold: bool = False) -> str:
    """The text; where it is too wide, its beginning and its end, since names of one kind often differ at the end."""
    width = width_inch(text, points, bold=bold)
    kept = len(text) if width <= room_inch else min(len(text) - 1, math.ceil(len(text) * room_inch / width))
    short = text
    while width_inch(short, points, bold=bold) > room_inch and kept > 1:
        short = f"{text[: -(-kept // 2)]}…{text[len(text) - kept // 2 :]}"
        kept -= 1
    return short


def all_fitted(words: Sequence[str], room_inch: float) -> list[str]:
    """Every word fitted; those that would read alike begin where they differ."""
    short = [fitted(word, room_inch) for word in words]
    alike: dict[str, set[str]] = {}
    for word, each in zip(words, short, strict=True):
        alike.setdefault(each, set()).add(word)
    return [
        each if len(alike[each]) == 1 else fitted(f"…{_from_difference(word, alike[each])}", room_inch)
        for word, each in zip(words, short, strict=True)
    ]


def _from_difference(word: str, others: set[str]) -> str:
    """The rest of a word from where it differs from others; a number is not cut into."""
    shared = next((place for place, letters in enumerate(zip(*others, strict=False)) if len(set(letters)) > 1), 0)
    return word[len(re.sub(r"[^\W_]+$", "", word[:shared])) :]


def title(axis: Axes, text: str, room_inch: float) -> None:
    """A title that does not reach over its neighbour's."""
    axis.set_title(fitted(text, room_inch, TITLE_POINTS, bold=True))


def words_below(axis: Axes, places: Sequence[float], words: Sequence[str], each_inch: float) -> None:
    """Words at ticks on the horizontal axis: side by side where they fit, else upright, and of too many every nth."""
    if widest_inch(words) <= 0.92 * each_inch:
        axis.set_xticks(places, words)
        return
    nth = _nth(each_inch)
    axis.set_xticks(places[::nth], all_fitted(words, UPRIGHT_INCH)[::nth], rotation=90)


def words_beside(axis: Axes, places: Sequence[float], words: Sequence[str], each_inch: float) -> None:
    """Words at ticks on the vertical axis, of too many every nth."""
    nth = _nth(each_inch)
    axis.set_yticks(places[::nth], all_fitted(words, UPRIGHT_INCH)[::nth])


def room_below(words: Sequence[str], each_inch: float) -> float:
    """Height of what `words_below` writes."""
    widest = widest_inch(words)
    return TICK_INCH if widest <= 0.92 * each_inch else min(UPRIGHT_INCH, widest)


def room_beside(words: Sequence[str]) -> float:
    """Width of what `words_beside` writes."""
    return min(UPRIGHT_INCH, widest_inch(words))


def _nth(each_inch: float) -> int:
    return max(1, math.ceil(TICK_INCH / each_inch))
