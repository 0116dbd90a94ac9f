"""field: the images of one field in, its measured nuclei and intensity histogram as one file out, later its crops."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.crops import write_rows
from cellssl.artifacts.hashing import sha256_of
from cellssl.disk import raise_fault
from cellssl.errors import DataError, FailedError, IntegrityError
from cellssl.files import save_arrays, write_text
from cellssl.images.content import state_of
from cellssl.images.reading import read_image, read_labels, write_labels
from cellssl.images.reference import ImageReference
from cellssl.imaging import cropping, illumination, selection
from cellssl.imaging.cropping import Border
from cellssl.imaging.labels import match_labels, measure, relabel, select_labels
from cellssl.imaging.quality import measure_quality

if TYPE_CHECKING:
    from cellssl.imaging.segmenter import Segmenter
    from cellssl.stages.segment.settings import Settings


@dataclass(frozen=True)
class FetchedImage:
    """The image of one channel of one field, as it was fetched."""

    reference: ImageReference
    """Its files, with their whole paths, and what is chosen in them."""
    sha256: str
    """The hash in the field table."""
    state: str = ""
    """What `state_of` returned when the hash was last compared; "" where the worker compares it, by reading all bytes.

    A file that holds many images is not read whole for each of them.
    """


@dataclass(frozen=True)
class FieldTask:
    """Everything that a worker needs for one field; `images` are in the order of the channels."""

    field_id: str
    images: tuple[FetchedImage, ...]
    nucleus: int
    """Position of the channel that shows the nuclei."""
    pixel_um: float | None
    in_reference: bool
    """Whether the intensity scale of the plate is measured in this field, so that its grey values are counted."""
    result: Path
    """The .npz file with the measurements."""
    labels: Path | None = None
    """Where the label image of the nuclei within the limits is written."""
    given_labels: Path | None = None
    """A label image of another tool, which replaces segmentation."""
    truth: Path | None = None
    """The true label image of a simulated field."""
    phenotypes: dict[int, str] = field(default_factory=dict)
    flatfields: tuple[Path, ...] = ()
    """The flat field of every channel; empty where illumination is not corrected."""


@dataclass(frozen=True)
class CropTask:
    """The windows of one field, and the rows of the stack to which they are written."""

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
"""Columns of the tables of nuclei, kept or rejected, that a field's result holds."""
FIELD_COLUMNS = {
    "field_focus": "focus",
    "field_saturated": "saturated",
    "field_covered": "covered",
    "field_stray": "bright_outside",
    "field_background": "background",
}
"""Column of fields.parquet -> attribute of FieldQuality that it holds."""


def segment_field(task: FieldTask, settings: Settings, segmenter: Segmenter) -> None:
    """Segment and measure the nuclei of one field; a fault of its images is written to `.failed.json`.

    The images are read again before a fault counts: one that is gone then was a fault of the reading.
    """
    try:
        pixels, labels = _labelled(task, segmenter)
    except DataError:
        try:
            pixels, labels = _labelled(task, segmenter)
        except DataError as error:
            _write_failure(task, f"{error.message}; {error.hint}" if error.hint else error.message)
            return
    nuclei = measure(labels)
    quality, field_quality = measure_quality(pixels, task.nucleus, labels, nuclei.centres)
    rejected = selection.rejection_reasons(labels, nuclei, settings.limits(), quality)
    if task.labels is not None:
        write_labels(task.labels, select_labels(labels, rejected == 0))
    arrays = {
        **vars(nuclei),
        "neighbours": count_neighbours(nuclei.centres, settings.crop_px / 2),
        **vars(quality),
        "rejected": rejected,
        "field_quality": np.array([asdict(field_quality)[name] for name in FIELD_COLUMNS.values()]),
    }
    if task.truth is not None:
        arrays["true_label"] = match_labels(labels, read_labels(task.truth))
    if task.in_reference:
        arrays["intensity_histogram"] = intensity_histogram(pixels)
    save_arrays(task.result, arrays)


def write_crashed(task: FieldTask, how: str) -> None:
    """Write the failure of a field that crashes every process that reads it; `how` names the signal."""
    names = (Path(file).name for image in task.images for file in image.reference.files)
    images = ", ".join(dict.fromkeys(names))
    _write_failure(task, f"the process that read {images} died ({how}), and so did a second one: an image is damaged")


def _write_failure(task: FieldTask, reason: str) -> None:
    write_text(failed_path(task.result), json.dumps({"field_id": task.field_id, "reason": reason}))


