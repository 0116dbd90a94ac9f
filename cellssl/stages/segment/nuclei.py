"""nuclei: the fields of one plate in; label images and measurements of all its nuclei, whatever the limits, out.

They are an artifact of their own, the nuclei part of a plate, so that other limits and other crops detect nothing anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import NUCLEI, explained, read_fields, read_table, write_table
from cellssl.bounded import map_array
from cellssl.counting import counted
from cellssl.engine.build import Job, Metrics
from cellssl.engine.plate_parts import allowed_failures, write_quarantine
from cellssl.engine.weights_cache import FOLDER, find_cached
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Note, Progress
from cellssl.files import save_array
from cellssl.images.formats import experimental_formats, experimental_note
from cellssl.imaging.cell_brightness import CellBrightness
from cellssl.stages.segment.brightness import LEVELS, OF_NUCLEI_FILE, with_levels
from cellssl.stages.segment.counts import write_counts
from cellssl.stages.segment.field import (
    BACKGROUND,
    BRIGHTNESS,
    FIELD_SIDES,
    GREY_VALUES,
    MERGED_LOBES,
    OF_FIELD,
    OF_NUCLEI,
    FieldTask,
)
from cellssl.stages.segment.inputs import channels_of
from cellssl.stages.segment.tasks import field_tasks

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.imaging.cell_segmenter import CellSegmenterSettings
    from cellssl.imaging.segmenter import PublishedFile, SegmenterSettings

GREY_VALUES_FILE = "grey_values.npy"
"""How often each grey value occurs: (reference, channel, value), where reference is 0 for the control fields and 1 for
all fields."""
SEGMENTERS = ("segmenter", "cell_segmenter")
"""Keys of a card's `run` with what each of them reports."""
FIRST_FIELDS = 8
"""After so many fields the number of cells is extrapolated."""
WhenFirstAreDone = Callable[["pd.DataFrame", "pd.DataFrame"], None]
"""What is called after the first fields, with their nuclei, and with the table of all fields and those measures."""


def detect_plate(job: Job, first_done: WhenFirstAreDone) -> Generator[Event, None, Metrics]:
    """Find and measure all nuclei of one plate's fields; no limit is applied."""
    fetched = job.inputs["fetch"]
    fields = read_fields(fetched)
    tasks = field_tasks(job.settings, fields, fetched, job.context, job.draft)
    yield from _note_experimental(tasks)
    if job.settings.illumination == "mean":
        yield from _estimate_flatfields(tasks, job)
    yield from _segment_fields(tasks, job, lambda done: _call_with_tables(first_done, fields, done))
    failures = _failures(tasks)
    _check_failures(failures, tasks, job)
    done = [task for task in tasks if task.result.is_file()]
    nuclei = nuclei_table(done)
    write_table(nuclei, job.draft.file("nuclei.parquet"))
    write_table(_brightness_table(nuclei, done, channels_of(fields)), job.draft.file(OF_NUCLEI_FILE))
    measured = _with_measures(fields, done, nuclei)
    write_table(measured, job.draft.file("fields.parquet"))
    save_array(job.draft.file(GREY_VALUES_FILE), _grey_values(done, set(fields["field_id"][fields["control"]])))
    write_quarantine(failures, job.draft.file("quarantine.csv"))
    counts = {"fields": len(tasks), "quarantined": len(failures), "detected": len(nuclei)}
    if job.settings.lobes is not None:
        counts["merged_lobes"] = int(measured[MERGED_LOBES].sum())
        plate, found = fields["plate"].iloc[0], len(nuclei) + counts["merged_lobes"]
        yield Note(f"plate {plate}: {found:,} nuclei were found; merging lobes of one cell left {len(nuclei):,}")
    write_counts(job, counts)
    if job.settings.illumination == "off":
        yield from _propose_illumination(measured, done, nuclei)
    return counts


def _propose_illumination(fields: pd.DataFrame, done: list[FieldTask], nuclei: pd.DataFrame) -> Iterator[Event]:
    """Say that a correction of the illumination pays, and what to write, where fields share a tilt or a vignette.

    Fields of a site are compared; where sites have too few fields, those of the whole plate.
    """
    from cellssl.imaging.illumination import MIN_FIELDS, shared_background

    sites = _backgrounds_by_site(fields, done)
    brightness = float(nuclei["brightness"].median())
    many = [of_site for of_site in sites if len(of_site) >= MIN_FIELDS]
    few = [of_site for of_site in sites if len(of_site) < MIN_FIELDS]
    of_few = shared_background(np.concatenate(few), brightness) if few else None
    shared = [one for one in (*(shared_background(of_site, brightness) for of_site in many), of_few) if one is not None]
    if shared:
        compared = sum(one.fields for one in shared)
        yield Note(
            f"plate {fields['plate'].iloc[0]}: the background of {counted(compared, 'field')} varies alike, by "
            f"{max(one.variation for one in shared):,.0f} grey values across a field (a nucleus exceeds it by "
            f'{brightness:,.0f}): if the lamp is uneven, correct it with segment.illumination = "mean" and '
            f"segment.illumination_blur_px = {_tenth_of_a_side_px(fields)}{_of_few_fields(few) if of_few else ''}"
        )


