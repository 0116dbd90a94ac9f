"""plate: the fields of one plate in, its nuclei found, measured, chosen and cut, or the reasons why not, out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.crops import reserve_crops
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_fields, write_table
from cellssl.engine.build import Job, Metrics
from cellssl.engine.plate_parts import allowed_failures, write_quarantine
from cellssl.engine.weights_cache import FOLDER, find_cached
from cellssl.errors import DataError, FailedError, UsageError
from cellssl.events import Event, Note, Progress
from cellssl.stages.segment.selection import cells_of, chosen, counts_of, field_table, nuclei_table, opened

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.field import FieldTask
    from cellssl.stages.segment.settings import Settings
from cellssl.stages.segment.counts import write_counts
from cellssl.stages.segment.inputs import channels_of, label_image_of, nucleus_of
from cellssl.stages.segment.scale import check_reference, intensity_histogram, no_range, scale_table


def find_and_cut(job: Job) -> Generator[Event, None, Metrics]:
    """Every nucleus of one plate's fields, found, measured, chosen and cut; what is none has its reason."""
    fetched = job.inputs["fetch"]
    fields = read_fields(fetched)
    channels = channels_of(fields)
    if job.settings.reference == "range":
        raise no_range(fetched)
    check_reference(job.settings, fields)
    tasks = list(_tasks(job, fetched, fields, channels))
    if job.settings.illumination == "mean":
        yield from _even_out(tasks, fields, job)
    yield from _find(tasks, fields["well"].nunique(), job)
    failures = _failures(tasks)
    _check_failures(failures, tasks, job)
    done = [task for task in tasks if task.result.is_file()]
    nuclei, fields = _choose(job, done, fields)
    cells = cells_of(nuclei)
    yield from _cut(job, done, cells, len(channels))
    write_table(cells, job.draft.file("cells.parquet"))
    write_table(nuclei[nuclei["reason"].notna()].drop(columns="cell_id"), job.draft.file("dropped.parquet"))
    write_table(fields, job.draft.file("fields.parquet"))
    greys = intensity_histogram(done, fetched, failures)
    write_table(scale_table(job.settings, greys, channels, fields["plate"].iloc[0]), job.draft.file("scale.parquet"))
    counts = counts_of(nuclei, len(tasks), len(failures))
    write_counts(job, counts)
    write_quarantine(failures, job.draft.file("quarantine.csv"))
    if failures:
        yield Note(f"{len(failures)} of {len(tasks)} fields are quarantined; reasons in quarantine.csv")
    yield from _say_flags(fields)
    return counts


def _tasks(job: Job, fetched: Artifact, fields: pd.DataFrame, channels: list[str]) -> Iterator[FieldTask]:
    from cellssl.stages.segment.field import FieldTask

    settings, scratch = job.settings, job.draft.scratch()
    nucleus = nucleus_of(settings, channels)
    phenotypes = _phenotypes(fetched)
    for number, row in enumerate(fields.to_dict("records")):
        truth = row.get("truth_labels")
        images = tuple(fetched.path / row[f"path_{channel}"] for channel in channels)
        yield FieldTask(
            field_id=row["field_id"],
            images=images,
            hashes=tuple(row[f"sha256_{channel}"] for channel in channels),
            nucleus=nucleus,
            pixel_um=None if np.isnan(row["pixel_um"]) else row["pixel_um"],
            count_greys=settings.reference == "all" or bool(row["control"]),
            result=scratch / f"{number:06d}.npz",
            labels=job.draft.file(f"labels/{row['field_id']}_cp_masks.tif") if settings.keep_labels else None,
            given_labels=label_image_of(settings, images[nucleus]),
            truth=fetched.path / truth if isinstance(truth, str) else None,
            phenotypes=phenotypes.get(row["field_id"], {}),
            uneven=_uneven_files(scratch, row["site"], channels) if settings.illumination == "mean" else (),
        )


