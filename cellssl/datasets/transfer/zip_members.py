"""zip_members: an archive and the members that are wanted of it -> their files, several at once, or what is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cellssl.datasets.transfer.byte_ranges import Pieces
from cellssl.datasets.transfer.http import RefusedError
from cellssl.datasets.transfer.threads import TICK_S, attending, crew
from cellssl.datasets.transfer.zip_directory import BrokenMemberError, Directory, Entry, read_directory, take
from cellssl.errors import NetworkError
from cellssl.events import Event, Progress, Transfer
from cellssl.files import check_space


@dataclass(frozen=True)
class Taken:
    """What became of one member: it lies where it was wanted, or `reason` says why not."""

    member: str
    reason: str | None = None


def brought(
    pieces: Pieces,
    wanted: Mapping[str, Path],
    scratch: Path,
    hands: int,
    alive: Callable[[], None] = lambda: None,
) -> Generator[Event | Taken, None, dict[str, str]]:
    """Every wanted member that is not there yet with the very bytes of the archive; returns the faults of the others.

    What else the archive holds is never unpacked, so no name in it can lead out of the folder. `alive` is called now
    and then, and raises where the server is silent for too long.

    Raises what `pieces` raises, BrokenArchiveError where there is no directory in them, and FailedError where the disk
    has no room.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    directory = yield from attending(partial(read_directory, pieces), alive)
    found, faulty = _looked_up(directory, wanted)
    for member in [member for member in faulty if wanted[member].is_file()]:
        del faulty[member]  # it was whole when it came, from here or elsewhere
        yield Taken(member)
    missing: dict[str, Entry] = {}
    for member, entry in found.items():
        if entry.is_as(wanted[member]):
            yield Taken(member)
        else:
            wanted[member].unlink(missing_ok=True)
            missing[member] = entry
    check_space(scratch, sum(entry.size for entry in missing.values()))
    return faulty | (yield from _fetched(pieces, missing, wanted, scratch, hands, alive))


def _looked_up(directory: Directory, wanted: Mapping[str, Path]) -> tuple[dict[str, Entry], dict[str, str]]:
    found: dict[str, Entry] = {}
    faulty: dict[str, str] = {}
    for member in wanted:
        try:
            found[member] = directory.find(member)
        except BrokenMemberError as error:
            faulty[member] = str(error)
    return found, faulty


def _fetched(
    pieces: Pieces,
    missing: Mapping[str, Entry],
    wanted: Mapping[str, Path],
    scratch: Path,
    hands: int,
    alive: Callable[[], None],
) -> Generator[Event | Taken, None, dict[str, str]]:
    """What the network denies goes to the end of the row; when it denies as many in a row as are asked for, it ends."""
    faulty: dict[str, str] = {}
    tally, denied = _Tally({member: entry.moved_bytes for member, entry in missing.items()}), 0

    def do(member: str) -> BrokenMemberError | NetworkError | None:
        def heard(count: int) -> None:
            if hired.has_left:
                raise _NobodyWaitsError
            tally.heard(member, count)

        tally.begin(member)
        try:
            take(pieces, missing[member], member, wanted[member], scratch, heard)
        except RefusedError:
            raise
        except (BrokenMemberError, NetworkError) as error:
            return error
        return None

    with crew(do, hands) as hired:
        for member in missing:
            hired.give(member)
        for done in hired.results():
            alive()
            if done is not None:
                member, fault = done
                tally.end(member, whole=fault is None)
                if isinstance(fault, NetworkError):
                    denied += 1
                    if denied >= max(2, min(hands, len(missing))):
                        raise fault
                    hired.give(member)
                elif fault is not None:
                    faulty[member] = str(fault)
                else:
                    denied = 0
                    yield Taken(member)
            yield from tally.said()
    yield from tally.said(now=True)
    return faulty


class _NobodyWaitsError(Exception):
    """The work was stopped."""


class _Tally:
    """Bytes that came, in all and of each member that is on its way."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._under_way: dict[str, int] = {}
        self._shown: set[str] = set()
        self._whole: set[str] = set()
        self._said_s = time.monotonic()

    def begin(self, member: str) -> None:
        """Nothing of it has come yet."""
        self._under_way[member] = 0

    def heard(self, member: str, count: int) -> None:
        """So many further bytes of it."""
        self._under_way[member] += count

    def end(self, member: str, *, whole: bool) -> None:
        """It is no longer on its way."""
        self._under_way.pop(member, None)
        if whole:
            self._whole.add(member)

    def said(self, *, now: bool = False) -> Iterator[Event]:
        """What there is to say, every now and then."""
        if not now and time.monotonic() - self._said_s < TICK_S:
            return
        self._said_s = time.monotonic()
        under_way = dict(self._under_way)
        total = sum(self._sizes.values())
        done = sum(self._sizes[member] for member in self._whole) + sum(under_way.values())
        images = f"{len(self._whole):,} of {len(self._sizes):,} images"
        yield Progress(min(done, total), total, "bytes", images)
        for member in self._shown - set(under_way):
            yield Transfer(member, self._sizes[member], self._sizes[member])
        self._shown = set(under_way)
        for member, came in under_way.items():
            yield Transfer(member, min(came, self._sizes[member]), self._sizes[member])
