"""scaled_crops: a segment artifact and chosen cells in, their pixels scaled to 8 bits out; how every model sees a cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.crops import in_blocks, open_crops
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_table
from cellssl.engine.plate_parts import parts_of
from cellssl.errors import DataError
from cellssl.imaging.scaling import scaled

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import UInt8


class ScaledCrops:
    """The crops of a cell table's rows; pixels are read when asked for, and scaled by their plate's limits."""

    def __init__(self, parts: Mapping[str, Artifact], cells: pd.DataFrame) -> None:
        """`parts` are the plates' segment artifacts by fingerprint; `cells` has the columns part and crop_row."""
        self._names = sorted(cells["part"].unique())
        self._crops = [open_crops(parts[name].file("crops.npy")) for name in self._names]
        scales = [read_table(parts[name].file("scale.parquet")) for name in self._names]
        self._limits = [(scale["low"].to_numpy(), scale["high"].to_numpy()) for scale in scales]
        self._part = np.searchsorted(self._names, cells["part"].to_numpy().astype(str))
        self._row = cells["crop_row"].to_numpy()
        self.channels = _same_channels([list(scale["channel"]) for scale in scales])
        self.shape = (len(cells), *_same_shape(self._crops))

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, rows: np.ndarray) -> UInt8[np.ndarray, "n c y x"]:
        """The crops of these rows of the cell table, in that order."""
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for number, (crops, (low, high)) in enumerate(zip(self._crops, self._limits, strict=True)):
            here = np.flatnonzero(self._part[rows] == number)
            if len(here):
                out[here] = scaled(crops[self._row[rows[here]]], low, high)
        return out

    def blocks(self, size: int = 256) -> Iterator[UInt8[np.ndarray, "n c y x"]]:
        """All crops in the order of the table, `size` at a time."""
        for rows in in_blocks(np.arange(len(self)), size):
            yield self.read(rows)


def scaled_crops(segment: Artifact, store: Store, cells: pd.DataFrame) -> ScaledCrops:
    """The crops of some cells of a gathered segment artifact."""
    around = store.with_store_of(segment)
    parts = {part: around.get("segment", part) for _, part in parts_of(segment)}
    return ScaledCrops(parts, cells)


def common_pixel_um(cells: pd.DataFrame) -> float | None:
    """Side of a pixel, for a scale bar; None where it is not known, or not the same in all cells."""
    sizes = cells["pixel_um"].unique()
    return float(sizes[0]) if len(sizes) == 1 and sizes[0] > 0 else None


def segment_below(cells: Artifact, store: Store) -> Artifact:
    """The segment artifact that a segment or split artifact stands on."""
    if cells.card.kind == "segment":
        return cells
    return store.with_store_of(cells).get("segment", cells.card.inputs["segment"])


def _same_channels(channels: list[Any]) -> list[str]:
    first: list[str] = channels[0]
    for other in channels[1:]:
        if other != first:
            raise DataError(
                f"plates differ in their channels: {first} and {other}", hint="name them alike in every plate"
            )
    return first


def _same_shape(stacks: list[np.ndarray]) -> tuple[int, ...]:
    shapes = {stack.shape[1:] for stack in stacks}
    if len(shapes) > 1:
        raise DataError(f"plates differ in the shape of their crops: {sorted(shapes)}", hint="cut them alike")
    return stacks[0].shape[1:]
