"""bars: how far each work is in, one line per work that fits the width of the terminal out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellssl.cli.columns import shortened
from cellssl.durations import about, briefly

if TYPE_CHECKING:
    from rich.console import Console as Terminal
    from rich.console import ConsoleOptions
    from rich.live import Live
    from rich.text import Text

WIDEST_BAR, NARROWEST_BAR = 32, 8
"""Characters of a bar."""
LEAST_TITLE, LEAST_TITLE_ALONE = 24, 16
"""Characters of a title that are kept before something else of the line is left out, with a bar and without."""
GAP = "  "
PER_SECOND = 8
"""How often a terminal is drawn anew."""


@dataclass(frozen=True)
class Bar:
    """One line: what is done, how far it is, and since when."""

    title: str
    done: int = 0
    total: int = 0
    """0 or 1 where it is not known how far the work is."""
    unit: str = ""
    note: str = ""
    so_far_s: float = 0.0
    left_s: float | None = None
    speed: float | None = None
    """Bytes per second, of a transfer."""

    @property
    def is_counted(self) -> bool:
        """Whether a share of the work can be shown: "0 of 1" says nothing until the end."""
        return self.total > 1

    def amount(self) -> str:
        """Return done and total in words, or what is being done where nothing is counted."""
        if not self.is_counted:
            return self.unit
        if self.unit != "bytes":
            return f"{self.done:,}/{self.total:,} {self.unit}"
        rate = f", {self.speed / 1e6:,.1f} MB/s" if self.speed else ""
        return f"{self.done / 1e6:,.1f}/{self.total / 1e6:,.1f} MB{rate}"

    def times(self) -> str:
        """Return how long it has taken, and what is left where that is known, each with its name."""
        left = f", {about(self.left_s)} left" if self.left_s is not None else ""
        return f"{briefly(self.so_far_s)} so far{left}"

    def tails(self) -> list[str]:
        """Return what may stand behind the bar, from the most to the least."""
        left = f"{about(self.left_s)} left" if self.left_s is not None else f"{briefly(self.so_far_s)} so far"
        parts = ((self.amount(), self.times(), self.note), (self.amount(), self.times()), (self.amount(), left))
        return [GAP.join(part for part in one if part) for one in (*parts, (self.amount(),), ())]


@dataclass(frozen=True)
class Line:
    """A line in three parts, so that a terminal can colour the bar."""

    title: str
    bar: str
    filled: int
    tail: str

    def text(self) -> str:
        """Return the whole line."""
        return GAP.join(part for part in (self.title, self.bar, self.tail) if part).rstrip()


def lines(bars: Sequence[Bar], width: int, now_s: float, signs: str = "━─") -> list[Line]:
    """Return one line per bar, none wider than `width`, with the parts below each other.

    What does not fit is left out of all lines: the note first, then the time so far, then the time left, then the bar.
    """
    longest = max((len(bar.title) for bar in bars), default=0)
    levels = list(zip(*(bar.tails() for bar in bars), strict=True))
    for with_bar, least in ((True, LEAST_TITLE), (False, LEAST_TITLE_ALONE)):
        for level, tails in enumerate(levels[:-1] if with_bar else levels):  # how far it is says more than a bar
            tail = max(map(len, tails))
            room = width - (tail and tail + len(GAP)) - (NARROWEST_BAR + len(GAP) if with_bar else 0)
            if room >= (longest if level == 0 else min(longest, least)):  # a note shortens no title
                titled = min(longest, room)
                side = min(WIDEST_BAR, room - titled + NARROWEST_BAR) if with_bar else 0
                return [_line(*pair, titled, side, now_s, signs) for pair in zip(bars, tails, strict=True)]
    return [Line(shortened(bar.title, width), "", 0, "") for bar in bars]


def _line(bar: Bar, tail: str, titled: int, side: int, now_s: float, signs: str) -> Line:
    title = shortened(bar.title, titled).ljust(titled)
    if bar.is_counted:
        filled = round(side * min(bar.done, bar.total) / bar.total)
        return Line(title, signs[0] * filled + signs[1] * (side - filled), filled, tail)
    return Line(title, _moving(side, now_s, signs), 0, tail)


def _moving(side: int, now_s: float, signs: str) -> str:
    """Return a bar in which a piece moves to and fro, where it is not known how far the work is."""
    piece = min(4, side)
    ways = side - piece
    step = int(now_s * 6) % (2 * ways) if ways else 0
    before = min(step, 2 * ways - step)
    return signs[1] * before + signs[0] * piece + signs[1] * (ways - before)


class Bars:
    """Draws the bars of a terminal anew several times a second, and takes them away at the end."""

    def __init__(self, terminal: Terminal, bars: Callable[[], Sequence[Bar]]) -> None:
        """Draw what `bars` returns at each moment."""
        from rich.live import Live

        self._bars = bars
        self._signs = "━─" if _can_show("━─", terminal.encoding) else "#-"
        self._live: Live = Live(self, console=terminal, transient=True, refresh_per_second=PER_SECOND)

    def start(self) -> None:
        """Begin to draw."""
        self._live.start(refresh=True)

    def stop(self) -> None:
        """Take the bars away."""
        self._live.stop()

    def print(self, text: str) -> None:
        """Print a line above the bars."""
        self._live.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def __rich_console__(self, console: Terminal, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines for rich; the last column stays free, since some terminals wrap there."""
        from rich.text import Text

        for line in lines(self._bars(), options.max_width - 1, time.monotonic(), self._signs):
            text = Text(line.text(), no_wrap=True, overflow="crop")
            start = len(line.title) + len(GAP)
            text.stylize("green", start, start + line.filled)
            text.stylize("dim", start + line.filled, start + len(line.bar))
            yield text


def _can_show(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
