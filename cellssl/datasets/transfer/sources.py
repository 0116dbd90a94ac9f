"""sources: the protocol of a source of a published set: an address or folder in -> tables as bytes, images as files."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from cellssl.datasets.base import Forecast
from cellssl.datasets.transfer.byte_ranges import ByteRanges
from cellssl.datasets.transfer.checksums import Digest
from cellssl.datasets.transfer.faults import Fault
from cellssl.datasets.transfer.zip_directory import (
    BrokenArchiveError,
    BrokenMemberError,
    Directory,
    Entry,
    read_directory,
)
from cellssl.datasets.transfer.zip_members import MemberResult
from cellssl.events import Event

Targets = Mapping[str, Path]
"""Member of an archive, PLATE/FILE -> the path that its file gets."""

T = TypeVar("T")
Fetching = Generator[Event | MemberResult, None, T]
"""Work that yields events and the results of single members, and returns a T."""

LARGEST_TABLE_BYTES = 1 << 28


@dataclass(frozen=True)
class PlateDestination:
    """The folder for the images of one plate, and how they are fetched."""

    folder: Path
    connections: int
    archives: Mapping[str, Digest] = field(default_factory=dict)
    """Checksums of whole archives that an earlier fetch recorded in the file `record`."""
    record: Path | None = None

    @property
    def scratch(self) -> Path:
        """Return the folder for unfinished files, which is removed when the plate is finished."""
        return self.folder / "scratch"


class Source(Protocol):
    """Where a published set comes from."""

    def table(self, name: str, cache: Path, *, past_caches: bool = False) -> bytes:
        """Return the bytes of a table; `past_caches` asks caches on the way to fetch it from the server again.

        Raises UsageError where a folder has no such table, NetworkError where a server does not give it.
        """

    def images(self, archive: str, batch: str, targets: Targets, destination: PlateDestination) -> Fetching[None]:
        """Fetch the images of one plate; yield a result for each, with the reason where its bytes are wrong.

        Raises NetworkError or FailedError where they are wrong in another way at every reading.
        """

    def forecast(self, archive: str, batch: str, targets: Targets) -> Forecast:
        """Return the cost of the images that are not there yet."""


def forecast_archive(ranges: ByteRanges, targets: Targets, unpacked_bytes: Mapping[str, int] | None = None) -> Forecast:
    """Return what members of an archive will cost; `unpacked_bytes` are the sizes of those that also lie unpacked."""
    unpacked_bytes, moved, on_disk, absent = unpacked_bytes or {}, 0, 0, 0
    try:
        directory = read_directory(ranges)
    except BrokenArchiveError:
        absent = sum(member not in unpacked_bytes for member in targets)
        return Forecast(sum(unpacked_bytes.values()), sum(unpacked_bytes.values()), absent)
    for member in targets:
        entry = _entry(directory, member)
        absent += entry is None and member not in unpacked_bytes
        moved += unpacked_bytes.get(member, 0) if entry is None else entry.range_bytes
        on_disk += unpacked_bytes.get(member, 0) if entry is None else entry.size
    return Forecast(moved, on_disk, absent)


def _entry(directory: Directory, member: str) -> Entry | None:
    try:
        return directory.find(member)
    except BrokenMemberError:
        return None


def join_url(base: str, name: str) -> str:
    """Return the address of a file under `base`, which may end in a query."""
    parts = urlsplit(base)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))


def never_stalled() -> None:
    """Raise nothing: for files that are on this machine already."""


def faults_of_missing(targets: Targets, fault: Fault) -> dict[str, Fault]:
    """Return member -> fault, the same for every missing image; files that are there are complete."""
    return {member: fault for member, target in targets.items() if not target.is_file()}


def count_present(targets: Targets) -> int:
    """Return how many of the images are there."""
    return sum(target.is_file() for target in targets.values())
