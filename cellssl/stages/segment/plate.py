"""plate: the fields of one plate in, tables of its cells and rejected nuclei, and the crops of the cells, out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from cellssl.artifacts.crops import reserve_crops
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import KEY, TEXT, Column, check_columns, explained, read_fields, write_table
from cellssl.engine.build import Job, Metrics
from cellssl.engine.plate_parts import allowed_failures, write_quarantine
from cellssl.engine.weights_cache import FOLDER, find_cached
from cellssl.errors import DataError, FailedError, UsageError
from cellssl.events import Event, Note, Progress
from cellssl.images.content import hashes_of, is_composed, state_of
from cellssl.images.formats import experimental_formats, experimental_note
from cellssl.stages.segment.counts import write_counts
from cellssl.stages.segment.inputs import channels_of, image_of, label_image_of, nucleus_of
from cellssl.stages.segment.scale import (
    check_reference,
    constant_channels,
    no_range_error,
    reference_histogram,
    scale_table,
)
from cellssl.stages.segment.selection import (
    count_nuclei,
    field_table,
    iter_results,
    kept_cells,
    nuclei_table,
    reject_groups,
)

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.imaging.segmenter import Segmenter, SegmenterSettings
    from cellssl.stages.segment.field import FetchedImage, FieldTask
    from cellssl.stages.segment.settings import Settings


def segment_plate(job: Job) -> Generator[Event, None, Metrics]:
    """Segment, measure and select the nuclei of one plate's fields, and crop the cells."""
    fetched = job.inputs["fetch"]
    fields = read_fields(fetched)
    channels = channels_of(fields)
    if job.settings.reference == "range":
        raise no_range_error(fetched)
    check_reference(job.settings, fields)
    tasks = list(_tasks(job, fetched, fields, channels))
    yield from _note_experimental(tasks)
    if job.settings.illumination == "mean":
        yield from _estimate_flatfields(tasks, job)
    yield from _segment_fields(tasks, fields["well"].nunique(), job)
    failures = _failures(tasks)
    _check_failures(failures, tasks, job)
    done = [task for task in tasks if task.result.is_file()]
    nuclei, fields = _select(job, done, fields)
    cells = kept_cells(nuclei)
    yield from _crop(job, done, cells, len(channels))
    write_table(cells, job.draft.file("cells.parquet"))
    write_table(nuclei[nuclei["reason"].notna()].drop(columns="cell_id"), job.draft.file("dropped.parquet"))
    write_table(fields, job.draft.file("fields.parquet"))
    histogram = reference_histogram(done, fetched, failures)
    scale = scale_table(job.settings, histogram, channels, fields["plate"].iloc[0])
    write_table(scale, job.draft.file("scale.parquet"))
    constant = constant_channels(scale)
    counts = count_nuclei(nuclei, len(tasks), len(failures))
    counts |= {"constant_channels": len(constant)} if constant else {}
    write_counts(job, counts)
    write_quarantine(failures, job.draft.file("quarantine.csv"))
    if failures:
        yield Note(f"{len(failures)} of {len(tasks)} fields are quarantined; the reasons are in quarantine.csv")
    yield from map(Note, constant)
    yield from _note_flags(fields)
    return counts


def _tasks(job: Job, fetched: Artifact, fields: pd.DataFrame, channels: list[str]) -> Iterator[FieldTask]:
    from cellssl.stages.segment.field import FieldTask

    settings, scratch = job.settings, job.draft.scratch()
    nucleus = nucleus_of(settings, channels)
    phenotypes = _phenotypes(fetched)
    states = _compared_states(job, fetched, fields, channels)
    for number, row in enumerate(fields.to_dict("records")):
        truth = row.get("truth_labels")
        images = tuple(_fetched_image(row, channel, fetched, states) for channel in channels)
        yield FieldTask(
            field_id=row["field_id"],
            images=images,
            nucleus=nucleus,
            pixel_um=None if np.isnan(row["pixel_um"]) else row["pixel_um"],
            in_reference=settings.reference == "all" or bool(row["control"]),
            result=scratch / f"field-{number:06d}.npz",
            labels=job.draft.file(f"labels/{row['field_id']}_cp_masks.tif") if settings.keep_labels else None,
            given_labels=label_image_of(settings, images[nucleus].reference),
            truth=fetched.file(truth) if isinstance(truth, str) else None,
            phenotypes=phenotypes.get(row["field_id"], {}),
            flatfields=_flatfield_files(scratch, row["site"], channels) if settings.illumination == "mean" else (),
        )


def _note_experimental(tasks: list[FieldTask]) -> Iterator[Event]:
    """Say which images are of a format whose reader was not tried on an instrument's file yet."""
    files = dict.fromkeys(file for task in tasks for image in task.images for file in image.reference.files)
    yield from (Note(experimental_note(name)) for name in experimental_formats(list(map(Path, files))))


