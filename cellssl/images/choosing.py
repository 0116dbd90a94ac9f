"""choosing: what a file holds and what a reference asks for in, the planes to read out; or an error that lists both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from cellssl.errors import DataError
from cellssl.images.described import ImageHeader
from cellssl.images.reference import PROJECTIONS, ImageReference

COLOURS = ("red", "green", "blue")
LISTED = 20
"""So many names are listed in an error."""


@dataclass(frozen=True)
class Choice:
    """The planes of one file that make the image of a channel."""

    series: int
    channel: int
    z_planes: tuple[int, ...]
    """Numbers of the z planes; several are projected."""
    t: int
    pages: tuple[int, ...] = ()
    """Numbers of pages in place of channel, z and t, where the pages have no names."""
    sample: int | None = None
    """Number of the colour to take, where a pixel has several and one was asked for."""
    projection: str | None = None
    """How several planes become one."""


def choose(name: str, header: ImageHeader, reference: ImageReference) -> Choice:
    """Return the planes that a reference means in a file with this header.

    Raises DataError, with what there is and the lines to write, where the file holds more than one plane and the
    reference does not say which, or asks for what is not there. `name` names the file.
    """
    if header.series > 1 and reference.series is None:
        raise _undecided(name, header, reference)
    if reference.page is not None:
        return _page(name, header, reference)
    if header.has_unnamed_pages and (asked := _asked_of_pages(name, header, reference)) is not None:
        return asked
    if _is_undecided(header, reference):
        raise _undecided(name, header, reference)
    channel, sample = _channel(name, header, reference.channel)
    z_planes, projection = _z(name, header.z_planes, reference.z)
    t = _within(name, "time point", "t", header.time_points, reference.t)
    return Choice(reference.series or 0, channel, z_planes, t, (), sample, projection)


def _is_undecided(header: ImageHeader, reference: ImageReference) -> bool:
    pairs = (
        (header.channels, reference.channel),
        (header.z_planes, reference.z),
        (header.time_points, reference.t),
    )
    return header.has_unnamed_pages or any(count > 1 and asked is None for count, asked in pairs)


def _page(name: str, header: ImageHeader, reference: ImageReference) -> Choice:
    others = [axis for axis in ("channel", "z", "t") if getattr(reference, axis) is not None]
    if others:
        raise DataError(
            f"{name} is asked for a page and for {' and '.join(others)}; a page is one plane: choose one way"
        )
    number = _within(name, "page", "page", header.pages, reference.page)
    return Choice(reference.series or 0, 0, (0,), 0, (number,))


def _asked_of_pages(name: str, header: ImageHeader, reference: ImageReference) -> Choice | None:
    """Return the pages that are meant, where one axis is asked for and the pages have no names: that axis is theirs."""
    asked = {axis: getattr(reference, axis) for axis in ("channel", "z", "t")}
    given = {axis: value for axis, value in asked.items() if value is not None}
    if len(given) != 1:
        return None
    axis, value = next(iter(given.items()))
    if axis == "z" and value in PROJECTIONS:
        return Choice(0, 0, (0,), 0, tuple(range(header.pages)), None, str(value))
    if isinstance(value, str):
        raise DataError(
            f"{name} has {header.pages} pages without names; there is no channel {value!r}",
            hint=f"choose by number: page = 0 to {header.pages - 1}",
        )
    return Choice(0, 0, (0,), 0, (_within(name, "page", axis, header.pages, value),))


def _channel(name: str, header: ImageHeader, asked: int | str | None) -> tuple[int, int | None]:
    """Return the number of the channel, and that of the colour where the channels are the colours of a pixel."""
    if header.channels == 1 and header.samples > 1 and asked is not None:
        return 0, _colour(name, header, asked)
    if isinstance(asked, str):
        return _named(name, header, asked), None
    return _within(name, "channel", "channel", header.channels, asked, _names(header)), None


def _colour(name: str, header: ImageHeader, asked: int | str) -> int:
    if isinstance(asked, int):
        return _within(name, "colour", "channel", header.samples, asked)
    if header.samples in (3, 4) and asked.lower() in COLOURS:
        return COLOURS.index(asked.lower())
    raise DataError(
        f"{name} has {header.samples} colours in each pixel; there is no channel {asked!r}",
        hint=f"choose by number: channel = 0 to {header.samples - 1}",
    )


def _named(name: str, header: ImageHeader, asked: str) -> int:
    """Return the number of a channel by its name; case and blanks count only where two names differ in them."""
    names = header.channel_names
    found = [number for number, one in enumerate(names) if one == asked]
    if not found:
        found = [number for number, one in enumerate(names) if one.strip().lower() == asked.strip().lower()]
    if len(found) == 1:
        return found[0]
    if len(found) > 1:
        raise DataError(f"{name} has {len(found)} channels {asked!r}; choose by number, from 0 {_names(header)}")
    if not names:
        raise DataError(
            f"{name} does not name its channel{'s' * (header.channels > 1)}, so there is no {asked!r}",
            hint=f"choose by number: channel = 0 to {header.channels - 1}" if header.channels > 1 else "leave it out",
        )
    raise DataError(f"{name} has no channel {asked!r}; it has {_names(header)}")


def _z(name: str, count: int, asked: int | str | None) -> tuple[tuple[int, ...], str | None]:
    if asked in PROJECTIONS:
        return tuple(range(count)), str(asked)
    if isinstance(asked, str):
        raise DataError(f"{name}: z = {asked!r} is none of {', '.join(PROJECTIONS)}, and no number")
    return (_within(name, "z plane", "z", count, asked),), None


def _within(name: str, what: str, axis: str, count: int, asked: int | None, which: str = "") -> int:
    """Return the number, or 0 where none is asked for; DataError where there is no such."""
    number = 0 if asked is None else asked
    if not 0 <= number < count:
        some = f"{count} {what}s, numbered from 0" if count > 1 else f"one {what}, number 0"
        raise DataError(f"{name} has {some}{f' ({which})' if which else ''}; there is no {axis} = {asked}")
    return number


def _names(header: ImageHeader) -> str:
    names = [json.dumps(name, ensure_ascii=False) for name in header.channel_names[:LISTED]]
    return ", ".join(names) + (", …" if len(header.channel_names) > LISTED else "")


def _undecided(name: str, header: ImageHeader, reference: ImageReference) -> DataError:
    """Return the error for a file with several planes of which none is chosen: what there is, and what to write."""
    return DataError(
        f"{name} holds {what_is_there(header)}; say which of them is the image", hint=_lines(header, reference)
    )


def what_is_there(header: ImageHeader) -> str:
    """Return how many planes of which kind an image has, in words, with the names of its channels."""
    parts = list(_counts(header))
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))) if parts else "one plane"


def _counts(header: ImageHeader) -> Iterator[str]:
    if header.series > 1:
        yield f"{header.series} series (scenes or positions)"
    if header.channels > 1:
        named = _names(header)
        yield f"{header.channels} channels ({named or 'without names'})"
    if header.z_planes > 1:
        yield f"{header.z_planes} z planes"
    if header.time_points > 1:
        yield f"{header.time_points} time points"
    if header.has_unnamed_pages:
        doubts = "; ".join(header.extra[name] for name in ("doubtful", "sizes") if name in header.extra)
        yield f"{header.pages} pages of which it does not say what they are{f' ({doubts})' if doubts else ''}"


def _lines(header: ImageHeader, reference: ImageReference) -> str:
    """Return the lines of a recipe that choose, as far as the reference does not do so already."""
    lines = []
    if header.series > 1 and reference.series is None:
        lines.append('a column of the table with the number of the series, from 0: columns.series = "series"')
    if header.channels > 1 and reference.channel is None:
        first = json.dumps(header.channel_names[0], ensure_ascii=False) if header.channel_names else "0"
        lines.append(f'channels = {{ NAME = {{ column = "COLUMN", channel = {first} }} }}')
    if header.has_unnamed_pages:
        lines.append('channels = { NAME = { column = "COLUMN", page = 0 } } where pages are channels')
    if (header.z_planes > 1 or header.has_unnamed_pages) and reference.z is None:
        lines.append(
            f'z = "max" (or "mean", "focus", or a number from 0){" where they are z planes" * header.has_unnamed_pages}'
        )
    if header.time_points > 1 and reference.t is None:
        lines.append('t = "first" (or a number from 0, or "all")')
    return "in [fetch.dataset]: " + "; ".join(lines)