def _phenotypes(fetched: Artifact) -> dict[str, dict[int, str]]:
    """Of simulated plates: what each true nucleus is."""
    if "truth.csv" not in fetched.card.files:
        return {}
    import pandas as pd

    truth = pd.read_csv(fetched.file("truth.csv"))
    return {
        str(field_id): dict(zip(of_field["label"].astype(int), of_field["phenotype"], strict=True))
        for field_id, of_field in truth.groupby("field_id")
    }


def _even_out(tasks: list[FieldTask], fields: pd.DataFrame, job: Job) -> Iterator[Event]:
    """The shared unevenness of every site and channel, where it is not there yet.

    Images that cannot be read, show nothing, or have another size than most do not count.
    """
    from cellssl.files import save_array
    from cellssl.imaging.illumination import estimate_flatfield, mean_image

    sites: dict[tuple[Path, ...], list[FieldTask]] = {}
    for task in tasks:
        sites.setdefault(task.uneven, []).append(task)
    wanted = [(file, channel, group) for files, group in sites.items() for channel, file in enumerate(files)]
    for number, (file, channel, group) in enumerate(wanted, start=1):
        if not file.is_file():
            mean = mean_image(_readable(group, channel))
            if mean is not None:
                save_array(file, estimate_flatfield(mean, job.settings.illumination_blur_px))
        yield Progress(number, len(wanted), "illumination", file.stem)


def _uneven_files(scratch: Path, site: Any, channels: list[str]) -> tuple[Path, ...]:
    return tuple(scratch / f"uneven-{site}-{channel}.npy" for channel in channels)


def _readable(tasks: list[FieldTask], channel: int) -> Iterator[np.ndarray]:
    """One channel of every field in which it can be read and shows something."""
    from cellssl.artifacts.images import read_channel

    for task in tasks:
        with suppress(DataError):  # its own worker says why, in quarantine
            image = read_channel(task.images[channel])
            if image.min() < image.max():
                yield image


def _find(tasks: list[FieldTask], wells: int, job: Job) -> Iterator[Event]:
    """Every field that has no result yet, on all cores; the order of finishing changes nothing."""
    from cellssl.engine.process_pool import parallel_map
    from cellssl.stages.segment.field import failed_path, say_crashed, segment_field

    left = [task for task in tasks if not task.result.is_file() and not failed_path(task.result).is_file()]
    before = len(tasks) - len(left)
    detector = _detector(job)
    workers = 1 if str(getattr(detector, "device", "cpu")).startswith("cuda") else job.settings.workers
    work = partial(segment_field, settings=job.settings, detector=detector)
    for done, task in enumerate(parallel_map(work, left, workers, say_crashed), 1):
        if done == min(FIRST_FIELDS, len(left)):
            _check_disk(job, _expected_cells(tasks, wells, job.settings), len(task.images))
        yield Progress(before + done, len(tasks), "fields", task.field_id)


def _detector(job: Job) -> Any:
    """What finds nuclei on this machine; what it is made of goes into the card."""
    method = job.settings.method
    prepared = getattr(method, "prepared", None)
    detector = prepared(_weights_of(method, job.context.store), job.context.device) if prepared else method
    if hasattr(detector, "ran"):
        job.ran["segmenter"] = detector.ran()
    return detector


def _weights_of(method: Any, store: Store) -> Path:
    """The file of the detector's network; nothing is downloaded here, in the middle of the night."""
    for place in method.downloads():
        there = find_cached(place, store)
        if there is None:
            raise UsageError(
                f"the weights of {method.plugin_name()}'s {method.model!r} are not at {store.root / FOLDER / place}",
                hint="bring them there with `cellssl doctor RECIPE --download`, or name a file in "
                "segment.method.weights",
            )
        return there
    own: Path = method.weights
    return own


FIRST_FIELDS = 8
"""So many fields say how many cells are to be expected; the disk is asked then, not when it is full."""


