"""scaled_crops: a segment artifact and chosen cells in, their pixels scaled to 8 bits out, as every model gets them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.contents import input_of, not_as_written
from cellssl.artifacts.crops import in_blocks, open_crops, release_pages
from cellssl.artifacts.hash_cache import HashCache
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_scale
from cellssl.engine.plate_parts import parts_of
from cellssl.errors import DataError, IntegrityError
from cellssl.imaging.scaling import looked_up, lookup_tables

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import UInt8


class ScaledCrops:
    """The crops of the rows of a cell table, read on demand and scaled by the intensity limits of their plate."""

    def __init__(self, parts: Mapping[str, Artifact], scale: pd.DataFrame, cells: pd.DataFrame) -> None:
        """Open the crops.

        `parts` are the plates' segment artifacts by fingerprint; `scale` is the gathered table of their scales, because
        plates may share one; `cells` has the columns part and crop_row.
        """
        if "part" not in cells or not cells["part"].isin(list(parts)).all():
            raise IntegrityError(
                "a table of cells names plate parts that its parts.json does not have",
                hint="make the segment artifact again with --force",
            )
        self._names = sorted(cells["part"].unique())
        self._crops = [open_crops(parts[name].file("crops.npy")) for name in self._names]
        scales = [_of_part(scale, name) for name in self._names]
        self._part = np.searchsorted(self._names, cells["part"].to_numpy().astype(str))
        self._row = cells["crop_row"].to_numpy()
        for number, name in enumerate(self._names):
            _check_fits(parts[name], self._crops[number], scales[number], self._row[self._part == number])
        self._tables = [lookup_tables(scale["low"].to_numpy(), scale["high"].to_numpy()) for scale in scales]
        self.channels = _same_channels([list(scale["channel"]) for scale in scales])
        self.shape = (len(cells), *_same_shape(self._crops))

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: np.ndarray) -> UInt8[np.ndarray, "n c y x"]:
        """Return the crops of these rows of the cell table, in that order."""
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        part = self._part[rows]
        for number in np.unique(part):
            of_part = np.flatnonzero(part == number)
            out[of_part] = looked_up(self._crops[number][self._row[rows[of_part]]], self._tables[number])
        return out

    def read_once(self, rows: np.ndarray) -> UInt8[np.ndarray, "n c y x"]:
        """Return the crops as `read` does, and keep none of the pages they were read from: a plate may be gigabytes."""
        out = self.read(rows)
        for number in np.unique(self._part[rows]):
            release_pages(self._crops[number])
        return out

    def blocks(self, size: int = 256) -> Iterator[UInt8[np.ndarray, "n c y x"]]:
        """Yield all crops in the order of the table, `size` at a time."""
        for rows in in_blocks(np.arange(len(self)), size):
            yield self.read_once(rows)


def scaled_crops(segment: Artifact, store: Store, cells: pd.DataFrame) -> ScaledCrops:
    """Return the crops of some cells of a gathered segment artifact."""
    around = store.with_store_of(segment)
    parts = {part: around.get("segment", part) for _, part in parts_of(segment)}
    _hash_at_once([parts[name] for name in cells["part"].unique()], around.hashes)
    return ScaledCrops(parts, read_scale(segment), cells)


def _hash_at_once(parts: list[Artifact], hashes: HashCache) -> None:
    """Hash the crops of all plates that were not hashed before, in threads and shown; `Artifact.file` compares them."""
    with suppress(DataError):  # `Artifact.file` says what is wrong with which file
        hashes.sha256_of_all(part.path / "crops.npy" for part in parts if not part.plain_fault("crops.npy"))


def common_pixel_um(cells: pd.DataFrame) -> float | None:
    """Return the side of a pixel of the crops, for a scale bar; None where it is unknown or differs between cells."""
    sizes = cells["crop_pixel_um" if "crop_pixel_um" in cells else "pixel_um"].unique()
    return float(sizes[0]) if len(sizes) == 1 and sizes[0] > 0 else None


def upstream_segment(cells: Artifact, store: Store) -> Artifact:
    """Return the segment artifact from which a split was made; a segment artifact is returned itself."""
    if cells.card.kind == "segment":
        return cells
    return store.with_store_of(cells).get("segment", input_of(cells, "segment"))


def _of_part(scale: pd.DataFrame, part: str) -> pd.DataFrame:
    """Return the scale of one plate's part; IntegrityError where the table does not have it."""
    if "part" not in scale or not (is_of_part := scale["part"] == part).any():
        raise IntegrityError(
            f"the table of intensity scales (scale.parquet) has none for the plate part {part}",
            hint="make the segment artifact again with --force",
        )
    return scale[is_of_part]


def _check_fits(part: Artifact, crops: np.ndarray, scale: pd.DataFrame, rows: np.ndarray) -> None:
    """Raise IntegrityError where the tables of a plate's part do not fit its stack of crops."""
    if len(scale) != crops.shape[1]:
        raise not_as_written(
            part, "crops.npy", f"its crops have {crops.shape[1]} channels, and the intensity scale {len(scale)}"
        )
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(crops):
        raise not_as_written(
            part, "cells.parquet", f"it names crops that are not among the {len(crops):,} of crops.npy"
        )
    if min(crops.shape[1:]) < 1 or crops.shape[2] != crops.shape[3]:
        raise not_as_written(part, "crops.npy", f"its crops have the shape {crops.shape[1:]}")


def _same_channels(channels: list[Any]) -> list[str]:
    first: list[str] = channels[0]
    for other in channels[1:]:
        if other != first:
            raise DataError(
                f"plates differ in their channels: {first} and {other}", hint="use the same names in every plate"
            )
    return first


def _same_shape(stacks: list[np.ndarray]) -> tuple[int, ...]:
    shapes = {stack.shape[1:] for stack in stacks}
    if len(shapes) > 1:
        raise DataError(
            f"plates differ in the shape of their crops: {sorted(shapes)}",
            hint="use crops with the same size and number of channels in every plate",
        )
    return stacks[0].shape[1:]
