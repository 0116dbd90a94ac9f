"""folder: images of a local folder or unpacked archive in, copies of them out."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cellssl.datasets.base import Forecast
from cellssl.datasets.transfer.byte_ranges import LocalPieces
from cellssl.datasets.transfer.checksums import check, digest_of
from cellssl.datasets.transfer.sources import Bench, Bringing, Images, absent_file, of_archive
from cellssl.datasets.transfer.threads import attending
from cellssl.datasets.transfer.tiff_check import missing_bytes
from cellssl.datasets.transfer.zip_directory import (
    BrokenArchiveError,
)
from cellssl.datasets.transfer.zip_members import Taken, brought
from cellssl.errors import DataError, UsageError
from cellssl.events import Progress
from cellssl.files import copy


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
                faulty = absent_file(wanted, str(error))
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
