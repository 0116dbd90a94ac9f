"""field_crops: one field, the centres of its cells and their rows in, their crops in the stack of the plate, out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellssl.artifacts.crops import write_rows
from cellssl.files import write_text
from cellssl.images.reading import read_labels, write_labels
from cellssl.imaging import cropping
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
    relabelling: Relabelling | None = None


@dataclass(frozen=True)
class Relabelling:
    """The label image of all nuclei of a field, and that of the nuclei within the limits, which is made of it."""

    labels: Path
    within: np.ndarray
    """For every nucleus, whether it is within the limits."""
    target: Path


def crop_field(task: CropTask) -> None:
    """Read the field and write its windows into their rows of the stack, and its label image where it is asked for.

    Raises IntegrityError where an image has changed since it was fetched.
    """
    if task.relabelling is not None:
        labels = read_labels(task.relabelling.labels)
        write_labels(task.relabelling.target, select_labels(labels, task.relabelling.within))
    if len(task.centres):
        field = read_field(task.field_id, task.images, task.flatfields)
        crops = cropping.resampled(field, task.centres, task.window_px, task.shape[-1], task.border)
        write_rows(task.stack, task.first_row, crops)
    write_text(task.done, "")
