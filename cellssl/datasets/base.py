"""base: what a data set says about one field of view; the row of the field table before it lies on disk."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cellssl.events import Event

Value = str | int | float | None


@dataclass(frozen=True)
class Field:
    """One field of view of one plate.

    `images` maps a channel to a file: relative to the folder of the plate's artifact, or absolute for images that stay
    where they are. `dose_micromolar` is 0 for controls, None where unknown; `extra` holds further columns.
    """

    field_id: str
    plate: str
    well: str
    site: int
    images: dict[str, str]
    batch: str | None = None
    compound: str | None = None
    dose_micromolar: float | None = None
    moa: str | None = None
    pixel_um: float | None = None
    extra: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class Forecast:
    """What it will cost to bring images.

    `moved_bytes` come over the network or are copied, `disk_bytes` they take once they are there; None where that is
    not known beforehand. `absent` images are not where they should come from. `whole_archive` says that more must be
    moved than is wanted, because the server gives no parts of files.
    """

    moved_bytes: int | None
    disk_bytes: int | None
    absent: int
    whole_archive: bool = False


class Dataset(Protocol):
    """What the settings of every file in this room can do."""

    def external_files(self) -> Mapping[str, Path]:
        """Files of the user whose bytes are part of the result, by their role: tables, stacks, images."""

    def plan(self, cache: Path) -> list[Field]:
        """All fields that the settings select, sorted by plate, well and site; reads tables only, and no pixels.

        `cache` is a folder for tables that must be downloaded before any plate is known; it may vanish at any time.
        """

    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """What, besides the fields' rows, determines the pixels of one plate: a simulator's settings, a stack's hash.

        `sha256` gives the hash of a file, and remembers it.
        """

    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Event, None, dict[str, str]]:
        """Put the images of one plate's fields into `folder`; a file already there and whole is not made again.

        Returns the reason, by field_id, for every field whose images could not be had. What lies in `folder/scratch`
        is removed when the plate is finished. A `record.csv` lists the images with their checksums where they came
        from elsewhere; an `archives.csv` those of archives that came as a whole, which is no part of the result.
        """

    def forecast(self, fields: Sequence[Field], folder: Path) -> Forecast:
        """What `make` will cost, before it moves anything but directories of archives."""

    def tables(self, fields: Sequence[Field], cache: Path) -> dict[str, str]:
        """Tables that go with all fields, as text by file name, such as the official CSVs."""
