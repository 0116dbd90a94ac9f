"""zip_members: an archive and the members wanted of it in -> their files, several at once, or what is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cellssl.datasets.transfer.byte_ranges import ByteRanges
from cellssl.datasets.transfer.faults import Fault
from cellssl.datasets.transfer.http import RefusedError
from cellssl.datasets.transfer.threads import POLL_S, run_in_thread, worker_threads
from cellssl.datasets.transfer.zip_directory import (
    BrokenMemberError,
    Directory,
    Entry,
    extract_member,
    read_directory,
)
from cellssl.errors import NetworkError
from cellssl.events import Event, Progress, Transfer
from cellssl.files import check_space


@dataclass(frozen=True)
class MemberResult:
    """The result for one member: its file is at its target, or `reason` says why not."""

    member: str
    reason: str | None = None


def extract_members(
    ranges: ByteRanges,
    targets: Mapping[str, Path],
    scratch: Path,
    workers: int,
    raise_if_stalled: Callable[[], None] = lambda: None,
) -> Generator[Event | MemberResult, None, dict[str, Fault]]:
    """Extract every member of `targets` (member -> path) that is not there yet with the bytes of the archive.

    Returns member -> fault for those that cannot be extracted. Nothing else in the archive is ever extracted, so no
    name in it can lead out of the folder. `raise_if_stalled` is called now and then, and raises where the server is
    silent for too long.

    Raises what `ranges` raises, BrokenArchiveError where there is no directory in them, and FailedError where the disk
    has no room.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    directory = yield from run_in_thread(partial(read_directory, ranges), raise_if_stalled)
    found, faults = _find_entries(directory, targets)
    for member in [member for member in faults if targets[member].is_file()]:
        del faults[member]  # the file is complete, from this run or an earlier one
        yield MemberResult(member)
    missing: dict[str, Entry] = {}
    for member, entry in found.items():
        if entry.matches(targets[member]):
            yield MemberResult(member)
        else:
            targets[member].unlink(missing_ok=True)
            missing[member] = entry
    check_space(scratch, sum(entry.size for entry in missing.values()))
    return faults | (yield from _extract_missing(ranges, missing, targets, scratch, workers, raise_if_stalled))


def _find_entries(directory: Directory, targets: Mapping[str, Path]) -> tuple[dict[str, Entry], dict[str, Fault]]:
    """Return the entries of the members, and the faults of those that cannot be extracted."""
    found: dict[str, Entry] = {}
    faults: dict[str, Fault] = {}
    for member in targets:
        try:
            found[member] = directory.find(member)
        except BrokenMemberError as error:
            faults[member] = error.fault
    return found, faults


def _extract_missing(
    ranges: ByteRanges,
    missing: Mapping[str, Entry],
    targets: Mapping[str, Path],
    scratch: Path,
    workers: int,
    raise_if_stalled: Callable[[], None],
) -> Generator[Event | MemberResult, None, dict[str, Fault]]:
    """Extract members with several threads.

    A member that meets a network error goes to the end of the queue; as many network errors in a row as there are
    workers end the work.
    """
    faults: dict[str, Fault] = {}
    counter, network_errors = _TransferCounter({member: entry.range_bytes for member, entry in missing.items()}), 0

    def extract(member: str) -> BrokenMemberError | NetworkError | None:
        def on_bytes(count: int) -> None:
            if threads.is_stopped:
                raise _StoppedError
            counter.add(member, count)

        counter.start(member)
        try:
            extract_member(ranges, missing[member], member, targets[member], scratch, on_bytes)
        except RefusedError:
            raise
        except (BrokenMemberError, NetworkError) as error:
            return error
        return None

    with worker_threads(extract, workers) as threads:
        for member in missing:
            threads.submit(member)
        for result in threads.results():
            raise_if_stalled()
            if result is not None:
                member, fault = result
                counter.end(member, whole=fault is None)
                if isinstance(fault, NetworkError):
                    network_errors += 1
                    if network_errors >= max(2, min(workers, len(missing))):
                        raise fault
                    threads.submit(member)
                elif fault is not None:
                    faults[member] = fault.fault
                else:
                    network_errors = 0
                    yield MemberResult(member)
            yield from counter.events()
    yield from counter.events(now=True)
    return faults


class _StoppedError(Exception):
    """The work was stopped."""


class _TransferCounter:
    """Counts the bytes that arrived, in all and of each member that is being read."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._under_way: dict[str, int] = {}
        self._shown: set[str] = set()
        self._whole: set[str] = set()
        self._reported_s = time.monotonic()

    def start(self, member: str) -> None:
        """Start counting a member, from 0."""
        self._under_way[member] = 0

    def add(self, member: str, count: int) -> None:
        """Add further bytes of a member."""
        self._under_way[member] += count

    def end(self, member: str, *, whole: bool) -> None:
        """Stop counting a member."""
        self._under_way.pop(member, None)
        if whole:
            self._whole.add(member)

    def events(self, *, now: bool = False) -> Iterator[Event]:
        """Yield the progress, at most once every `POLL_S` seconds unless `now`."""
        if not now and time.monotonic() - self._reported_s < POLL_S:
            return
        self._reported_s = time.monotonic()
        under_way = dict(self._under_way)
        total = sum(self._sizes.values())
        done = sum(self._sizes[member] for member in self._whole) + sum(under_way.values())
        images = f"{len(self._whole):,} of {len(self._sizes):,} images"
        yield Progress(min(done, total), total, "bytes", images)
        for member in self._shown - set(under_way):
            yield Transfer(member, self._sizes[member], self._sizes[member])
        self._shown = set(under_way)
        for member, received in under_way.items():
            yield Transfer(member, min(received, self._sizes[member]), self._sizes[member])
