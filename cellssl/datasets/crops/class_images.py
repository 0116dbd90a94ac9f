"""class_images: pictures with one class each in -> one plate: its wells are the classes, its crops the pictures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from cellssl.datasets.base import Dataset, Field
from cellssl.datasets.crops.precut import BLOCK, CellRows, write_precut
from cellssl.events import Event

TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class Picture:
    """One picture: its name, its class, its well, and its official part (train, val, test) where there is one."""

    name: str
    class_name: str
    well: str
    part: str | None = None


@dataclass(frozen=True)
class Pictures:
    """The pictures; `read` returns those of a slice as (n, c, y, x), with values from 0 to `max_value`."""

    rows: Sequence[Picture]
    channels: tuple[str, ...]
    shape: tuple[int, int, int]
    max_value: int
    read: Callable[[slice], np.ndarray]


class ClassImageDataset(Dataset):
    """The base class of data sets of pictures with classes: one plate, and a cell table with the column `class`.

    Where the publisher has divided the pictures, the column `official_part` has their part, for `split.split_column`. A
    subclass implements `wells`, `load_pictures` and `identity`.
    """

    gives_crops: ClassVar[bool] = True

    def plate(self) -> str:
        """Return the name of the plate."""
        return self.plugin_name()

    @abstractmethod
    def wells(self) -> Sequence[str]:
        """Return one well for every class of every part; known before any picture is there."""

    @abstractmethod
    def load_pictures(self, scratch: Path) -> Generator[Event, None, Pictures]:
        """Download or find the pictures and return them; `scratch` may hold what an earlier run has downloaded."""

    def plan(self, cache: Path) -> list[Field]:
        """Return one field per well."""
        plate = self.plate()
        return [Field(f"{plate}_{well}_s1", plate, well, 1, {}) for well in sorted(self.wells())]

    def make(self, fields: Sequence[Field], folder: Path) -> Generator[Event, None, dict[str, str]]:
        """Write the pictures as crops, and one row for each."""
        pictures = yield from self.load_pictures(folder / "scratch")
        ids = {field.well: field.field_id for field in fields}
        has_parts = any(picture.part for picture in pictures.rows)
        columns = ["cell_id", "field_id", "class", *(["official_part"] if has_parts else [])]
        rows = [
            (picture.name, ids[picture.well], picture.class_name, *([picture.part] if has_parts else []))
            for picture in pictures.rows
        ]
        starts = range(0, len(rows), BLOCK)
        blocks = (pictures.read(slice(start, start + BLOCK)) for start in starts)
        yield from write_precut(
            folder, CellRows(columns, rows), blocks, pictures.shape, pictures.channels, pictures.max_value
        )
        return {}