def _expected_cells(tasks: list[FieldTask], wells: int, settings: Settings) -> int:
    seen = [int((contents["lost"] == 0).sum()) for _, contents in opened(t for t in tasks if t.result.is_file())]
    expected = round(len(tasks) * float(np.mean(seen))) if seen else 0
    return expected if settings.cells_per_well is None else min(expected, wells * settings.cells_per_well)


def _check_disk(job: Job, cells: int, channels: int) -> None:
    """Raise FailedError where the crops of so many cells will not fit."""
    path = job.draft.path
    there = path / "crops.npy"
    needed = 2 * cells * channels * job.settings.crop_px**2
    free = shutil.disk_usage(path).free + (there.stat().st_size if there.is_file() else 0)
    if needed > free:
        raise FailedError(
            f"about {cells:,} crops need {in_words(needed)}, and {in_words(free)} are free for {path}",
            hint="free some space, cut fewer cells (segment.cells_per_well) or smaller windows (segment.crop_px)",
        )


def in_words(count: int) -> str:
    """A number of bytes as a person says it."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _failures(tasks: list[FieldTask]) -> list[dict[str, str]]:
    from cellssl.stages.segment.field import failed_path

    paths = (failed_path(task.result) for task in tasks)
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def _check_failures(failures: list[dict[str, str]], tasks: list[FieldTask], job: Job) -> None:
    """Raise DataError where more fields are broken than may be; all of them are listed where the work lies."""
    if len(failures) <= allowed_failures(job.settings.max_failures, len(tasks)) and len(failures) < len(tasks):
        return
    from cellssl.stages.segment.field import failed_path

    listed = job.draft.file("quarantine.csv")
    write_quarantine(failures, listed)
    for task in tasks:
        failed_path(task.result).unlink(missing_ok=True)  # the next try looks at them again
    raise DataError(
        f"{len(failures)} of {len(tasks)} fields of plate {job.card.section['plate']} are broken; "
        f"first: {failures[0]['reason']}",
        hint=f"all are listed in {listed}; mend them, or raise segment.max_failures, a share of the fields",
    )


def _choose(job: Job, done: list[FieldTask], fields: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All nuclei, each with the reason why it is no cell if it is none; and the fields with what was measured."""
    quality = job.settings.quality
    nuclei = nuclei_table(done)
    fields = field_table(fields, done, nuclei, quality)
    return chosen(nuclei, fields, quality, job.settings.cells_per_well), fields


def _cut(job: Job, done: list[FieldTask], cells: pd.DataFrame, channels: int) -> Iterator[Event]:
    """The windows of all cells, each field into its own rows of one stack that takes its room on the disk first."""
    from cellssl.engine.process_pool import parallel_map
    from cellssl.stages.segment.field import CutTask, cut_field

    shape = (len(cells), channels, job.settings.crop_px, job.settings.crop_px)
    _check_disk(job, len(cells), channels)
    stack = job.draft.file("crops.npy")
    notes = [task.result.with_suffix(".cut") for task in done]
    if reserve_crops(stack, shape):
        for note in notes:
            note.unlink(missing_ok=True)  # of a stack that was to hold other cells
    centres = {str(name): rows[["row_px", "column_px"]].to_numpy() for name, rows in cells.groupby("field_id")}
    first = 0
    left = []
    for task, note in zip(done, notes, strict=True):
        of_field = centres.get(task.field_id, np.empty((0, 2)))
        if not note.is_file():
            left.append(CutTask(task, of_field, stack, shape, first, job.settings.border, note))
        first += len(of_field)
    for number, cut in enumerate(parallel_map(cut_field, left, job.settings.workers), 1):
        yield Progress(len(done) - len(left) + number, len(done), "fields cut", cut.field.field_id)


def _say_flags(fields: pd.DataFrame) -> Iterator[Event]:
    flagged = fields[~fields["field_flags"].isin(["", "quarantined"])]
    if len(flagged):
        kinds = ", ".join(f"{count} {flags}" for flags, count in flagged["field_flags"].value_counts().items())
        yield Note(f"{len(flagged)} of {len(fields)} fields are flagged: {kinds}; see field_flags in fields.parquet")
