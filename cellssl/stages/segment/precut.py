"""precut: finished crops of a data set in, the same artifact as segmentation makes out."""

from __future__ import annotations

import csv
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.contents import not_as_written, read_json_of
from cellssl.artifacts.crops import open_crops, write_crops
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import ID, KEY, check_columns, explained, read_fields, write_table
from cellssl.engine.build import Job, Metrics
from cellssl.errors import UsageError
from cellssl.events import Event, Progress
from cellssl.stages.segment.counts import write_counts
from cellssl.stages.segment.scale import check_reference, scale_table, whole_range

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Settings

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
    scale = yield from _scale_of_crops(job.settings, fetched, fields, cells)
    blocks = (crops[start : start + BLOCK] for start in range(0, len(crops), BLOCK))
    write_crops(job.draft.file("crops.npy"), blocks, crops.shape)
    cells["crop_row"] = np.arange(len(cells))
    write_table(cells, job.draft.file("cells.parquet"))
    write_table(fields, job.draft.file("fields.parquet"))
    write_table(scale, job.draft.file("scale.parquet"))
    counts = {"fields": len(fields), "quarantined": 0, "detected": len(cells), "kept": len(cells)}
    write_counts(job, counts)
    return counts


def _cells_of_crops(fetched: Artifact) -> pd.DataFrame:
    """Read the table of the crops; a class is text, even where it looks like a number or a missing value."""
    import pandas as pd

    path = fetched.file("cells.csv")
    with explained(path):
        cells = pd.read_csv(path, dtype={"cell_id": str, "field_id": str})
        if "class" in cells:
            with path.open(newline="", encoding="utf-8") as file:
                cells["class"] = pd.array([row["class"] or None for row in csv.DictReader(file)], dtype="string")
        check_columns(cells, {"cell_id": ID, "field_id": KEY})
    return cells


def _scale_of_crops(
    settings: Settings, fetched: Artifact, fields: pd.DataFrame, cells: pd.DataFrame
) -> Generator[Event, None, pd.DataFrame]:
    """Return the scale of the crops: from percentiles of the control cells or of all cells, or from the whole range."""
    from cellssl.stages.segment.field import intensity_histogram

    channels = read_json_of(fetched, "channels.json", list[str])
    crops = open_crops(fetched.file("crops.npy"))
    if len(channels) != crops.shape[1]:
        raise not_as_written(fetched, "channels.json", f"it has {len(channels)} channels, the crops {crops.shape[1]}")
    plate = fields["plate"].iloc[0]
    if settings.reference == "range":
        return whole_range(fetched, channels, plate)
    control = cells["field_id"].isin(fields["field_id"][fields["control"]]).to_numpy()
    reference = np.flatnonzero(control) if settings.reference == "controls" else np.arange(len(cells))
    total: Any = np.int64(0)
    for start in range(0, len(reference), BLOCK):
        rows = reference[start : start + BLOCK]
        pixels = crops[rows].swapaxes(0, 1).reshape(crops.shape[1], -1, crops.shape[3])
        total = total + intensity_histogram(pixels).astype(np.int64)
        yield Progress(start + len(rows), len(reference), "reference cells")
    return scale_table(settings, total, channels, plate)


def _check_precut(settings: Settings, side_px: int) -> None:
    """Raise UsageError where a setting is given that works only with segmentation."""
    given = settings.non_default()
    if given.get("crop_px") == side_px:
        given.pop("crop_px")
    usable = ("reference", "low_percentile", "high_percentile", "max_failures")
    unusable = [name for name in given if name not in usable]
    if unusable:
        raise UsageError(
            f"segment.{unusable[0]} cannot be applied: the data set holds finished crops of {side_px} px",
            hint="leave it out; finished crops use only the intensity scale of [segment] (reference, percentiles)",
        )
