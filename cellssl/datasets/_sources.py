"""_sources: an address or a folder, and what is wanted of it in -> tables as bytes, images as files."""

from __future__ import annotations

import secrets
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from cellssl.datasets._archive import BrokenArchiveError, BrokenMemberError, Directory, Entry, read_directory
from cellssl.datasets._download import download
from cellssl.datasets._members import Taken, brought
from cellssl.datasets._pieces import ChangedError, LocalPieces, Pieces, RangesRefusedError, WebPieces
from cellssl.datasets._place import copy, write_text
from cellssl.datasets._record import OF_ARCHIVES, Digest, check, digest_of, record_text
from cellssl.datasets._tiff import missing_bytes
from cellssl.datasets._together import attending, driven
from cellssl.datasets._web import Patience, RefusedError, Web
from cellssl.datasets.field import Forecast
from cellssl.errors import DataError, IntegrityError, UsageError
from cellssl.events import Event, Progress

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


def source_at(given: str | Path, patience: Patience) -> Source:
    """The source at an address or a folder."""
    if isinstance(given, Path):
        return Folder(given)
    if given.startswith("s3://"):
        from cellssl.datasets._s3 import Bucket

        return Bucket(given, patience)
    return Server(given, patience)


class Server:
    """A web server with the official file names under one address."""

    def __init__(self, address: str, patience: Patience) -> None:
        self.address, self._patience, self._web = address, patience, Web(patience)

    def table(self, name: str, cache: Path) -> bytes:
        """Under a name of its own, for several processes may want it at once."""
        arrived = cache / f"{name}.{secrets.token_hex(4)}"
        try:
            for event in download(at(self.address, name), arrived, self._patience, proves_itself=True):
                if isinstance(event, Progress) and event.done > LARGEST_TABLE_BYTES:
                    raise RefusedError(
                        f"{name} has more than {LARGEST_TABLE_BYTES:,} bytes at {self.address}",
                        hint="look what lies at that address; it is no table of this set",
                    )
            return arrived.read_bytes()
        finally:
            for left in cache.glob(f"{arrived.name}*"):
                left.unlink()

    def images(self, archive: str, batch: str, wanted: Images, bench: Bench) -> Bringing[None]:
        """By ranges; where the server refuses them, out of the whole archive, which is removed again."""
        url, left, fruitless, looked = at(self.address, archive), wanted, 0, 0
        kept = bench.scratch / archive
        whole = kept.is_file()
        while True:
            there, unreadable = _count(wanted), False
            try:
                pieces = yield from (self._whole(url, kept, bench) if whole else self._ranges(url))
                alive = _nothing if whole else self._web.check_alive  # what is here already is not waited for
                faulty = yield from brought(pieces, left, bench.scratch, bench.connections, alive)
            except RangesRefusedError:
                whole = True
                continue
            except ChangedError:  # another file under the same name, or a server that grants ranges now and then
                fruitless = 0 if _count(wanted) > there else fruitless + 1
                whole, left = fruitless >= self._patience.tries, wanted
                continue
            except BrokenArchiveError as error:
                faulty, unreadable = _absent(wanted, str(error)), True
            if whole:
                kept.unlink()
                if faulty:
                    (bench.folder / OF_ARCHIVES).unlink(missing_ok=True)
            looked += 1
            if not faulty or looked == 2:
                break
            left = {member: wanted[member] for member in faulty}
            whole = whole or unreadable  # perhaps it is the ranges that are not right
        yield from (Taken(member, reason) for member, reason in faulty.items())

    def forecast(self, archive: str, batch: str, wanted: Images) -> Forecast:
        """By the archive's directory; unknown where that is another one each time it is asked for."""
        for _ in range(self._patience.tries):
            try:
                return of_archive(driven(self._ranges(at(self.address, archive))), wanted)
            except RangesRefusedError as refused:
                return Forecast(refused.total, None, 0, whole_archive=True)
            except ChangedError:
                continue
        return Forecast(None, None, 0)

    def _ranges(self, url: str) -> Bringing[Pieces]:
        return (yield from attending(partial(WebPieces.open, self._web, url), self._web.check_alive))

    def _whole(self, url: str, kept: Path, bench: Bench) -> Bringing[Pieces]:
        if not kept.is_file():
            yield from download(url, kept, self._patience, proves_itself=True)
        noted = bench.folder / OF_ARCHIVES
        if not noted.is_file():
            digest = yield from attending(partial(digest_of, kept))
            try:
                check(kept.name, digest, bench.archives.get(kept.name), bench.record)
            except IntegrityError:
                kept.unlink()
                raise
            write_text(noted, record_text({kept.name: digest}), bench.scratch)
        return LocalPieces(kept)


