"""folder: images of a folder on this machine, in archives or unpacked, in -> copies of them out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cellssl.datasets.base import Forecast
from cellssl.datasets.transfer.byte_ranges import LocalByteRanges
from cellssl.datasets.transfer.checksums import check_digest, digest_of
from cellssl.datasets.transfer.faults import FaultLog
from cellssl.datasets.transfer.sources import (
    Fetching,
    PlateDestination,
    Targets,
    faults_of_missing,
    forecast_archive,
)
from cellssl.datasets.transfer.threads import run_in_thread
from cellssl.datasets.transfer.tiff_check import missing_bytes
from cellssl.datasets.transfer.zip_directory import BrokenArchiveError, read_directory
from cellssl.datasets.transfer.zip_members import MemberResult, extract_members
from cellssl.disk import raise_fault
from cellssl.errors import DataError, FailedError, UsageError
from cellssl.events import Progress
from cellssl.files import copy

READINGS = 4
"""How often an archive is read whose bytes are wrong in another way each time."""


class FolderSource:
    """A folder of this machine with the official tables, and the archives or the images that were in them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listings: dict[Path, dict[str, Path]] = {}

    def table(self, name: str, cache: Path, *, past_caches: bool = False) -> bytes:
        """Return the bytes of a table; UsageError where the folder does not hold it."""
        path = self._file(self._root / name)
        if path is None:
            raise UsageError(
                f"{self._root} holds no {name}", hint="put the official tables beside the images or archives"
            )
        return path.read_bytes()

    def images(self, archive: str, batch: str, targets: Targets, destination: PlateDestination) -> Fetching[None]:
        """Extract the images from the archive, whose checksums verify them; copy unpacked ones that it lacks."""
        packed, unpacked = self.places(archive, batch, targets)
        faults = {
            member: f"{member} is not in the source folder" for member in targets if not targets[member].is_file()
        }
        if packed is not None:
            if (expected := destination.archives.get(archive)) is not None:
                digest = yield from run_in_thread(partial(digest_of, packed))
                check_digest(archive, digest, expected, destination.record)
            faults = yield from _extract(packed, targets, destination)
        for number, member in enumerate(sorted(set(faults) & set(unpacked)), start=1):
            fault = _copy_image(unpacked[member], targets[member], destination.scratch)
            if fault is None:
                del faults[member]
                yield MemberResult(member)
            else:
                faults[member] = f"{member} {fault}"
            yield Progress(number, len(unpacked), "images", member)
        yield from (MemberResult(member, reason) for member, reason in faults.items())

    def forecast(self, archive: str, batch: str, targets: Targets) -> Forecast:
        """Return the cost, from the directory of the archive and the sizes of unpacked images."""
        packed, unpacked = self.places(archive, batch, targets)
        sizes = {member: path.stat().st_size for member, path in unpacked.items()}
        if packed is None:
            return Forecast(sum(sizes.values()), sum(sizes.values()), len(targets) - len(sizes))
        return forecast_archive(LocalByteRanges(packed), targets, sizes)

    def places(self, archive: str, batch: str, targets: Targets) -> tuple[Path | None, dict[str, Path]]:
        """Return the path of the archive, and member -> path of unpacked images; DataError where there are neither."""
        packed = self._file(self._root / archive)
        unpacked = {member: path for member in targets if (path := self._unpacked(archive, batch, member)) is not None}
        if packed is None and not unpacked:
            raise DataError(
                f"{self._root} holds neither {archive} nor its images, such as {next(iter(targets))}",
                hint="put the archive there, or unpack it there",
            )
        return packed, unpacked

    def _unpacked(self, archive: str, batch: str, member: str) -> Path | None:
        """Return the unpacked file, from the folders that the table names or those that `unzip` makes."""
        root = self._root
        places = (root / batch / member, root / member, root / archive.removesuffix(".zip") / member)
        return next((path for place in places if (path := self._file(place)) is not None), None)

    def _file(self, path: Path) -> Path | None:
        """Return the file at a path, or the only one there whose name differs in the case of letters alone."""
        if path.is_file():
            return path
        if path.parent not in self._listings:
            names: dict[str, list[Path]] = {}
            for other in path.parent.iterdir() if path.parent.is_dir() else ():
                names.setdefault(other.name.casefold(), []).append(other)
            self._listings[path.parent] = {name: paths[0] for name, paths in names.items() if len(paths) == 1}
        like = self._listings[path.parent].get(path.name.casefold())
        return like if like is not None and like.is_file() else None


def absent_members(root: Path, archive: str, batch: str, members: Sequence[str]) -> list[str]:
    """Return the images of a plate that a folder holds neither unpacked nor in an archive that can be read."""
    source, targets = FolderSource(root), {member: Path(member) for member in members}
    try:
        packed, unpacked = source.places(archive, batch, targets)
        directory = read_directory(LocalByteRanges(packed)) if packed else None
    except (DataError, BrokenArchiveError):
        return list(members)
    return [member for member in members if member not in unpacked and not (directory and directory.holds(member))]


def _extract(packed: Path, targets: Targets, destination: PlateDestination) -> Fetching[dict[str, str]]:
    """Extract the images; return member -> reason of those whose bytes were wrong in the same way twice.

    Raises FailedError where they are wrong in another way at every reading.
    """
    log, left, content = FaultLog(), targets, dict[str, str]()
    for _ in range(READINGS):
        ranges = LocalByteRanges(packed)
        try:
            faults = yield from extract_members(ranges, left, destination.scratch, destination.connections)
        except BrokenArchiveError as error:
            faults = faults_of_missing(left, error.fault)
        content |= log.of_content(faults)
        left = {member: targets[member] for member in faults if member not in content}
        if not left:
            return content
        ranges.forget()
    raise FailedError(
        f"{packed} gives other bytes at every reading: {next(iter(faults.values())).reason}",
        hint="its disk, its network file system or the memory changes them: copy it to another disk, and compare",
    )


def _copy_image(path: Path, target: Path, scratch: Path) -> str | None:
    """Copy an image that has no checksum, only a TIFF directory to check it by; return what is wrong with it."""
    try:
        missing = missing_bytes(path)
        if missing:
            return f"is cut off: {missing:,} bytes are missing at its end"
        copy(path, target, scratch)
    except OSError as error:
        raise_fault(error, path)
        if not isinstance(error, PermissionError):
            raise
        return f"cannot be read: {error.strerror}"
    return None