def _fetched_image(row: Mapping[Any, Any], channel: str, fetched: Artifact, states: dict[str, str]) -> FetchedImage:
    from cellssl.stages.segment.field import FetchedImage

    text = row[f"path_{channel}"]
    return FetchedImage(image_of(text, fetched), row[f"sha256_{channel}"], states.get(text, ""))


def _compared_states(job: Job, fetched: Artifact, fields: pd.DataFrame, channels: list[str]) -> dict[str, str]:
    """Return the state of every image that is not one plain file, after its bytes were found to be those fetched.

    They are compared here, once for all images of a file, through the cache of hashes. Raises IntegrityError where
    they differ.
    """
    from cellssl.stages.segment.field import changed_error

    wanted = {
        text: sha256
        for channel in channels
        for text, sha256 in zip(fields[f"path_{channel}"], fields[f"sha256_{channel}"], strict=True)
        if is_composed(text, fetched.path)
    }
    references = {text: image_of(text, fetched) for text in wanted}
    states = {text: state_of(reference) for text, reference in references.items()}
    hashes = hashes_of(wanted, job.context.store.hashes.sha256_of_all, fetched.path)
    for text, sha256 in wanted.items():
        if hashes.get(text) != sha256:
            raise changed_error(references[text])
    return states


def _phenotypes(fetched: Artifact) -> dict[str, dict[int, str]]:
    """Return the phenotype of every true nucleus by field and label; empty where the plate is not simulated."""
    if "truth.csv" not in fetched.card.files:
        return {}
    import pandas as pd

    path = fetched.file("truth.csv")
    with explained(path):
        truth = pd.read_csv(path, dtype={"field_id": str, "phenotype": str})
        check_columns(truth, {"field_id": KEY, "phenotype": TEXT, "label": Column("whole", needed=True, gaps=False)})
        return {
            str(field_id): dict(zip(of_field["label"].astype(int), of_field["phenotype"], strict=True))
            for field_id, of_field in truth.groupby("field_id")
        }


def _estimate_flatfields(tasks: list[FieldTask], job: Job) -> Iterator[Event]:
    """Write the flat field of every site and channel, where it does not exist yet.

    Images that cannot be read, are blank, or have another size than most are left out. Raises IntegrityError for one
    that is not the file that was fetched: flat fields outlive a run that stops.
    """
    from cellssl.files import save_array
    from cellssl.imaging.illumination import estimate_flatfield, mean_image

    sites: dict[tuple[Path, ...], list[FieldTask]] = {}
    for task in tasks:
        sites.setdefault(task.flatfields, []).append(task)
    wanted = [(file, channel, group) for files, group in sites.items() for channel, file in enumerate(files)]
    for number, (file, channel, group) in enumerate(wanted, start=1):
        if not file.is_file():
            mean = mean_image(_readable_images(group, channel))
            if mean is not None:
                save_array(file, estimate_flatfield(mean, job.settings.illumination_blur_px))
        yield Progress(number, len(wanted), "illumination", file.stem)


def _flatfield_files(scratch: Path, site: Any, channels: list[str]) -> tuple[Path, ...]:
    # both come from tables of users, and must not lead out of the folder
    return tuple(scratch / f"flatfield-{quote(f'{site}-{channel}', safe=' ')}.npy" for channel in channels)


def _readable_images(tasks: list[FieldTask], channel: int) -> Iterator[np.ndarray]:
    """Yield one channel of every field in which it can be read and is not blank."""
    from cellssl.stages.segment.field import read_fetched

    for task in tasks:
        with suppress(DataError):  # the worker of the field writes the reason into quarantine.csv
            image = read_fetched(task.images[channel])
            if image.min() < image.max():
                yield image


def _segment_fields(tasks: list[FieldTask], wells: int, job: Job) -> Iterator[Event]:
    """Segment every field without a result on all cores; the order of finishing does not change the results."""
    from cellssl.engine.process_pool import parallel_map
    from cellssl.stages.segment.field import failed_path, segment_field, write_crashed

    left = [task for task in tasks if not task.result.is_file() and not failed_path(task.result).is_file()]
    before = len(tasks) - len(left)
    segmenter = _prepared_segmenter(job)
    workers = 1 if segmenter.runs_on().startswith("cuda") else job.settings.workers
    work = partial(segment_field, settings=job.settings, segmenter=segmenter)
    for done, task in enumerate(parallel_map(work, left, workers, write_crashed), 1):
        if done == min(FIRST_FIELDS, len(left)):
            _check_disk(job, _expected_cells(tasks, wells, job.settings), len(task.images))
        yield Progress(before + done, len(tasks), "fields", task.field_id)


