"""torchvision_sets: a data set that torchvision reads in -> its pictures, downloaded or from a folder, and verified."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field as Setting

from cellssl.config.paths import InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT
from cellssl.datasets.base import Field, Forecast, Value
from cellssl.datasets.crops.class_images import TEST, TRAIN, ClassImageDataset, Picture, Pictures
from cellssl.errors import DataError, IntegrityError, NetworkError
from cellssl.events import Event, Note, Progress
from cellssl.files import copy


class TorchvisionPart(Protocol):
    """The attributes of a torchvision data set that are used here, of its training or its test part."""

    data: ArrayLike
    """The pictures, (n, y, x) or (n, y, x, c)."""
    targets: Sequence[int]
    """The number of the class of every picture."""
    classes: Sequence[str]
    """The names of the classes."""


@dataclass(frozen=True)
class PublishedFile:
    """A file as its publisher provides it; the addresses are tried in their order."""

    name: str
    md5: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """What torchvision knows about a data set: its class, its files, and the subfolder in which the class expects them.

    `reader` is called as `reader(root, train=True or False)`.
    """

    reader: Callable[..., TorchvisionPart]
    files: tuple[PublishedFile, ...]
    subfolder: str = ""


class TorchvisionDataset(ClassImageDataset):
    """The base class of benchmark data sets; files from any place are verified by the publisher's checksums.

    A subclass implements `published`, `class_count` and `download_bytes`.
    """

    folder: InputPath | None = Setting(None, json_schema_extra=NOT_IN_FINGERPRINT)
    """A folder with the publisher's files, or torchvision's own folder; if not given, the files are downloaded."""
    tries: int = Setting(4, ge=1, le=100, json_schema_extra=NOT_IN_FINGERPRINT)
    """How often a server that sends nothing new is asked before the fetch fails."""
    timeout_s: float = Setting(20.0, gt=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Seconds without a byte after which a connection counts as broken."""

    @abstractmethod
    def published(self) -> Published:
        """Return what torchvision knows about the data set."""

    @abstractmethod
    def class_count(self) -> int:
        """Return the number of classes."""

    @abstractmethod
    def download_bytes(self) -> int:
        """Return the size of a download in bytes."""

    def wells(self) -> Sequence[str]:
        """Return one well for every class of either part, named by the number of the class."""
        return [
            _well(part, number, self.class_count()) for part in (TRAIN, TEST) for number in range(self.class_count())
        ]

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """Return the name: only files with the publisher's checksums are accepted, so there is only one such set."""
        return {"published": self.plugin_name()}

    def forecast(self, fields: Sequence[Field], folder: Path) -> Forecast:
        """Return the size of the publisher's files, unless they lie in a folder here."""
        return Forecast(0 if self.folder else self.download_bytes(), None, 0)

    def load_pictures(self, scratch: Path) -> Generator[Event, None, Pictures]:
        """Download or find the files, verify them, and let torchvision read them.

        Raises NetworkError where they cannot be downloaded, DataError where the folder lacks one, IntegrityError where
        a file is not the published one.
        """
        from torchvision.datasets.utils import extract_archive

        published = self.published()
        subfolder = scratch / published.subfolder
        for file in published.files:
            archive = subfolder / file.name
            if not archive.is_file():
                yield from self._get_file(file, published.subfolder, archive, scratch)
            yield Progress(0, len(published.files), "files", f"unpacking {file.name}")
            extract_archive(str(archive), str(subfolder))
        parts = {part: published.reader(str(scratch), train=part == TRAIN) for part in (TRAIN, TEST)}
        return self._pictures(parts)

    def _get_file(
        self, file: PublishedFile, subfolder: str, archive: Path, scratch: Path
    ) -> Generator[Event, None, None]:
        unverified = scratch / f"{file.name}.arrived"
        if self.folder:
            copy(_find(file, self.folder, subfolder), unverified, scratch)
            _check(file, unverified, self.folder)
        else:
            yield from self._download_verified(file, unverified)
        archive.parent.mkdir(parents=True, exist_ok=True)
        unverified.replace(archive)

    def _download_verified(self, file: PublishedFile, target: Path) -> Generator[Event, None, None]:
        """Download a file, and again where it is not the published one: it may have been damaged on the way.

        Raises IntegrityError where the same other bytes came twice, NetworkError where they differ every time.
        """
        from cellssl.datasets.transfer.checksums import Digest, digest_of
        from cellssl.datasets.transfer.faults import readings_allowed

        seen: set[Digest] = set()
        for _ in range(readings_allowed(self.tries)):
            yield from self._download(file, target, past_caches=bool(seen))
            came = digest_of(target)
            try:
                return _check(file, target, None)
            except IntegrityError:
                if came in seen:
                    raise
                seen.add(came)
        raise NetworkError(
            f"{file.name} has other bytes at every download, and never those of the publisher",
            hint="something on the way changes them: run the same command again later",
        )

    def _download(self, file: PublishedFile, target: Path, *, past_caches: bool) -> Generator[Event, None, None]:
        """Download a file from the first of its addresses that answers."""
        from cellssl.datasets.transfer.download import download
        from cellssl.datasets.transfer.http import RetryPolicy

        last = len(file.addresses) - 1
        for number, address in enumerate(file.addresses):
            try:
                policy = RetryPolicy(self.tries, timeout_s=self.timeout_s)
                yield from download(address, target, policy, verified_by_caller=True, past_caches=past_caches)
                return
            except NetworkError as error:
                if number == last:
                    names = ", ".join(one.name for one in self.published().files)
                    raise NetworkError(
                        error.message,
                        hint=f"run the same command again when the network works, or get {names} by other means and "
                        f'give their folder: fetch.dataset = {{ name = "{self.plugin_name()}", folder = "…" }}',
                    ) from error
                yield Note(f"{error.message}; trying {file.addresses[number + 1]}")

    def _pictures(self, parts: Mapping[str, TorchvisionPart]) -> Pictures:
        pixels = np.concatenate([_channels_first(np.asarray(part.data)) for part in parts.values()])
        rows = [
            Picture(
                f"{self.plate()}_{name}_{row:05d}",
                self.class_name(part, int(number)),
                _well(name, int(number), self.class_count()),
                name,
            )
            for name, part in parts.items()
            for row, number in enumerate(part.targets)
        ]
        channels = ("ink",) if pixels.shape[1] == 1 else ("red", "green", "blue")
        _, *shape = pixels.shape
        return Pictures(rows, channels, tuple(shape), 255, lambda some: pixels[some])

    def class_name(self, part: TorchvisionPart, number: int) -> str:
        """Return the publisher's name of a class."""
        return str(part.classes[number])


def _well(part: str, number: int, classes: int) -> str:
    return f"{part}-{number:0{len(str(classes - 1))}d}"


def _channels_first(pixels: np.ndarray) -> np.ndarray:
    """Return (n, y, x) or (n, y, x, c) as (n, c, y, x)."""
    return pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, 3, 1)


def _find(file: PublishedFile, folder: Path, subfolder: str) -> Path:
    """Return the path of a file in the user's folder: directly in it, or where torchvision keeps it."""
    for path in (folder / file.name, folder / subfolder / file.name):
        if path.is_file():
            return path
    raise DataError(
        f"{folder} does not hold {file.name}",
        hint=f"put the publisher's file there under this name, unchanged: {file.addresses[0]}",
    )


def _check(file: PublishedFile, path: Path, folder: Path | None) -> None:
    """Raise IntegrityError, and remove the file, where it is not the published one."""
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(str(path), file.md5):
        path.unlink()
        where = f"in {folder}" if folder else "that was downloaded"
        raise IntegrityError(
            f"the {file.name} {where} is not the published one: its md5 is not {file.md5}",
            hint="download it again; pictures of your own are read by the data set image_folder",
        )
