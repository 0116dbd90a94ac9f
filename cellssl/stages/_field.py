"""_field: the images of one field in, its cells (table, crops, counts, grey values) as one file out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellssl.artifacts.atomic import replacing, write_text
from cellssl.artifacts.hashing import sha256_of
from cellssl.artifacts.images import read_channel, read_labels, write_labels
from cellssl.errors import DataError, IntegrityError
from cellssl.imaging import cutting, masks


@dataclass(frozen=True)
class FieldTask:
    """Everything that a worker needs for one field; `images` and their sha256 in the order of the channels."""

    field_id: str
    images: tuple[Path, ...]
    hashes: tuple[str, ...]
    nucleus: int
    pixel_um: float | None
    count_greys: bool
    result: Path
    labels: Path | None = None
    truth: Path | None = None
    phenotypes: dict[int, str] = field(default_factory=dict)


def segment_field(task: FieldTask, settings: Any) -> None:
    """Find, keep and cut the nuclei of one field; a fault of its content is written down as `.failed.json`."""
    try:
        pixels = read_field(task)
    except DataError as error:
        write_text(failed_path(task.result), json.dumps({"field_id": task.field_id, "reason": error.message}))
        return
    found = settings.method.find(pixels[task.nucleus], task.pixel_um)
    window_px = settings.crop_px if settings.border == "drop" else None
    kept = masks.keep(found, settings.min_area_px, settings.max_area_px, window_px)
    nuclei = masks.measure(kept.labels)
    everyone = masks.measure(found).centres
    if task.labels is not None:
        write_labels(task.labels, kept.labels)
    contents: dict[str, Any] = {
        "row_px": nuclei.row_px,
        "column_px": nuclei.column_px,
        "area_px": nuclei.area_px,
        "eccentricity": nuclei.eccentricity,
        "neighbours": neighbours(nuclei.centres, everyone, settings.crop_px / 2),
        "crops": cutting.cut(pixels, nuclei.centres, settings.crop_px, settings.border),
        "counts": np.array([kept.counts[name] for name in COUNTS]),
    }
    if task.truth is not None:
        contents["true_label"] = masks.match(kept.labels, read_labels(task.truth))
    if task.count_greys:
        contents["greys"] = greys(pixels)
    with replacing(task.result) as beside, beside.open("wb") as file:
        np.savez(file, **contents)


COUNTS = ("detected", *masks.REASONS, "kept")


def failed_path(result: Path) -> Path:
    """Where a worker says why a field gave no cells."""
    return result.with_suffix(".failed.json")


def read_field(task: FieldTask) -> np.ndarray:
    """All channels of a field, (c, y, x) uint16.

    Raises DataError, for quarantine, where an image cannot be decoded or they are not of one size; IntegrityError where
    one is no longer the file that was fetched.
    """
    _check_unchanged(task)
    channels = [read_channel(path) for path in task.images]
    shapes = {channel.shape for channel in channels}
    if len(shapes) > 1:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(shapes))
        raise DataError(f"the channels of field {task.field_id} differ in size: {sizes}")
    return np.stack(channels)


def _check_unchanged(task: FieldTask) -> None:
    for path, sha256 in zip(task.images, task.hashes, strict=True):
        if not path.is_file() or sha256_of(path) != sha256:
            raise IntegrityError(
                f"{path} is missing or is not the file that was fetched", hint="fetch its plate again with --force"
            )


def neighbours(centres: np.ndarray, everyone: np.ndarray, radius_px: float) -> np.ndarray:
    """How many other nuclei, kept or not, have their centre within `radius_px` of each kept one."""
    if len(centres) == 0:
        return np.zeros(0, np.int64)
    from scipy.spatial import cKDTree

    counted: np.ndarray = cKDTree(everyone).query_ball_point(centres, radius_px, return_length=True)
    return counted.astype(np.int64) - 1


def greys(pixels: np.ndarray) -> np.ndarray:
    """How often each grey value occurs, per channel, (c, 65536)."""
    from cellssl.imaging.scaling import Histogram

    histogram = Histogram.empty(len(pixels))
    histogram.add(pixels)
    return histogram.counts.astype(np.uint32)
