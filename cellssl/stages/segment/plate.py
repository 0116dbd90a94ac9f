"""plate: all nuclei of one plate and the settings in, tables of its cells and dropped nuclei, and the crops, out."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.contents import metrics_of
from cellssl.artifacts.crops import reserve_crops
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_fields, write_table
from cellssl.engine.build import Job, Metrics
from cellssl.engine.plate_parts import QUARANTINE, allowed_failures, read_quarantine, write_quarantine
from cellssl.errors import FailedError
from cellssl.events import Event, Note, Progress
from cellssl.stages.segment.brightness import OF_CELLS_FILE, brightness_of_cells, read_nuclei_brightness
from cellssl.stages.segment.counts import in_words, warnings_of, write_counts
from cellssl.stages.segment.field_crops import CropTask, Mask, Relabelling, crop_field
from cellssl.stages.segment.inputs import channels_of
from cellssl.stages.segment.nuclei import read_grey_values, read_nuclei, too_many_failures
from cellssl.stages.segment.scale import (
    broken_controls_error,
    constant_channels,
    no_scale,
    reference_counts,
    scale_of_cells,
    scale_of_pixels,
)
from cellssl.stages.segment.selection import (
    count_nuclei,
    field_flags,
    kept_cells,
    reject_by_limits,
    select_nuclei,
    window_sides_px,
)
from cellssl.stages.segment.tasks import cells_name, fetched_images, flatfield_files, labels_name
from cellssl.stages.shared.card_shapes import DetectionMetrics

if TYPE_CHECKING:
    import pandas as pd


def select_plate(job: Job, detected: Artifact) -> Generator[Event, None, Metrics]:
    """Drop the nuclei outside the limits, and crop the others."""
    failures = _checked_failures(job, detected)
    fields = read_fields(detected)
    plate = fields["plate"].iloc[0]
    fields["field_flags"] = field_flags(fields, job.settings.quality)
    if job.settings.crop_um is not None:
        fields["crop_pixel_um"] = job.settings.crop_um / job.settings.crop_px
    nuclei = select_nuclei(read_nuclei(detected), fields, job.settings)
    cells = kept_cells(nuclei)
    scale = _scale(job, detected, fields, nuclei, failures[0]["reason"] if failures else "")
    yield from _crop(job, detected, fields, nuclei, cells)
    write_table(cells, job.draft.file("cells.parquet"))
    write_table(nuclei[nuclei["reason"].notna()].drop(columns="cell_id"), job.draft.file("dropped.parquet"))
    write_table(fields, job.draft.file("fields.parquet"))
    write_table(scale, job.draft.file("scale.parquet"))
    constant = constant_channels(scale)
    counts = count_nuclei(nuclei, len(fields), len(failures))
    counts |= {"constant_channels": len(constant)} if constant else {}
    merged = metrics_of(detected, DetectionMetrics).merged_lobes
    counts |= {} if merged is None else {"merged_lobes": merged}
    write_counts(job, counts)
    write_quarantine(failures, job.draft.file(QUARANTINE))
    if failures:
        yield Note(f"{len(failures)} of {len(fields)} fields are quarantined; the reasons are in quarantine.csv")
    yield Note(f"plate {plate}: {in_words(counts)}")
    yield from (Note(one, "warning") for one in (*warnings_of(job.settings, plate, nuclei, fields), *constant))
    yield from _note_flags(fields)
    return counts


def _scale(job: Job, detected: Artifact, fields: pd.DataFrame, nuclei: pd.DataFrame, failure: str) -> pd.DataFrame:
    """Return the scale of a plate, and write the brightness of its cells; `failure` is why the first field failed."""
    channels, plate = channels_of(fields), fields["plate"].iloc[0]
    cells = brightness_of_cells(nuclei, read_nuclei_brightness(detected, channels), fields)
    write_table(cells, job.draft.file(OF_CELLS_FILE))
    if job.settings.scale.of == "pixels":
        counts = reference_counts(job.settings, read_grey_values(detected, len(channels)), plate, failure)
        reference = len(cells) if job.settings.reference == "all" else int(cells["control"].sum())
        return scale_of_pixels(job.settings, counts, channels, plate, reference)
    if cells.empty:
        return no_scale(channels, plate)
    controls = fields[fields["control"]]
    if job.settings.reference == "controls" and (controls["field_flags"] == "quarantined").all():
        raise broken_controls_error(plate, failure)
    return scale_of_cells(job.settings, {plate: cells}, channels, plate)


def _checked_failures(job: Job, detected: Artifact) -> list[dict[str, str]]:
    """Return the quarantined fields; DataError where they are more than `max_failures` allows.

    The nuclei may have been detected when it allowed more.
    """
    failures, total = read_quarantine(detected), metrics_of(detected, DetectionMetrics).fields
    if len(failures) > allowed_failures(job.settings.max_failures, total):
        raise too_many_failures(job, failures[0]["reason"], len(failures), total, detected.file(QUARANTINE))
    return failures


def check_space_for_first(job: Job, nuclei: pd.DataFrame, fields: pd.DataFrame) -> None:
    """Raise FailedError where the crops of a plate will not fit on the disk, judged by the nuclei of its first fields.

    Fields that are not done yet have no size.
    """
    kept = int((reject_by_limits(nuclei, fields, job.settings) == 0).sum())
    expected = round(len(fields) * kept / fields["field_height_px"].notna().sum())
    cap = job.settings.cells_per_well
    _check_disk(job, min(expected, fields["well"].nunique() * cap) if cap else expected, len(channels_of(fields)))


def _check_disk(job: Job, cells: int, channels: int) -> None:
    """Raise FailedError where the crops of so many cells do not fit on the disk."""
    path = job.draft.path
    stack = path / "crops.npy"
    needed = 2 * cells * channels * job.settings.crop_px**2
    free = shutil.disk_usage(path).free + (stack.stat().st_size if stack.is_file() else 0)
    if needed > free:
        raise FailedError(
            f"about {cells:,} crops need {format_bytes(needed)}, but {format_bytes(free)} are free for {path}",
            hint="free some space, crop fewer cells (segment.cells_per_well), or use smaller windows (segment.crop_px)",
        )


def format_bytes(count: int) -> str:
    """Return a number of bytes in MB or GB."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _crop(
    job: Job, detected: Artifact, fields: pd.DataFrame, nuclei: pd.DataFrame, cells: pd.DataFrame
) -> Iterator[Event]:
    """Write the windows of all cells, each field into its own rows of one stack whose disk space is reserved first."""
    from cellssl.engine.process_pool import parallel_map

    shape = (len(cells), len(channels_of(fields)), job.settings.crop_px, job.settings.crop_px)
    _check_disk(job, len(cells), shape[1])
    stack = job.draft.file("crops.npy")
    tasks = list(_crop_tasks(job, detected, fields, nuclei, cells, stack, shape))
    if reserve_crops(stack, shape):
        for task in tasks:
            task.done.unlink(missing_ok=True)  # it belongs to a stack of other cells
    left = [task for task in tasks if not task.done.is_file()]
    for number, cropped in enumerate(parallel_map(crop_field, left, job.settings.workers), 1):
        yield Progress(len(tasks) - len(left) + number, len(tasks), "fields cropped", cropped.field_id)