def _prepared_segmenter(job: Job) -> Segmenter:
    """Return the segmenter for this machine, and record what it reports in the card."""
    method: SegmenterSettings = job.settings.method
    segmenter = method.prepare(_downloaded(method, job.context.store), job.context.device)
    if report := segmenter.ran():
        job.ran["segmenter"] = report
    return segmenter


def _downloaded(method: SegmenterSettings, store: Store) -> list[Path]:
    """Return the published files that the segmenter needs; UsageError for a missing one, which is not downloaded here.

    A run may start unattended, so a download must not fail in the middle of it.
    """
    found = {file: find_cached(file.place, store) for file in method.downloads()}
    for file, path in found.items():
        if path is None:
            raise UsageError(
                f"{file.what} are missing: {store.root / FOLDER / file.place}",
                hint="download them with `cellssl doctor RECIPE --download`, or name a file in segment.method.weights",
            )
    return [path for path in found.values() if path is not None]


FIRST_FIELDS = 8
"""After so many fields the number of cells is extrapolated and compared with the free disk space."""


def _expected_cells(tasks: list[FieldTask], wells: int, settings: Settings) -> int:
    done = (task for task in tasks if task.result.is_file())
    kept = [int((arrays["rejected"] == 0).sum()) for _, arrays in iter_results(done)]
    expected = round(len(tasks) * float(np.mean(kept))) if kept else 0
    return expected if settings.cells_per_well is None else min(expected, wells * settings.cells_per_well)


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


def _failures(tasks: list[FieldTask]) -> list[dict[str, str]]:
    from cellssl.stages.segment.field import failed_path

    paths = (failed_path(task.result) for task in tasks)
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def _check_failures(failures: list[dict[str, str]], tasks: list[FieldTask], job: Job) -> None:
    """Raise DataError where more fields failed than `max_failures` allows; all are listed in quarantine.csv."""
    if len(failures) <= allowed_failures(job.settings.max_failures, len(tasks)) and len(failures) < len(tasks):
        return
    from cellssl.stages.segment.field import failed_path

    listed = job.draft.file("quarantine.csv")
    write_quarantine(failures, listed)
    for task in tasks:
        failed_path(task.result).unlink(missing_ok=True)  # the next run tries them again
    raise DataError(
        f"{len(failures)} of {len(tasks)} fields of plate {job.card.section['plate']} are broken; "
        f"first: {failures[0]['reason']}",
        hint=f"all are listed in {listed}; repair them, or raise segment.max_failures, a share of the fields",
    )


def _select(job: Job, done: list[FieldTask], fields: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return all nuclei with the reason of every rejected one, and the fields with their quality measures."""
    quality = job.settings.quality
    nuclei = nuclei_table(done)
    fields = field_table(fields, done, nuclei, quality)
    return reject_groups(nuclei, fields, quality, job.settings.cells_per_well), fields


def _crop(job: Job, done: list[FieldTask], cells: pd.DataFrame, channels: int) -> Iterator[Event]:
    """Write the windows of all cells, each field into its own rows of one stack whose disk space is reserved first."""
    from cellssl.engine.process_pool import parallel_map
    from cellssl.stages.segment.field import CropTask, crop_field

    shape = (len(cells), channels, job.settings.crop_px, job.settings.crop_px)
    _check_disk(job, len(cells), channels)
    stack = job.draft.file("crops.npy")
    markers = [task.result.with_suffix(".cropped") for task in done]
    if reserve_crops(stack, shape):
        for marker in markers:
            marker.unlink(missing_ok=True)  # it belongs to a stack of other cells
    centres = {str(name): rows[["row_px", "column_px"]].to_numpy() for name, rows in cells.groupby("field_id")}
    first = 0
    left = []
    for task, marker in zip(done, markers, strict=True):
        centres_of_field = centres.get(task.field_id, np.empty((0, 2)))
        if not marker.is_file():
            left.append(CropTask(task, centres_of_field, stack, shape, first, job.settings.border, marker))
        first += len(centres_of_field)
    for number, cropped in enumerate(parallel_map(crop_field, left, job.settings.workers), 1):
        yield Progress(len(done) - len(left) + number, len(done), "fields cropped", cropped.field.field_id)


def _note_flags(fields: pd.DataFrame) -> Iterator[Event]:
    flagged = fields[~fields["field_flags"].isin(["", "quarantined"])]
    if len(flagged):
        kinds = ", ".join(f"{count} {flags}" for flags, count in flagged["field_flags"].value_counts().items())
        yield Note(f"{len(flagged)} of {len(fields)} fields are flagged: {kinds}; see field_flags in fields.parquet")
