"""precut: finished crops of a data set in, the same artifact as segmentation makes out."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.contents import not_as_written, read_json_of
from cellssl.artifacts.crops import open_crops, release_pages, write_crops
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import ID, KEY, SHAPE, check_columns, explained, read_csv, read_fields, write_table
from cellssl.engine.build import Job, Metrics
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Note, Progress
from cellssl.imaging.cell_brightness import CellBrightness, brightness_in_crops
from cellssl.imaging.scaling import Histogram
from cellssl.stages.segment.brightness import LEVELS, OF_CELLS_FILE, with_control, with_levels
from cellssl.stages.segment.counts import write_counts
from cellssl.stages.segment.scale import (
    check_reference,
    constant_channels,
    scale_of_cells,
    scale_of_pixels,
    whole_range,
)

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Settings

STACK_ROW = "stack_row"
BLOCK = 256
"""Number of crops that are copied at a time."""


def copy_crops(job: Job, fetched: Artifact) -> Generator[Event, None, Metrics]:
    """Copy the finished crops of a data set: no nucleus is segmented and none is dropped."""
    fields, cells = read_fields(fetched), _cells_of_crops(fetched)
    check_reference(job.settings, fields)
    crops = open_crops(fetched.file("crops.npy"))
    if len(cells) != len(crops):
        raise not_as_written(fetched, "cells.csv", f"it has {len(cells):,} rows for {len(crops):,} crops")
    _check_precut(job.settings, crops.shape[-1])
    channels, plate = read_json_of(fetched, "channels.json", list[str]), fields["plate"].iloc[0]
    _check_channels(fetched, channels, crops)
    known = with_control(cells[["cell_id", "field_id"]], fields)
    scale = yield from _scale_of_crops(job, fetched, channels, plate, known)
    survey = _Survey()
    blocks = (crops[start : start + BLOCK] for start in range(0, len(crops), BLOCK))
    write_crops(job.draft.file("crops.npy"), map(survey.add, blocks), crops.shape)
    cells["crop_row"] = np.arange(len(cells))
    write_table(cells, job.draft.file("cells.parquet"))
    write_table(fields, job.draft.file("fields.parquet"))
    write_table(scale, job.draft.file("scale.parquet"))
    constant = constant_channels(scale)
    counts = {"fields": len(fields), "quarantined": 0, "detected": len(cells), "kept": len(cells)}
    counts |= survey.counts() | ({"constant_channels": len(constant)} if constant else {})
    write_counts(job, counts)
    yield from map(Note, [*constant, *(f"plate {plate}: {sentence}" for sentence in crop_cautions(counts))])
    return counts


def crop_cautions(counts: Mapping[str, int]) -> list[str]:
    """Return a sentence where crops are empty, and one where they are copies of others."""
    empty, copied = counts.get("empty_crops", 0), counts.get("copied_crops", 0)
    found = [f"{empty:,} of {counts['kept']:,} crops are empty: all pixels of each channel are equal"] if empty else []
    if copied:
        found.append(f"{copied:,} of {counts['kept']:,} crops are copies of another crop of the plate")
    return found


class _Survey:
    """What is noticed about crops while they are copied."""

    def __init__(self) -> None:
        self._crops, self._empty = 0, 0
        self._digests: set[bytes] = set()

    def add(self, block: np.ndarray) -> np.ndarray:
        """Look at some crops (n, c, y, x), and return them."""
        pixels = block.reshape(*block.shape[:2], -1)
        self._crops += len(block)
        self._empty += int((pixels.min(axis=2) == pixels.max(axis=2)).all(axis=1).sum())
        self._digests.update(hashlib.blake2b(crop, digest_size=16).digest() for crop in np.ascontiguousarray(block))
        return block

    def counts(self) -> dict[str, int]:
        """Return the numbers of empty crops and of copies, where there are any."""
        found = {"empty_crops": self._empty, "copied_crops": self._crops - len(self._digests)}
        return {name: count for name, count in found.items() if count}


def _cells_of_crops(fetched: Artifact) -> pd.DataFrame:
    """Read the table of the crops: measurements as numbers, and all other columns as the text that stands there.

    Raises DataError where a measurement is not a number, IntegrityError where it is no table of cells.
    """
    import pandas as pd

    path = fetched.file("cells.csv")
    with explained(path):
        cells = read_csv(path)
        check_columns(cells, {"cell_id": ID, "field_id": KEY})
    for name in ("row_px", "column_px", *SHAPE, STACK_ROW):
        if name not in cells:
            continue
        numbers = pd.to_numeric(cells[name].astype(object), errors="coerce")
        if (wrong := (numbers.isna() & cells[name].notna()).to_numpy(bool)).any():
            row = int(wrong.argmax())
            raise DataError(
                f"the kept column {name!r} holds {cells[name].iloc[row]!r} for the cell {cells['cell_id'].iloc[row]}; "
                "a column of this name is a measurement of nuclei",
                hint="write numbers, rename the column, or leave it out of fetch.dataset.keep",
            )
        cells[name] = numbers
    return cells


def _check_channels(fetched: Artifact, channels: list[str], crops: np.ndarray) -> None:
    """Raise IntegrityError where the names of the channels do not fit the crops."""
    if len(channels) != crops.shape[1]:
        raise not_as_written(fetched, "channels.json", f"it has {len(channels)} channels, the crops {crops.shape[1]}")


def _scale_of_crops(
    job: Job, fetched: Artifact, channels: list[str], plate: str, cells: pd.DataFrame
) -> Generator[Event, None, pd.DataFrame]:
    """Return the scale of the crops: from their cells, from percentiles of their pixels, or from the whole range.

    `cells` are all crops, and say which are controls; where cells set the scale, their brightness is written.
    """
    settings, crops = job.settings, open_crops(fetched.file("crops.npy"))
    if settings.reference == "range":
        return whole_range(fetched, channels, plate)
    if settings.scale.of == "cells":
        levels = yield from _brightness_of_crops(crops)
        table = with_levels(cells, levels, channels)
        write_table(table, job.draft.file(OF_CELLS_FILE))
        return scale_of_cells(settings, {plate: table}, channels, plate)
    reference = np.flatnonzero(cells["control"]) if settings.reference == "controls" else np.arange(len(cells))
    histogram = Histogram.empty(len(channels))
    for start in range(0, len(reference), BLOCK):
        rows = reference[start : start + BLOCK]
        pixels = crops[rows].swapaxes(0, 1).reshape(crops.shape[1], -1, crops.shape[3])
        histogram.add(pixels)
        yield Progress(start + len(rows), len(reference), "reference cells")
    return scale_of_pixels(settings, histogram.counts, channels, plate, len(reference))


def _brightness_of_crops(crops: np.ndarray) -> Generator[Event, None, CellBrightness]:
    """Measure how bright the cells of all crops are."""
    blocks = []
    for start in range(0, len(crops), BLOCK):
        blocks.append(brightness_in_crops(crops[start : start + BLOCK]))
        release_pages(crops)
        yield Progress(min(start + BLOCK, len(crops)), len(crops), "brightness of cells")
    return CellBrightness(*(np.concatenate([getattr(one, level) for one in blocks]) for level in LEVELS))


def _check_precut(settings: Settings, side_px: int) -> None:
    """Raise UsageError where a setting is given that works only with segmentation."""
    given = settings.non_default()
    if given.get("crop_px") == side_px:
        given.pop("crop_px")
    usable = ("reference", "scale", "max_failures")
    unusable = [name for name in given if name not in usable]
    if unusable:
        raise UsageError(
            f"segment.{unusable[0]} cannot be applied: the data set holds finished crops of {side_px} px",
            hint="leave it out; finished crops use only the intensity scale of [segment] (reference and scale)",
        )