def _backgrounds_by_site(fields: pd.DataFrame, done: list[FieldTask]) -> list[np.ndarray]:
    """Return the backgrounds of all fields of every site, (field, tile, tile); without fields that nuclei fill."""
    from cellssl.imaging.illumination import GRID

    site_of = dict(zip(fields["field_id"], fields["site"], strict=True))
    grids: dict[Any, list[np.ndarray]] = {}
    for task, arrays in iter_results(done):
        if np.isfinite(arrays[BACKGROUND]).all():
            grids.setdefault(site_of[task.field_id], []).append(arrays[BACKGROUND])
    return [np.array(of_site).reshape(-1, GRID, GRID) for of_site in grids.values()]


def _of_few_fields(sites: list[np.ndarray]) -> str:
    """Return what to mind where a flat field, which every site has of its own, is the mean of few fields."""
    most = counted(max(map(len, sites)), "field")
    return (
        f"; flat fields are made per site, and these sites have {most} at most, in whose mean single cells are "
        "visible: look whether the contact sheet is better with the correction"
    )


def _tenth_of_a_side_px(fields: pd.DataFrame) -> int:
    """Return the width of the blur that leaves a vignette in the flat field, for the size of most fields."""
    return max(round(float(fields[list(FIELD_SIDES)].min(axis=1).median()) / 10), 1)


def read_nuclei(part: Artifact) -> pd.DataFrame:
    """Return the table of all nuclei of a plate: one row per nucleus, `nucleus_label` its number in the label image."""
    return read_table(part.file("nuclei.parquet"), NUCLEI)


def read_grey_values(part: Artifact, channels: int) -> np.ndarray:
    """Return the counts of every grey value in the control fields and in all fields, (2, channel, value)."""
    path = part.file(GREY_VALUES_FILE)
    with explained(path):
        counts = np.array(map_array(path))
        if counts.dtype != np.int64 or counts.shape[:2] != (2, channels) or counts.ndim != 3 or counts.min() < 0:
            raise ValueError(f"it holds {counts.dtype} of the shape {counts.shape}, not counts of {channels} channels")
    return counts


def _note_experimental(tasks: list[FieldTask]) -> Iterator[Event]:
    """Say which images are of a format whose reader was not tried on an instrument's file yet."""
    files = dict.fromkeys(file for task in tasks for image in task.images for file in image.reference.files)
    yield from (Note(experimental_note(name)) for name in experimental_formats(list(map(Path, files))))


def _estimate_flatfields(tasks: list[FieldTask], job: Job) -> Iterator[Event]:
    """Write the flat field of every site and channel, where it does not exist yet.

    Images that cannot be read, are blank, or have another size than most are left out. Raises IntegrityError for one
    that is not the file that was fetched: flat fields outlive a run that stops.
    """
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


def _readable_images(tasks: list[FieldTask], channel: int) -> Iterator[np.ndarray]:
    """Yield one channel of every field in which it can be read and is not blank."""
    from cellssl.stages.segment.field import read_fetched

    for task in tasks:
        with suppress(DataError):  # the worker of the field writes the reason into quarantine.csv
            image = read_fetched(task.images[channel])
            if image.min() < image.max():
                yield image


def _call_with_tables(first_done: WhenFirstAreDone, fields: pd.DataFrame, done: list[FieldTask]) -> None:
    if done:
        nuclei = nuclei_table(done)
        first_done(nuclei, _with_measures(fields, done, nuclei))


def _segment_fields(tasks: list[FieldTask], job: Job, first_done: Callable[[list[FieldTask]], None]) -> Iterator[Event]:
    """Segment every field without a result on all cores; the order of finishing does not change the results."""
    from cellssl.engine.process_pool import parallel_map
    from cellssl.stages.segment.field import failed_path, segment_field, write_crashed

    left = [task for task in tasks if not task.result.is_file() and not failed_path(task.result).is_file()]
    before = len(tasks) - len(left)
    cells = job.settings.cells
    segmenter = _prepared(job, job.settings.method, "segment.method", SEGMENTERS[0])
    cell_segmenter = None if cells is None else _prepared(job, cells.method, "segment.cells.method", SEGMENTERS[1])
    devices = [one.runs_on() for one in (segmenter, cell_segmenter) if one is not None]
    workers = 1 if any(device.startswith("cuda") for device in devices) else job.settings.workers
    work = partial(segment_field, settings=job.settings, segmenter=segmenter, cell_segmenter=cell_segmenter)
    for done, task in enumerate(parallel_map(work, left, workers, write_crashed), 1):
        if done == min(FIRST_FIELDS, len(left)):
            first_done([one for one in tasks if one.result.is_file()])
        yield Progress(before + done, len(tasks), "fields", task.field_id)


