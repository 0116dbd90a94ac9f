"""field_crops: one field, the centres of its cells and their rows in, their crops in the stack of the plate, out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellssl.artifacts.crops import write_rows
from cellssl.files import write_text
from cellssl.images.reading import read_labels, write_labels
from cellssl.imaging import cropping
from cellssl.imaging.crop_masks import mask_crops, own_masks
from cellssl.imaging.cropping import Border
from cellssl.imaging.labels import select_labels
from cellssl.stages.segment.field import FetchedImage, read_field


@dataclass(frozen=True)
class CropTask:
    """The windows of one field, and the rows of the stack to which they are written."""

    field_id: str
    images: tuple[FetchedImage, ...]
    flatfields: tuple[Path, ...]
    centres: np.ndarray
    window_px: float
    """Side of a window in pixels of the field."""
    stack: Path
    shape: tuple[int, int, int, int]
    first_row: int
    border: Border
    done: Path
    relabellings: tuple[Relabelling, ...] = ()
    mask: Mask | None = None


@dataclass(frozen=True)
class Relabelling:
    """The label image of all nuclei or cells of a field, and that of those within the limits, which is made of it."""

    labels: Path
    within: np.ndarray
    """For every nucleus, whether it is within the limits."""
    target: Path
    pixel_um: float | None
    shows: str
    """What is labelled: "nuclei" or "cells"."""


@dataclass(frozen=True)
class Mask:
    """A label image, and the number in it of the nucleus in each window: the other pixels of the window become 0."""

    labels: Path
    numbers: np.ndarray


def crop_field(task: CropTask) -> None:
    """Read the field and write its windows into their rows of the stack, and its label images where they are asked for.

    Raises IntegrityError where an image has changed since it was fetched.
    """
    for one in task.relabellings:
        write_labels(one.target, select_labels(read_labels(one.labels), one.within), one.pixel_um, one.shows)
    if len(task.centres):
        field = read_field(task.field_id, task.images, task.flatfields)
        crops = cropping.resampled(field, task.centres, task.window_px, task.shape[-1], task.border)
        if task.mask is not None:
            labels, side_px = read_labels(task.mask.labels), task.shape[-1]
            masks = own_masks(labels, task.mask.numbers, task.centres, task.window_px, side_px)
            crops = mask_crops(crops, masks)
        write_rows(task.stack, task.first_row, crops)
    write_text(task.done, "")
