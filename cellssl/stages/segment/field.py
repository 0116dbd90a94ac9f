"""field: the images of one field in; its label image, and a file with its measured nuclei and grey values, out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.hashing import sha256_of
from cellssl.disk import raise_fault
from cellssl.errors import DataError, FailedError, IntegrityError
from cellssl.files import save_arrays, write_text
from cellssl.images.content import state_of
from cellssl.images.reading import read_image, read_labels, write_packed_labels
from cellssl.images.reference import ImageReference
from cellssl.imaging import illumination
from cellssl.imaging.cell_brightness import brightness_in_field
from cellssl.imaging.compartments import measure_compartments
from cellssl.imaging.labels import match_labels, measure, relabel, touches_edge
from cellssl.imaging.lobes import LobeLimits, merge_lobes
from cellssl.imaging.neighbours import measure_neighbours
from cellssl.imaging.quality import count_grey_values, measure_quality

if TYPE_CHECKING:
    from cellssl.imaging.cell_segmenter import CellSegmenter
    from cellssl.imaging.segmenter import Segmenter
    from cellssl.stages.segment.settings import Detection


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
class LobeMerging:
    """How lobes of one cell are merged in one field."""

    channel: int
    """Position of the channel that shows the bodies of the cells."""
    limits: LobeLimits
    diameter_px: float | None
    """Diameter of a whole nucleus; None where it is measured in the field."""


@dataclass(frozen=True)
class FieldTask:
    """Everything that a worker needs for one field; `images` are in the order of the channels."""

    field_id: str
    images: tuple[FetchedImage, ...]
    nucleus: int
    """Position of the channel that shows the nuclei."""
    pixel_um: float | None
    result: Path
    """The .npz file with the measurements."""
    labels: Path
    """Where the label image of all nuclei is written."""
    channels: tuple[str, ...] = ()
    """Names of the channels, for the names of measurements."""
    stain: int | None = None
    """Position of the channel that shows the cells; None where cells are not found."""
    cells: Path | None = None
    """Where the label image of the cells of all nuclei is written."""
    given_labels: Path | None = None
    """A label image of another tool, which replaces segmentation."""
    truth: Path | None = None
    """The true label image of a simulated field."""
    phenotypes: dict[int, str] = field(default_factory=dict)
    flatfields: tuple[Path, ...] = ()
    """The flat field of every channel; empty where illumination is not corrected."""
    lobes: LobeMerging | None = None
    """How lobes of one cell are merged; None where they are not."""


FIELD_QUALITY = {
    "field_focus": "focus",
    "field_saturated": "saturated",
    "field_covered": "covered",
    "field_stray": "bright_outside",
    "field_background": "background",
}
"""Column of fields.parquet -> attribute of FieldQuality that it holds."""
FIELD_SIDES = ("field_height_px", "field_width_px")
"""Columns of fields.parquet with the number of rows and columns of pixels."""
MERGED_LOBES = "field_merged_lobes"
"""Column of fields.parquet with the number of nuclei that became part of another one, where lobes are merged."""
BACKGROUND = "background"
"""Name of the array in a field's result with the background in parts of the field."""
OF_NUCLEI, OF_FIELD, GREY_VALUES, BRIGHTNESS = "nuclei/", "field/", "grey_values/", "brightness/"
"""How the names of arrays in a field's result begin: a column of the table of nuclei, a value of the field, how often
each grey value occurs in a channel, by its number, and how bright the nuclei are in every channel (n, c)."""


def segment_field(
    task: FieldTask, settings: Detection, segmenter: Segmenter, cell_segmenter: CellSegmenter | None = None
) -> None:
    """Segment and measure the nuclei of one field, and their cells; a fault of its images goes to `.failed.json`.

    The images are read again before a fault counts: one that is gone then was a fault of the reading.
    """
    try:
        field = _labelled(task, segmenter, cell_segmenter)
    except DataError:
        try:
            field = _labelled(task, segmenter, cell_segmenter)
        except DataError as error:
            _write_failure(task, f"{error.message}; {error.hint}" if error.hint else error.message)
            return
    write_packed_labels(task.labels, field.labels)
    if field.cells is not None and task.cells is not None:
        write_packed_labels(task.cells, field.cells)
    grey_values = count_grey_values(field.pixels)
    nuclei, of_field = measure_field(task, field.pixels, field.labels, grey_values, field.cells)
    brightness = brightness_in_field(field.pixels, field.labels)
    if field.merged_lobes is not None:
        of_field[MERGED_LOBES] = field.merged_lobes
    arrays = {
        **{f"{OF_NUCLEI}{name}": values for name, values in nuclei.items()},
        **{f"{OF_FIELD}{name}": np.asarray(value) for name, value in of_field.items()},
        **{f"{GREY_VALUES}{number}": counts for number, counts in enumerate(grey_values)},
        **{f"{BRIGHTNESS}{name}": levels for name, levels in vars(brightness).items()},
        BACKGROUND: illumination.background_grid(field.pixels[task.nucleus], field.labels),
    }
    save_arrays(task.result, arrays)


