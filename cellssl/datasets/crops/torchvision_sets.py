"""torchvision_sets: a data set that torchvision knows in -> its pictures, downloaded or from a folder, and verified."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field as Knob

from cellssl.config.paths import InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT
from cellssl.datasets.base import Field, Forecast, Value
from cellssl.datasets.crops.class_images import TEST, TRAIN, Picture, Pictures, PictureSettings
from cellssl.errors import DataError, IntegrityError, NetworkError
from cellssl.events import Event, Note, Progress
from cellssl.files import copy


@dataclass(frozen=True)
class PublishedFile:
    """A file as its publisher gives it out; the addresses are tried in their order."""

    name: str
    md5: str
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """What torchvision knows of a data set: its reader, its files, and where below a root the reader wants them."""

    reader: Any
    files: tuple[PublishedFile, ...]
    place: str = ""


class PublishedSettings(PictureSettings):
    """What is the same for data sets of the literature: the publisher's checksums say what they are, wherever from."""

    folder: InputPath | None = Knob(None, json_schema_extra=NOT_IN_FINGERPRINT)
    """A folder that holds the publisher's files, or torchvision's own; downloaded where nothing is given."""
    tries: int = Knob(4, ge=1, le=100, json_schema_extra=NOT_IN_FINGERPRINT)
    """How often a server is asked that gives nothing new."""
    timeout_s: float = Knob(20.0, gt=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Seconds without a byte after which an answer counts as broken off."""

    @abstractmethod
    def published(self) -> Published:
        """What torchvision knows of it."""

    @abstractmethod
    def class_count(self) -> int:
        """Number of classes."""

    @abstractmethod
    def download_bytes(self) -> int:
        """What a download moves."""

    def wells(self) -> Sequence[str]:
        """A well for every class of either part, by the number of the class."""
        return [
            _well(part, number, self.class_count()) for part in (TRAIN, TEST) for number in range(self.class_count())
        ]

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """Its name: only files with the publisher's checksums are taken, so there is but one of it."""
        return {"published": self.plugin_name()}

    def forecast(self, fields: Sequence[Field], folder: Path) -> Forecast:
        """The size of the publisher's files."""
        return Forecast(0 if self.folder else self.download_bytes(), None, 0)

    def arrive(self, scratch: Path) -> Generator[Event, None, Pictures]:
        """Bring or find the files, verify them, and let torchvision read them.

        Raises NetworkError where they cannot be downloaded, DataError where the folder lacks one, IntegrityError where
        one is not what its publisher says.
        """
        from torchvision.datasets.utils import extract_archive

        published = self.published()
        place = scratch / published.place
        for file in published.files:
            archive = place / file.name
            if not archive.is_file():
                yield from self._bring(file, published.place, archive, scratch)
            yield Progress(0, len(published.files), "files", f"unpacking {file.name}")
            extract_archive(str(archive), str(place))
        read = {part: published.reader(str(scratch), train=part == TRAIN) for part in (TRAIN, TEST)}
        return self._pictures(read)

    def _bring(self, file: PublishedFile, place: str, archive: Path, scratch: Path) -> Generator[Event, None, None]:
        arrived = scratch / f"{file.name}.arrived"
        if self.folder:
            copy(_found(file, self.folder, place), arrived, scratch)
        else:
            yield from self._download(file, arrived)
        _check(file, arrived, self.folder)
        archive.parent.mkdir(parents=True, exist_ok=True)
        arrived.replace(archive)

    def _download(self, file: PublishedFile, arrived: Path) -> Generator[Event, None, None]:
        from cellssl.datasets.transfer.download import download
        from cellssl.datasets.transfer.http import Patience

        last = len(file.addresses) - 1
        for number, address in enumerate(file.addresses):
            try:
                yield from download(address, arrived, Patience(self.tries, self.timeout_s), proves_itself=True)
                return
            except NetworkError as error:
                if number == last:
                    names = ", ".join(one.name for one in self.published().files)
                    raise NetworkError(
                        error.message,
                        hint=f"run it again when there is a network, or bring {names} here by other ways and name "
                        f'their folder: fetch.dataset = {{ name = "{self.plugin_name()}", folder = "…" }}',
                    ) from error
                yield Note(f"{error.message}; trying {file.addresses[number + 1]}")

    def _pictures(self, read: dict[str, Any]) -> Pictures:
        pixels = np.concatenate([_channels_first(np.asarray(one.data)) for one in read.values()])
        rows = [
            Picture(
                f"{self.plate()}_{part}_{row:05d}",
                self.class_name(one, int(number)),
                _well(part, int(number), self.class_count()),
                part,
            )
            for part, one in read.items()
            for row, number in enumerate(one.targets)
        ]
        channels = ("ink",) if pixels.shape[1] == 1 else ("red", "green", "blue")
        _, *shape = pixels.shape
        return Pictures(rows, channels, tuple(shape), 255, lambda some: pixels[some])

    def class_name(self, read: Any, number: int) -> str:
        """What its publisher calls a class."""
        return str(read.classes[number])


def _well(part: str, number: int, classes: int) -> str:
    return f"{part}-{number:0{len(str(classes - 1))}d}"


def _channels_first(pixels: np.ndarray) -> np.ndarray:
    """(n, y, x) or (n, y, x, c) as (n, c, y, x)."""
    return pixels[:, None] if pixels.ndim == 3 else np.moveaxis(pixels, 3, 1)


def _found(file: PublishedFile, folder: Path, place: str) -> Path:
    """Where a file lies in the user's folder: right there, or where torchvision keeps it."""
    for there in (folder / file.name, folder / place / file.name):
        if there.is_file():
            return there
    raise DataError(
        f"{folder} does not hold {file.name}",
        hint=f"put the publisher's file there under this name, unchanged: {file.addresses[0]}",
    )


def _check(file: PublishedFile, arrived: Path, folder: Path | None) -> None:
    """Raise IntegrityError, and forget the file, where it is another than its publisher says."""
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(str(arrived), file.md5):
        arrived.unlink()
        whence = f"in {folder}" if folder else "that came"
        raise IntegrityError(
            f"the {file.name} {whence} is not the published one: its md5 is not {file.md5}",
            hint="bring it anew; pictures of your own are read by the data set image_folder",
        )
