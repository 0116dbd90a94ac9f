"""field: the images of one field in, its nuclei (table, grey values) as one file out, and later their crops."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cellssl.artifacts.crops import write_rows
from cellssl.artifacts.hashing import sha256_of
from cellssl.artifacts.images import read_channel, read_labels, write_labels
from cellssl.errors import DataError, IntegrityError
from cellssl.files import atomic_path, write_text
from cellssl.imaging import cropping, illumination, selection
from cellssl.imaging.cropping import Border
from cellssl.imaging.labels import match_labels, measure, relabel, select_labels
from cellssl.imaging.quality import measure_quality


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
    """Where the label image of the kept nuclei is written."""
    given_labels: Path | None = None
    """A label image from elsewhere, which stands in for finding nuclei."""
    truth: Path | None = None
    phenotypes: dict[int, str] = field(default_factory=dict)
    uneven: tuple[Path, ...] = ()
    """What every channel is divided by; nothing where illumination is left as it is."""


@dataclass(frozen=True)
class CutTask:
    """The windows of one field, and the rows of the stack that they are written to."""

    field: FieldTask
    centres: np.ndarray
    stack: Path
    shape: tuple[int, int, int, int]
    first_row: int
    border: Border
    done: Path


MEASURED = (
    "row_px",
    "column_px",
    "area_px",
    "eccentricity",
    "neighbours",
    "solidity",
    "focus",
    "brightness",
    "saturated",
    "edge_px",
    "nearest_px",
)
"""What is known of every nucleus that was found, kept or not."""
OF_FIELD = ("focus", "saturated", "covered", "stray", "background")


def segment_field(task: FieldTask, settings: Any, detector: Any) -> None:
    """Find and measure the nuclei of one field; a fault of its content is written down as `.failed.json`."""
    try:
        pixels = read_field(task)
        found = find(task, detector, pixels)
    except DataError as error:
        _say_failed(task, error.message)
        return
    nuclei = measure(found)
    quality, of_field = measure_quality(pixels, task.nucleus, found, nuclei.centres)
    lost = selection.rejection_reasons(found, nuclei, settings.limits(), quality)
    if task.labels is not None:
        write_labels(task.labels, select_labels(found, lost == 0))
    known = {
        **vars(nuclei),
        "neighbours": neighbours(nuclei.centres, settings.crop_px / 2),
        **vars(quality),
        "lost": lost,
        "of_field": np.array([asdict(of_field)[name] for name in OF_FIELD]),
    }
    if task.truth is not None:
        known["true_label"] = match_labels(found, read_labels(task.truth))
    if task.count_greys:
        known["greys"] = greys(pixels)
    with atomic_path(task.result) as beside, beside.open("wb") as file:
        np.savez(file, **known)


def say_crashed(task: FieldTask, how: str) -> None:
    """Write down that this field crashes every process that reads it; `how` names the signal."""
    images = ", ".join(path.name for path in task.images)
    _say_failed(task, f"the process that read {images} died ({how}), and so did a second one: an image is damaged")


def _say_failed(task: FieldTask, reason: str) -> None:
    write_text(failed_path(task.result), json.dumps({"field_id": task.field_id, "reason": reason}))


def find(task: FieldTask, detector: Any, pixels: np.ndarray) -> np.ndarray:
    """The labels 1..n of the field's nuclei, by the detector or from the image that is given.

    Raises DataError where the given one is not there, cannot be read or has another size.
    """
    if task.given_labels is None:
        found: np.ndarray = detector.find(pixels[task.nucleus], task.pixel_um)
        return found
    labels = read_labels(task.given_labels)
    if labels.shape != pixels.shape[1:]:
        raise DataError(
            f"the label image {task.given_labels} is {labels.shape[0]} x {labels.shape[1]}, "
            f"and its field {pixels.shape[1]} x {pixels.shape[2]}"
        )
    return relabel(labels)


def cut_field(task: CutTask) -> None:
    """Read the field again and write its windows into their rows of the stack.

    Raises IntegrityError where an image has changed since its nuclei were found.
    """
    if len(task.centres):
        windows = cropping.crop(read_field(task.field), task.centres, task.shape[-1], task.border)
        write_rows(task.stack, task.first_row, windows)
    write_text(task.done, "")


def failed_path(result: Path) -> Path:
    """Where a worker says why a field gave no cells."""
    return result.with_suffix(".failed.json")


def read_field(task: FieldTask) -> np.ndarray:
    """All channels of a field, (c, y, x) uint16, under even light where that was asked for.

    Raises DataError, for quarantine, where an image cannot be decoded, shows nothing, or they are not of one size;
    IntegrityError where one is no longer the file that was fetched.
    """
    _check_unchanged(task)
    channels = [read_channel(path) for path in task.images]
    shapes = {channel.shape for channel in channels}
    if len(shapes) > 1:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(shapes))
        raise DataError(f"the channels of field {task.field_id} differ in size: {sizes}")
    for path, channel in zip(task.images, channels, strict=True):
        if channel.min() == channel.max():
            raise DataError(f"{path} shows nothing: every pixel is {channel.flat[0]}")
    if task.uneven:
        channels = [_evened(task.field_id, *pair) for pair in zip(channels, task.uneven, strict=True)]
    return np.stack(channels)


def _evened(field_id: str, channel: np.ndarray, uneven: Path) -> np.ndarray:
    shared = np.load(uneven)
    if shared.shape != channel.shape:
        raise DataError(f"field {field_id} has not the size of the other fields of its plate and site: {channel.shape}")
    return illumination.correct_illumination(channel, shared)


def _check_unchanged(task: FieldTask) -> None:
    for path, sha256 in zip(task.images, task.hashes, strict=True):
        try:
            unchanged = sha256_of(path) == sha256
        except FileNotFoundError:
            unchanged = False
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        if not unchanged:
            raise IntegrityError(
                f"{path} is missing or is not the file that was fetched", hint="fetch its plate again with --force"
            )


def neighbours(centres: np.ndarray, radius_px: float) -> np.ndarray:
    """How many other nuclei, kept or not, have their centre within `radius_px` of each."""
    if len(centres) == 0:
        return np.zeros(0, np.int64)
    from scipy.spatial import cKDTree

    counted: np.ndarray = cKDTree(centres).query_ball_point(centres, radius_px, return_length=True)
    return counted.astype(np.int64) - 1


def greys(pixels: np.ndarray) -> np.ndarray:
    """How often each grey value occurs, per channel, (c, 65536)."""
    from cellssl.imaging.scaling import Histogram

    histogram = Histogram.empty(len(pixels))
    histogram.add(pixels)
    return histogram.counts.astype(np.uint32)
