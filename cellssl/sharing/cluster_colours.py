"""cluster_colours: numbers of clusters in, the colours of the report out, for programs that have no markers."""

from __future__ import annotations

from collections.abc import Iterable

from cellssl.profiling.clusterer import NOISE

WHITE_SHARES = (0.0, 0.45, 0.7)
"""Shares of white by which later clusters of a colour differ from the first, which the report tells by its marker."""


def repeats(numbers: Iterable[int]) -> str | None:
    """Return a sentence on the clusters that have the colour of an earlier one; None where there are none."""
    from cellssl.reporting.theme import COLOURS

    distinct = len(COLOURS) * len(WHITE_SHARES)
    if max(numbers, default=NOISE) < distinct:
        return None
    return f"clusters from number {distinct} on have the colours of the first again: tell them by their numbers"


def cluster_colour(number: int) -> str:
    """Return the colour of a cluster as #RRGGBB: the report's for the first eight, then twice a paler one; noise is
    grey.

    >>> cluster_colour(0), cluster_colour(8), cluster_colour(-1)
    ('#0072B2', '#73B1D5', '#D0D0D0')
    """
    from cellssl.reporting.theme import COLOURS, NO_GROUP, cluster_style

    if number == NOISE:
        return NO_GROUP
    white = WHITE_SHARES[number // len(COLOURS) % len(WHITE_SHARES)]
    levels = rgb_of(cluster_style(number).colour)
    return "#" + "".join(f"{round(level + white * (255 - level)):02X}" for level in levels)


def rgb_of(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of #RRGGBB."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue
