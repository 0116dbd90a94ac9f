"""sources: an address or a folder, and what is wanted of it in -> tables as bytes, images as files."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from cellssl.datasets.base import Forecast
from cellssl.datasets.transfer.byte_ranges import Pieces
from cellssl.datasets.transfer.checksums import Digest
from cellssl.datasets.transfer.zip_directory import (
    BrokenArchiveError,
    BrokenMemberError,
    Directory,
    Entry,
    read_directory,
)
from cellssl.datasets.transfer.zip_members import Taken
from cellssl.events import Event

Images = Mapping[str, Path]
"""Where each member of an archive, PLATE/FILE, is to lie."""


LARGEST_TABLE_BYTES = 1 << 28


T = TypeVar("T")


Bringing = Generator[Event | Taken, None, T]


@dataclass(frozen=True)
class Bench:
    """Where images of one plate come to lie, and how; `folder` is the plate's own."""

    folder: Path
    connections: int
    archives: Mapping[str, Digest] = field(default_factory=dict)
    """What an earlier fetch recorded of whole archives, in the file `record`."""
    record: Path | None = None

    @property
    def scratch(self) -> Path:
        """For what is removed when the plate is finished."""
        return self.folder / "scratch"


class Source(Protocol):
    """Where a published set comes from."""

    def table(self, name: str, cache: Path) -> bytes:
        """The bytes of a table.

        Raises UsageError where a folder has no such table, NetworkError where a server does not give it.
        """

    def images(self, archive: str, batch: str, wanted: Images, bench: Bench) -> Bringing[None]:
        """Every wanted image of one plate, with the reason where it cannot be had, even when tried again."""

    def forecast(self, archive: str, batch: str, wanted: Images) -> Forecast:
        """What the images would cost that are not there yet."""


def of_archive(pieces: Pieces, wanted: Images, loose: Mapping[str, int] | None = None) -> Forecast:
    """What the members cost that are not there yet; `loose` ones lie unpacked, with so many bytes."""
    loose, moved, unpacked, absent = loose or {}, 0, 0, 0
    try:
        directory = read_directory(pieces)
    except BrokenArchiveError:
        absent = sum(member not in loose for member in wanted)
        return Forecast(sum(loose.values()), sum(loose.values()), absent)
    for member in wanted:
        entry = _entry(directory, member)
        absent += entry is None and member not in loose
        moved += loose.get(member, 0) if entry is None else entry.moved_bytes
        unpacked += loose.get(member, 0) if entry is None else entry.size
    return Forecast(moved, unpacked, absent)


def _entry(directory: Directory, member: str) -> Entry | None:
    try:
        return directory.find(member)
    except BrokenMemberError:
        return None


def at(base: str, name: str) -> str:
    """The address of a file under `base`, which may end in a query."""
    parts = urlsplit(base)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))


def no_progress() -> None:
    pass


def absent_file(wanted: Images, reason: str) -> dict[str, str]:
    """The images that are not there, with one reason for all; what is there was whole when it came."""
    return {member: reason for member, target in wanted.items() if not target.is_file()}


def counting(wanted: Images) -> int:
    return sum(target.is_file() for target in wanted.values())
