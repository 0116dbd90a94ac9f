"""class_images: pictures that have a class each in -> a plate whose wells are the classes, its crops ready."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellssl.config.settings import Plugin
from cellssl.datasets.base import Field, Forecast, Value
from cellssl.datasets.crops.precut import BLOCK, Rows, write_ready
from cellssl.events import Event

TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class Picture:
    """One picture: its name, its class, the part that its publisher put it in where there is one, and its well."""

    name: str
    classed: str
    well: str
    part: str | None = None


@dataclass(frozen=True)
class Pictures:
    """All pictures of a data set; `read` gives those of a slice as (n, c, y, x), from 0 to `highest`."""

    rows: Sequence[Picture]
    channels: tuple[str, ...]
    shape: tuple[int, int, int]
    highest: int
    read: Callable[[slice], np.ndarray]


class PictureSettings(Plugin):
    """What is the same for all pictures with classes: they are one plate, and their cell table names the `class`.

    Where the publisher has divided them, the column `official_part` says how, for `split.split_column`.
    """

    def plate(self) -> str:
        """What they are called together."""
        return self.plugin_name()

    @abstractmethod
    def wells(self) -> Sequence[str]:
        """A well for every class, in every part; known before any picture is there."""

    @abstractmethod
    def arrive(self, scratch: Path) -> Generator[Event, None, Pictures]:
        """Bring the pictures, or find them; `scratch` may hold what came before."""

    @abstractmethod
    def identity(self, fields: Sequence[Field], sha256: Callable[[Path], str]) -> dict[str, Value]:
        """What determines the pictures."""

    def external_files(self) -> Mapping[str, Path]:
        """None: what is published does not change."""
        return {}

    def plan(self, cache: Path) -> list[Field]:
        """A field for every well."""
        plate = self.plate()
        return [Field(f"{plate}_{well}_s1", plate, well, 1, {}) for well in sorted(self.wells())]

    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Event, None, dict[str, str]]:
        """Write the pictures as crops, and a row for each."""
        pictures = yield from self.arrive(folder / "scratch")
        ids = {field.well: field.field_id for field in fields}
        divided = any(picture.part for picture in pictures.rows)
        columns = ["cell_id", "field_id", "class", *(["official_part"] if divided else [])]
        cells = [
            (picture.name, ids[picture.well], picture.classed, *([picture.part] if divided else []))
            for picture in pictures.rows
        ]
        starts = range(0, len(cells), BLOCK)
        blocks = (pictures.read(slice(start, start + BLOCK)) for start in starts)
        yield from write_ready(
            folder, Rows(columns, cells), blocks, pictures.shape, pictures.channels, pictures.highest
        )
        return {}

    def forecast(self, fields: Sequence[Field], folder: Path) -> Forecast:
        """What is on this machine costs nothing."""
        return Forecast(0, None, 0)

    def tables(self, fields: Sequence[Field], cache: Path) -> dict[str, str]:
        """None: the cell table holds what is known."""
        return {}