class Folder:
    """A folder of this machine with the official tables, and archives or the images that were in them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listings: dict[Path, dict[str, Path]] = {}

    def table(self, name: str, cache: Path) -> bytes:
        """As it lies there."""
        path = self._file(self._root / name)
        if path is None:
            raise UsageError(
                f"{self._root} holds no {name}", hint="put the official tables beside the images or archives"
            )
        return path.read_bytes()

    def images(self, archive: str, batch: str, wanted: Images, bench: Bench) -> Bringing[None]:
        """Out of the archive, whose checksums prove them; images that lie unpacked for what it does not hold."""
        packed, unpacked = self._places(archive, batch, wanted)
        faulty = {member: f"{member} is not in the source folder" for member in wanted if not wanted[member].is_file()}
        if packed is not None:
            if (expected := bench.archives.get(archive)) is not None:
                digest = yield from attending(partial(digest_of, packed))
                check(archive, digest, expected, bench.record)
            try:
                faulty = yield from brought(LocalPieces(packed), wanted, bench.scratch, bench.connections)
            except BrokenArchiveError as error:
                faulty = _absent(wanted, str(error))
        for number, member in enumerate(sorted(set(faulty) & set(unpacked)), start=1):
            fault = _copied(unpacked[member], wanted[member], bench.scratch)
            if fault is None:
                del faulty[member]
                yield Taken(member)
            else:
                faulty[member] = f"{member} {fault}"
            yield Progress(number, len(unpacked), "images", member)
        yield from (Taken(member, reason) for member, reason in faulty.items())

    def forecast(self, archive: str, batch: str, wanted: Images) -> Forecast:
        """By the directory of the archive, and the sizes of what lies unpacked."""
        packed, unpacked = self._places(archive, batch, wanted)
        loose = {member: path.stat().st_size for member, path in unpacked.items()}
        if packed is None:
            return Forecast(sum(loose.values()), sum(loose.values()), len(wanted) - len(loose))
        return of_archive(LocalPieces(packed), wanted, loose)

    def _places(self, archive: str, batch: str, wanted: Images) -> tuple[Path | None, dict[str, Path]]:
        packed = self._file(self._root / archive)
        unpacked = {member: path for member in wanted if (path := self._unpacked(archive, batch, member)) is not None}
        if packed is None and not unpacked:
            raise DataError(
                f"{self._root} holds neither {archive} nor its images, such as {next(iter(wanted))}",
                hint="put the archive there, or unpack it there",
            )
        return packed, unpacked

    def _unpacked(self, archive: str, batch: str, member: str) -> Path | None:
        """The file, in the folders that the table names, or as unzip leaves them."""
        root = self._root
        places = (root / batch / member, root / member, root / archive.removesuffix(".zip") / member)
        return next((path for place in places if (path := self._file(place)) is not None), None)

    def _file(self, path: Path) -> Path | None:
        """The file at a path, or the only one there whose name differs in the case of letters alone."""
        if path.is_file():
            return path
        if path.parent not in self._listings:
            names: dict[str, list[Path]] = {}
            for other in path.parent.iterdir() if path.parent.is_dir() else ():
                names.setdefault(other.name.casefold(), []).append(other)
            self._listings[path.parent] = {name: paths[0] for name, paths in names.items() if len(paths) == 1}
        like = self._listings[path.parent].get(path.name.casefold())
        return like if like is not None and like.is_file() else None


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


def _nothing() -> None:
    pass


def _absent(wanted: Images, reason: str) -> dict[str, str]:
    """The images that are not there, with one reason for all; what is there was whole when it came."""
    return {member: reason for member, target in wanted.items() if not target.is_file()}


def _count(wanted: Images) -> int:
    return sum(target.is_file() for target in wanted.values())


def _copied(path: Path, target: Path, scratch: Path) -> str | None:
    """Copy an image that nothing but its own head speaks for; returns what is wrong with it."""
    try:
        missing = missing_bytes(path)
        if missing:
            return f"is cut off: {missing:,} bytes are missing at its end"
        copy(path, target, scratch)
    except PermissionError as error:
        return f"cannot be read: {error.strerror}"
    return None
