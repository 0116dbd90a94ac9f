"""image_headers: image files in, what their headers say or why they cannot be read out; in processes where many."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cellssl.errors import DataError
from cellssl.events import Event, Progress

if TYPE_CHECKING:
    from cellssl.images.described import ImageHeader

DAMAGED = "bring back the whole file, or take its row out of the table"

Place = tuple[str, int]
"""A file, and the number of the image in it."""
BATCH = 64
"""So many headers a process reads at a time."""
FEW = 512
"""Up to so many headers are read in this process: it takes as long as to start others."""


@dataclass(frozen=True)
class Unreadable:
    """Why a header cannot be read, as a sentence, and the cure where the sentence does not give it."""

    reason: str
    cure: str


if TYPE_CHECKING:
    Header = ImageHeader | Unreadable


def read_headers(places: Iterable[Place]) -> Generator[Event, None, dict[Place, Header]]:
    """Return the header of every image; yield how far it is.

    Raises FailedError where the file system failed to give the bytes of a file.
    """
    from cellssl.engine.process_pool import parallel_results

    todo = sorted(set(places))
    batches = [tuple(todo[start : start + BATCH]) for start in range(0, len(todo), BATCH)]
    found: dict[Place, Header] = {}
    if todo:
        yield Progress(0, len(todo), "headers")
    for batch, headers in parallel_results(_headers_of, batches, 1 if len(todo) <= FEW else None, _one_by_one):
        found.update(zip(batch, headers, strict=True))
        yield Progress(len(found), len(todo), "headers", Path(batch[-1][0]).name)
    return found


def _headers_of(batch: tuple[Place, ...]) -> list[Header]:
    return [_header_of(place) for place in batch]


def _header_of(place: Place) -> Header:
    from cellssl.images.header import read_header

    file, series = place
    try:
        return read_header(Path(file), series)
    except DataError as error:
        return Unreadable(error.message, error.hint or ("" if "; " in error.message else DAMAGED))


def _one_by_one(batch: tuple[Place, ...], how: str) -> list[Header]:
    """Read a batch whose process crashed, each file in a process of its own; a file that crashes it is damaged."""
    from cellssl.engine.process_pool import FEW as IN_THIS_PROCESS
    from cellssl.engine.process_pool import parallel_results

    if len(batch) == 1:
        return [Unreadable(f"{batch[0][0]} is damaged: it ends the process that reads it ({how})", DAMAGED)]
    alone = [(place,) for place in batch]
    while len(alone) <= IN_THIS_PROCESS:  # so few would be read in this process, which must not crash
        alone += alone
    results = {task: headers[0] for task, headers in parallel_results(_headers_of, alone, 2, _one_by_one)}
    return [results[place,] for place in batch]