def _crop_tasks(
    job: Job,
    detected: Artifact,
    fields: pd.DataFrame,
    nuclei: pd.DataFrame,
    cells: pd.DataFrame,
    stack: Path,
    shape: tuple[int, int, int, int],
) -> Iterator[CropTask]:
    """Yield the windows of every field that has nuclei, in the order of the table of cells."""
    scratch, images = job.draft.scratch(), fetched_images(fields, job.inputs["fetch"], job.context)
    cells_of = {str(name): rows for name, rows in cells.groupby("field_id")}
    within = {str(name): rows["cell_id"].notna().to_numpy() for name, rows in nuclei.groupby("field_id")}
    flatfields = flatfield_files(detected, fields)
    windows_px = window_sides_px(job.settings, fields["pixel_um"].to_numpy(float))
    first_row = 0
    of_fields = zip(fields["field_id"], fields["pixel_um"], windows_px, strict=True)
    for number, (field_id, pixel_um, window_px) in enumerate(of_fields):
        if labels_name(field_id) not in detected.card.files:
            continue  # it is quarantined
        of_field = cells_of.get(field_id, cells.iloc[:0])
        kept = within.get(field_id, np.zeros(0, bool))
        marker = scratch / f"field-{number:06d}.cropped"
        yield CropTask(
            field_id,
            images[field_id],
            flatfields[field_id],
            of_field[["row_px", "column_px"]].to_numpy(),
            float(window_px),
            stack,
            shape,
            first_row,
            job.settings.border,
            marker,
            tuple(_relabellings(job, detected, field_id, kept, pixel_um)) if job.settings.keep_labels else (),
            _mask(job, detected, field_id, of_field),
        )
        first_row += len(of_field)


def _relabellings(
    job: Job, detected: Artifact, field_id: str, within: np.ndarray, pixel_um: float
) -> Iterator[Relabelling]:
    """Yield the label images of the nuclei within the limits that are written, and of their cells where there are."""
    known_um = pixel_um if pixel_um > 0 else None
    target = job.draft.file(f"labels/{field_id}_cp_masks.tif")
    yield Relabelling(detected.file(labels_name(field_id)), within, target, known_um, "nuclei")
    if job.settings.cells is not None:
        target = job.draft.file(f"labels/{field_id}_cells.ome.tif")
        yield Relabelling(detected.file(cells_name(field_id)), within, target, known_um, "cells")


def _mask(job: Job, detected: Artifact, field_id: str, cells: pd.DataFrame) -> Mask | None:
    """Return which pixels of the crops of a field are left; None where all of them are."""
    if job.settings.crop_mask == "none":
        return None
    name = cells_name(field_id) if job.settings.crop_mask == "cell" else labels_name(field_id)
    return Mask(detected.file(name), cells["nucleus_label"].to_numpy())


def _note_flags(fields: pd.DataFrame) -> Iterator[Event]:
    flagged = fields[~fields["field_flags"].isin(["", "quarantined"])]
    if len(flagged):
        kinds = ", ".join(f"{count} {flags}" for flags, count in flagged["field_flags"].value_counts().items())
        sentence = f"{len(flagged)} of {len(fields)} fields are flagged: {kinds}; see field_flags in fields.parquet"
        yield Note(sentence, "warning")
