"""precut: crops that a lab has already cut in, the same artifact as a detector would give out."""

from __future__ import annotations

import csv
import json
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.crops import open_crops, write_crops
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_fields, write_table
from cellssl.engine.build import Job, Metrics
from cellssl.errors import UsageError
from cellssl.events import Event, Progress
from cellssl.stages.segment.counts import write_counts
from cellssl.stages.segment.scale import check_reference, scale_table, whole_range

if TYPE_CHECKING:
    import pandas as pd

from cellssl.stages.segment.settings import Settings


def pass_through(job: Job, fetched: Artifact) -> Generator[Event, None, Metrics]:
    """Crops that are already cut: nothing is found, nothing dropped."""
    fields, cells = read_fields(fetched), _cells_of_crops(fetched.file("cells.csv"))
    check_reference(job.settings, fields)
    crops = open_crops(fetched.file("crops.npy"))
    _check_only_scaled(job.settings, crops.shape[-1])
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


def _cells_of_crops(path: Path) -> pd.DataFrame:
    """Their table; a class is a word, also where it looks like a number or like something missing."""
    import pandas as pd

    cells = pd.read_csv(path, dtype={"cell_id": str, "field_id": str})
    if "class" in cells:
        with path.open(newline="", encoding="utf-8") as file:
            cells["class"] = pd.array([row["class"] or None for row in csv.DictReader(file)], dtype="string")
    return cells


def _scale_of_crops(
    settings: Settings, fetched: Artifact, fields: pd.DataFrame, cells: pd.DataFrame
) -> Generator[Event, None, pd.DataFrame]:
    """The scale of crops that are already cut: by percentiles of the control cells, of all, or their whole range."""
    from cellssl.stages.segment.field import greys

    channels = json.loads(fetched.file("channels.json").read_text(encoding="utf-8"))
    plate = fields["plate"].iloc[0]
    if settings.reference == "range":
        return whole_range(fetched, channels, plate)
    crops = open_crops(fetched.file("crops.npy"))
    control = cells["field_id"].isin(fields["field_id"][fields["control"]]).to_numpy()
    counted = np.flatnonzero(control) if settings.reference == "controls" else np.arange(len(cells))
    total: Any = np.int64(0)
    for start in range(0, len(counted), BLOCK):
        rows = counted[start : start + BLOCK]
        total = total + greys(crops[rows].swapaxes(0, 1).reshape(crops.shape[1], -1, crops.shape[3])).astype(np.int64)
        yield Progress(start + len(rows), len(counted), "reference cells")
    return scale_table(settings, total, channels, plate)


def _check_only_scaled(settings: Settings, side_px: int) -> None:
    """Raise UsageError where something is asked of finished crops that only finding nuclei could give."""
    asked = settings.non_default()
    if asked.get("crop_px") == side_px:
        asked.pop("crop_px")
    beyond = [name for name in asked if name not in ("reference", "low_percentile", "high_percentile", "max_failures")]
    if beyond:
        raise UsageError(
            f"segment.{beyond[0]} asks for what crops of {side_px} px that are already cut cannot give",
            hint="leave it out; of [segment] only the intensity scale (reference, percentiles) concerns such crops",
        )


BLOCK = 256
"""Crops moved at a time."""
