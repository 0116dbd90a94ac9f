"""cellprofiler: cells of a segment artifact in, CellProfiler's measurements of them out, field by field on all cores.

They are measured in the images of the fields and not in the crops: an object may be larger than its crop, and what lies
around it counts in some measurements. Grey values are divided by the highest that the file can hold (255 or 65,535), as
CellProfiler does, after the correction of illumination where the recipe asks for one.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.contents import input_of
from cellssl.artifacts.crops import in_blocks
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_fields
from cellssl.engine.build import Job
from cellssl.engine.plate_parts import NUCLEI_OF_PLATE, parts_of
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Note, Progress
from cellssl.files import save_array
from cellssl.images.header import read_header
from cellssl.images.reading import read_labels
from cellssl.imaging import cellprofiler
from cellssl.stages.segment.field import FetchedImage, read_field
from cellssl.stages.segment.inputs import channels_of
from cellssl.stages.segment.tasks import cells_name, fetched_images, flatfield_files, labels_name

if TYPE_CHECKING:
    import pandas as pd

VECTORS_FILE = "vectors.f32"
"""The measurements of all cells in the folder of intermediate files, (cell, measurement), where they are gathered."""
BLOCK_BYTES = 2**25
"""Size of the vectors that are handed on at a time."""


@dataclass(frozen=True)
class MeasureTask:
    """Everything that a worker needs to measure the cells of one field."""

    field_id: str
    images: tuple[FetchedImage, ...]
    flatfields: tuple[Path, ...]
    objects: dict[str, Path]
    """The label images of nuclei and, where they were segmented, of cells."""
    wanted: np.ndarray
    """The label of every cell that is measured."""
    rows: np.ndarray
    """The row of each of them in the table of embeddings."""
    result: Path
    """The .npy file with the measurements."""


@dataclass(frozen=True)
class Measured:
    """The measurements of all cells; they lie in a file, because they may not fit into memory."""

    names: list[str]
    vectors: np.ndarray

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the vectors in the order of the table; what is not defined is 0."""
        size = max(1, BLOCK_BYTES // (4 * len(self.names)))
        for rows in in_blocks(np.arange(len(self.vectors)), size):
            yield np.nan_to_num(self.vectors[rows], nan=0.0)


def measure_cells(job: Job, segment: Artifact, cells: pd.DataFrame) -> Generator[Event, None, Measured]:
    """Measure every cell of the table; fields that a run before has finished are not measured again.

    Raises UsageError where there are no label images of the cells.
    """
    from importlib.metadata import version

    from cellssl.engine.process_pool import parallel_map

    job.ran["cp_measure"] = version("cp_measure")
    tasks, names = _tasks(job, segment, cells)
    left = [task for task in tasks if not task.result.is_file()]
    for done, task in enumerate(parallel_map(measure_task, left, job.settings.workers), 1):
        yield Progress(len(tasks) - len(left) + done, len(tasks), "fields", task.field_id)
    vectors = np.memmap(job.draft.scratch() / VECTORS_FILE, np.float32, "w+", shape=(len(cells), len(names)))
    undefined = 0
    for task in tasks:
        of_field = np.load(task.result, allow_pickle=False)
        vectors[task.rows] = of_field
        undefined += int(np.isnan(of_field).sum())
    if undefined:
        yield Note(
            f"{undefined:,} of {vectors.size:,} measurements are not defined, such as the texture of an object that is "
            "too small or dark, and are written as 0"
        )
    return Measured(names, vectors)


def measure_task(task: MeasureTask) -> None:
    """Measure the wanted cells of one field, and write their measurements in the order of `wanted`."""
    pixels = read_field(task.field_id, task.images, task.flatfields)
    highest = np.array([highest_grey(image) for image in task.images], np.float64)
    objects = {name: read_labels(path) for name, path in task.objects.items()}
    if "Cells" in objects:
        objects["Cytoplasm"] = np.where(objects["Nuclei"] > 0, 0, objects["Cells"])
    # corrected illumination may lift a pixel above the highest value
    grey = np.minimum(pixels / highest[:, None, None], 1.0)
    save_array(task.result, cellprofiler.measure_field(objects, task.wanted, grey))


def highest_grey(image: FetchedImage) -> int:
    """Return the highest grey value that an image can hold as it is read."""
    reference = image.reference
    if reference.intensity_range is not None:
        return 65_535
    return 255 if read_header(Path(reference.files[0]), reference.series).dtype == "uint8" else 65_535


@dataclass(frozen=True)
class PlateOfCells:
    """One plate whose cells are measured."""

    plate: str
    fetched: Artifact
    detected: Artifact
    """The label images of all its nuclei, and of cells where they were segmented."""
    fields: pd.DataFrame
    """The rows of the field table that have cells."""

    @property
    def has_cells(self) -> bool:
        """Whether whole cells were segmented, too."""
        return cells_name(self.fields["field_id"].iloc[0]) in self.detected.card.files

    @property
    def columns(self) -> list[str]:
        """The names of all measurements."""
        compartments = cellprofiler.COMPARTMENTS if self.has_cells else ("Nuclei",)
        return cellprofiler.columns(compartments, channels_of(self.fields))


def _tasks(job: Job, segment: Artifact, cells: pd.DataFrame) -> tuple[list[MeasureTask], list[str]]:
    """Return one task per field with cells, and the names of all measurements."""
    plates = list(_plates(job.context.store.with_store_of(segment), segment, cells))
    first = plates[0]
    for other in plates[1:]:
        if other.columns != first.columns:
            raise DataError(
                f"plates {first.plate} and {other.plate} differ in their channels or compartments",
                hint="use the same channels in every plate, and make the cells again: cellssl segment RECIPE --force",
            )
    tasks: list[MeasureTask] = []
    for plate in plates:
        tasks += _tasks_of_plate(job, plate, cells, len(tasks))
    return tasks, first.columns


def _plates(store: Store, segment: Artifact, cells: pd.DataFrame) -> Iterator[PlateOfCells]:
    """Yield the plates that have cells; UsageError where one has no label images."""
    for plate, fingerprint in parts_of(segment):
        fields_with_cells = cells["field_id"][cells["part"] == fingerprint]
        if fields_with_cells.empty:
            continue
        part = store.get("segment", fingerprint)
        fetched = store.get("fetch", input_of(part, "fetch"))
        if NUCLEI_OF_PLATE not in part.card.inputs:
            raise _no_masks_error(plate, fetched)
        detected = store.get("segment", input_of(part, NUCLEI_OF_PLATE))
        fields = read_fields(detected)
        yield PlateOfCells(plate, fetched, detected, fields[fields["field_id"].isin(fields_with_cells)])


def _no_masks_error(plate: str, fetched: Artifact) -> UsageError:
    what = 'embed.model = "cellprofiler" measures nuclei by their label images, and plate'
    if "crops.npy" in fetched.card.files:
        return UsageError(
            f"{what} {plate} came as finished crops, without any",
            hint='set embed.model = "features", which measures the crops themselves',
        )
    return UsageError(
        f"{what} {plate} was segmented by an earlier version, which kept none",
        hint="segment it again with this version: cellssl segment RECIPE",
    )


def _tasks_of_plate(job: Job, plate: PlateOfCells, cells: pd.DataFrame, before: int) -> Iterator[MeasureTask]:
    """Yield the task of every field; `before` is the number of fields of earlier plates."""
    images = fetched_images(plate.fields, plate.fetched, job.context)
    flatfields = flatfield_files(plate.detected, plate.fields)
    rows = cells.groupby("field_id", sort=False).indices
    labels = cells["nucleus_label"].to_numpy(np.int64)
    for number, field_id in enumerate(plate.fields["field_id"].astype(str), before):
        of_field = np.asarray(rows[field_id])
        names = {"Nuclei": labels_name(field_id), **({"Cells": cells_name(field_id)} if plate.has_cells else {})}
        yield MeasureTask(
            field_id,
            images[field_id],
            flatfields[field_id],
            {kind: plate.detected.file(name) for kind, name in names.items()},
            labels[of_field],
            of_field,
            job.draft.scratch() / f"field-{number:06d}.npy",
        )