def measure_field(
    task: FieldTask,
    pixels: np.ndarray,
    labels: np.ndarray,
    grey_values: Sequence[np.ndarray],
    cells: np.ndarray | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Measure the nuclei 1..n, their cells where they were found, and the field, whose grey values were counted.

    Every name of the first becomes a column of nuclei.parquet, and from there of cells.parquet and dropped.parquet;
    every name of the second becomes a column of fields.parquet.
    """
    nuclei = measure(labels)
    quality, field_quality = measure_quality(pixels, task.nucleus, labels, nuclei.centres, task.pixel_um, grey_values)
    columns = {**vars(nuclei), **vars(quality), **vars(measure_neighbours(labels, nuclei.centres))}
    columns["at_edge"] = touches_edge(labels)
    if cells is not None:
        columns |= measure_compartments(pixels, task.channels, labels, cells)
    if task.truth is not None:
        columns["true_label"] = match_labels(labels, read_labels(task.truth))
    of_field = {column: float(getattr(field_quality, name)) for column, name in FIELD_QUALITY.items()}
    return columns, {**of_field, **dict(zip(FIELD_SIDES, labels.shape, strict=True))}


def write_crashed(task: FieldTask, how: str) -> None:
    """Write the failure of a field that crashes every process that reads it; `how` names the signal."""
    names = (Path(file).name for image in task.images for file in image.reference.files)
    images = ", ".join(dict.fromkeys(names))
    _write_failure(task, f"the process that read {images} died ({how}), and so did a second one: an image is damaged")


def _write_failure(task: FieldTask, reason: str) -> None:
    for labels in (task.labels, task.cells):
        if labels is not None:
            labels.unlink(missing_ok=True)
    write_text(failed_path(task.result), json.dumps({"field_id": task.field_id, "reason": reason}))


@dataclass(frozen=True)
class LabelledField:
    """The pixels of a field and what was found in them."""

    pixels: np.ndarray
    labels: np.ndarray
    """The label image of the nuclei."""
    cells: np.ndarray | None = None
    """The label image of their cells; None where cells are not found."""
    merged_lobes: int | None = None
    """Number of nuclei that became part of another one; None where lobes are not merged."""


def _labelled(task: FieldTask, segmenter: Segmenter, cell_segmenter: CellSegmenter | None) -> LabelledField:
    """Read one field, and find its nuclei and, where they are asked for, their cells."""
    pixels = read_field(task.field_id, task.images, task.flatfields)
    labels, merged = label_nuclei(task, segmenter, pixels), None
    if task.lobes is not None:
        found = labels.max(initial=0)
        labels = merge_lobes(labels, pixels[task.lobes.channel], task.lobes.limits, task.lobes.diameter_px)
        merged = int(found - labels.max(initial=0))
    cells = None
    if cell_segmenter is not None and task.stain is not None:
        cells = cell_segmenter.grow(pixels[task.stain], labels, pixels[task.nucleus], task.pixel_um)
    return LabelledField(pixels, labels, cells, merged)


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


def failed_path(result: Path) -> Path:
    """Return the file in which a worker writes why a field failed."""
    return result.with_suffix(".failed.json")


def read_field(field_id: str, images: Sequence[FetchedImage], flatfields: Sequence[Path]) -> np.ndarray:
    """Return all channels of a field, (c, y, x) uint16, with corrected illumination where the recipe asks for it.

    Raises DataError, for quarantine, where an image cannot be decoded or is constant, or the channels differ in size;
    IntegrityError where an image is no longer the file that was fetched; FailedError where its bytes cannot be read.
    """
    channels = [read_fetched(image) for image in images]
    shapes = {channel.shape for channel in channels}
    if len(shapes) > 1:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(shapes))
        raise DataError(f"the channels of field {field_id} differ in size: {sizes}")
    for image, channel in zip(images, channels, strict=True):
        if channel.min() == channel.max():
            raise DataError(f"{image.reference.named()} is blank: every pixel is {channel.flat[0]}")
    if flatfields:
        channels = [_corrected(field_id, *pair) for pair in zip(channels, flatfields, strict=True)]
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