def _prepared(job: Job, method: SegmenterSettings | CellSegmenterSettings, place: str, report_as: str) -> Any:
    """Return what segments on this machine, and record what it reports in the card; `place` is that of its settings."""
    downloaded = _downloaded(method.downloads(), f"{place}.weights", job.context.store)
    segmenter = method.prepare(downloaded, job.context.device)
    if report := segmenter.ran():
        job.ran[report_as] = report
    return segmenter


def _downloaded(files: Sequence[PublishedFile], setting: str, store: Store) -> list[Path]:
    """Return the published files that a segmenter needs; UsageError for a missing one, which is not downloaded here.

    A run may start unattended, so a download must not fail in the middle of it.
    """
    found = {file: find_cached(file.place, store) for file in files}
    for file, path in found.items():
        if path is None:
            raise UsageError(
                f"{file.what} are missing: {store.root / FOLDER / file.place}",
                hint=f"download them with `cellssl doctor RECIPE --download`, or name a file in {setting}",
            )
    return [path for path in found.values() if path is not None]


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
    raise too_many_failures(job, failures[0]["reason"], len(failures), len(tasks), listed)


def too_many_failures(job: Job, first: str, failed: int, fields: int, listed: Path) -> DataError:
    """Return the error for a plate of which more fields failed than `max_failures` allows."""
    return DataError(
        f"{failed} of {fields} fields of plate {job.card.section['plate']} are broken; first: {first}",
        hint=f"all are listed in {listed}; repair them, or raise segment.max_failures, a share of the fields",
    )


def iter_results(done: Iterable[FieldTask]) -> Iterator[tuple[FieldTask, Any]]:
    """Yield one result at a time: a plate may have more fields than a process may have open files."""
    for task in done:
        with np.load(task.result, allow_pickle=False) as arrays:
            yield task, arrays


def nuclei_table(done: Iterable[FieldTask]) -> pd.DataFrame:
    """Return one row per detected nucleus, field by field, in the order of the labels."""
    import pandas as pd

    tables = [_nuclei_of_field(task, arrays) for task, arrays in iter_results(done)]
    return pd.concat(tables, ignore_index=True)


def _nuclei_of_field(task: FieldTask, arrays: Any) -> pd.DataFrame:
    import pandas as pd

    names = [name for name in arrays.files if name.startswith(OF_NUCLEI)]
    table = pd.DataFrame({name.removeprefix(OF_NUCLEI): arrays[name] for name in names})
    table.insert(0, "field_id", pd.Series([task.field_id] * len(table), dtype="string"))
    table.insert(1, "nucleus_label", np.arange(1, len(table) + 1))
    if "true_label" in table:
        true = [task.phenotypes.get(int(label)) for label in table.pop("true_label")]
        table["true_phenotype"] = pd.Series(true, dtype="string")
    return table


def _brightness_table(nuclei: pd.DataFrame, done: Iterable[FieldTask], channels: list[str]) -> pd.DataFrame:
    """Return how bright every detected nucleus is in every channel, in the order of the table of nuclei."""
    found = [[arrays[f"{BRIGHTNESS}{level}"] for level in LEVELS] for _, arrays in iter_results(done)]
    levels = CellBrightness(*(np.concatenate(of_fields) for of_fields in zip(*found, strict=True)))
    return with_levels(nuclei[["field_id", "nucleus_label"]], levels, channels)


def _with_measures(fields: pd.DataFrame, done: Iterable[FieldTask], nuclei: pd.DataFrame) -> pd.DataFrame:
    """Return the field table with the measures of the fields; a field without a result has none."""
    measured: dict[str, dict[str, float]] = {}
    for task, arrays in iter_results(done):
        for name in (name for name in arrays.files if name.startswith(OF_FIELD)):
            measured.setdefault(name.removeprefix(OF_FIELD), {})[task.field_id] = arrays[name].item()
    table = fields.copy()
    for column, values in measured.items():
        table[column] = [values.get(one, np.nan) for one in table["field_id"]]
    table = table.astype(dict.fromkeys(FIELD_SIDES, "Int64"))
    detected = nuclei["field_id"].value_counts()
    table["field_nuclei"] = [int(detected.get(one, 0)) for one in table["field_id"]]
    return table


def _grey_values(done: Iterable[FieldTask], controls: set[str]) -> np.ndarray:
    """Return the counts of every grey value in the control fields and in all fields, (2, channel, value)."""
    from cellssl.imaging.scaling import GREY_LEVELS

    total: np.ndarray | None = None
    for task, arrays in iter_results(done):
        if total is None:
            total = np.zeros((2, len(task.images), GREY_LEVELS), np.int64)
        for channel in range(len(task.images)):
            counts = arrays[f"{GREY_VALUES}{channel}"]
            total[1, channel, : len(counts)] += counts
            if task.field_id in controls:
                total[0, channel, : len(counts)] += counts
    assert total is not None  # a plate without a single good field is an error before
    return total