def _labelled(task: FieldTask, segmenter: Segmenter) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels and the labels of the nuclei of one field."""
    pixels = read_field(task)
    return pixels, label_nuclei(task, segmenter, pixels)


def label_nuclei(task: FieldTask, segmenter: Segmenter, pixels: np.ndarray) -> np.ndarray:
    """Return the labels 1..n of the field's nuclei, from the segmenter or from the given label image.

    Raises DataError where the given label image is missing, cannot be read or has another size than the field.
    """
    if task.given_labels is None:
        return segmenter.segment(pixels[task.nucleus], task.pixel_um)
    labels = read_labels(task.given_labels)
    if labels.shape != pixels.shape[1:]:
        raise DataError(
            f"the label image {task.given_labels} is {labels.shape[0]} x {labels.shape[1]}, "
            f"but its field is {pixels.shape[1]} x {pixels.shape[2]}"
        )
    return relabel(labels)


def crop_field(task: CropTask) -> None:
    """Read the field again and write its windows into their rows of the stack.

    Raises IntegrityError where an image has changed since it was fetched.
    """
    if len(task.centres):
        windows = cropping.crop(read_field(task.field), task.centres, task.shape[-1], task.border)
        write_rows(task.stack, task.first_row, windows)
    write_text(task.done, "")


def failed_path(result: Path) -> Path:
    """Return the file in which a worker writes why a field failed."""
    return result.with_suffix(".failed.json")


def read_field(task: FieldTask) -> np.ndarray:
    """Return all channels of a field, (c, y, x) uint16, with corrected illumination where the recipe asks for it.

    Raises DataError, for quarantine, where an image cannot be decoded or is constant, or the channels differ in size;
    IntegrityError where an image is no longer the file that was fetched; FailedError where its bytes cannot be read.
    """
    channels = [read_fetched(image) for image in task.images]
    shapes = {channel.shape for channel in channels}
    if len(shapes) > 1:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(shapes))
        raise DataError(f"the channels of field {task.field_id} differ in size: {sizes}")
    for image, channel in zip(task.images, channels, strict=True):
        if channel.min() == channel.max():
            raise DataError(f"{image.reference.named()} is blank: every pixel is {channel.flat[0]}")
    if task.flatfields:
        channels = [_corrected(task.field_id, *pair) for pair in zip(channels, task.flatfields, strict=True)]
    return np.stack(channels)


def _corrected(field_id: str, channel: np.ndarray, flatfield_file: Path) -> np.ndarray:
    flatfield = np.load(flatfield_file)
    if flatfield.shape != channel.shape:
        size, others = (f"{rows} x {columns}" for rows, columns in (channel.shape, flatfield.shape))
        raise DataError(f"field {field_id} is {size}, but the other fields of its plate and site are {others}")
    return illumination.correct_illumination(channel, flatfield)


def read_fetched(image: FetchedImage) -> np.ndarray:
    """Return the pixels of an image whose files are those that were fetched.

    Raises IntegrityError where they are not, FailedError where they cannot be read, and DataError where they cannot be
    decoded.
    """
    if not _is_unchanged(image):
        raise changed_error(image.reference)
    return read_image(image.reference)


def _is_unchanged(image: FetchedImage) -> bool:
    if image.state:
        return state_of(image.reference) == image.state
    path = Path(image.reference.files[0])
    try:
        return sha256_of(path) == image.sha256
    except FileNotFoundError:
        return False
    except OSError as error:  # `fetch` could read it, so this is no fault of the image
        raise_fault(error, path)
        raise FailedError(
            f"{path} cannot be read: {error.strerror}", hint="make it readable, and run the same command again"
        ) from error


def changed_error(reference: ImageReference) -> IntegrityError:
    """Return the error for an image that is not the one that was fetched."""
    return IntegrityError(
        f"{reference.named()} is missing or is not the file that was fetched",
        hint="fetch its plate again with --force; where the image is yours, put the former file back, or leave "
        "--force out and the new file counts",
    )


def count_neighbours(centres: np.ndarray, radius_px: float) -> np.ndarray:
    """Count for each nucleus the other nuclei, kept or rejected, whose centre is within `radius_px`."""
    if len(centres) == 0:
        return np.zeros(0, np.int64)
    from scipy.spatial import cKDTree

    within: np.ndarray = cKDTree(centres).query_ball_point(centres, radius_px, return_length=True)
    return within.astype(np.int64) - 1


def intensity_histogram(pixels: np.ndarray) -> np.ndarray:
    """Count how often each grey value occurs, per channel, (c, 65536)."""
    from cellssl.imaging.scaling import Histogram

    histogram = Histogram.empty(len(pixels))
    histogram.add(pixels)
    return histogram.counts.astype(np.uint32)
