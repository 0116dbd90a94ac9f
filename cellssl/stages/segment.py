"""segment: a field table in, one crop of pixels and one table row for every nucleus out, plate by plate."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from cellssl import rooms
from cellssl.artifacts.card import Card
from cellssl.artifacts.crops import open_crops, write_crops
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_fields, read_table, write_table
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Note, Progress
from cellssl.imaging.cutting import Border
from cellssl.settings import NOT_COUNTED, OfRoom, Part, Strict
from cellssl.stages._make import Bench, Job, Making, Metrics, make_part
from cellssl.stages._plan import card_for
from cellssl.stages.fetch import gathered, parts_of, write_parts, write_quarantine

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages._field import FieldTask

ALGORITHM = 1


class Settings(Strict):
    """Find every nucleus, and cut one window around it."""

    method: Annotated[Part, OfRoom("cellssl.imaging.segmenters")] = Field(
        default_factory=lambda: rooms.load("cellssl.imaging.segmenters", "watershed").Settings()
    )
    """The detector: a name, or a table with a name and its knobs."""
    nucleus_channel: str | None = None
    """The channel that shows nuclei; the first one where nothing is given."""
    crop_px: int = Field(196, ge=8)
    """Side of the window; 196 is about five nuclei across at 0.5 um a pixel."""
    border: Border = "reflect"
    """What happens where the window leaves the field."""
    min_area_px: float = Field(100.0, ge=0)
    """Smaller nuclei are counted as too small and dropped."""
    max_area_px: float = Field(20_000.0, gt=0)
    """Larger nuclei are counted as too large and dropped."""
    reference: Literal["controls", "all"] = "controls"
    """Which wells of a plate set its intensity scale."""
    low_percentile: float = Field(0.1, ge=0, lt=50)
    """Percentile of the reference pixels that becomes 0."""
    high_percentile: float = Field(99.9, gt=50, le=100)
    """Percentile of the reference pixels that becomes 255."""
    keep_labels: bool = False
    """Whether label images of the kept nuclei are written, as labels/FIELD_cp_masks.tif."""
    max_failures: float = Field(0.01, ge=0, le=1)
    """Share of a plate's fields that may be broken; they are listed in quarantine.csv with the reason."""
    workers: int | None = Field(None, ge=1, json_schema_extra=NOT_COUNTED)
    """Processes at work; as many as cores where nothing is given."""


def inputs(settings: Settings) -> tuple[str, ...]:
    """Fields."""
    return ("fetch",)


def seeded(settings: Settings) -> bool:
    """Nothing here is left to chance."""
    return False


def outside(settings: Settings) -> list[Path]:
    """No files but those of fetch."""
    return []


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Make the missing plates, then gather their tables; no pixel is copied by gathering."""
    fetch = job.inputs["fetch"]
    parts = {}
    for plate, fetched in parts_of(fetch):
        parts[plate] = yield from make_plate(
            job.settings, job.bench, job.bench.store.beside(fetch).get("fetch", fetched)
        )
    fields = gathered({plate: read_fields(part) for plate, part in parts.items()}, parts)
    cells = gathered({plate: read_table(part.file("cells.parquet")) for plate, part in parts.items()}, parts)
    scale = gathered({plate: read_table(part.file("scale.parquet")) for plate, part in parts.items()}, parts)
    counts = {
        name: sum(part.card.metrics[name] for part in parts.values())
        for name in next(iter(parts.values())).card.metrics
    }
    if cells.empty:
        raise DataError("no nucleus was found in any field", hint="check nucleus_channel, min_area_px and the images")
    if not cells["cell_id"].is_unique:
        again = cells["cell_id"][cells["cell_id"].duplicated()].iloc[0]
        raise DataError(f"the cell_id {again!r} occurs more than once", hint="field ids must differ between plates")
    write_table(fields, job.draft.file("fields.parquet"))
    write_table(cells, job.draft.file("cells.parquet"))
    write_table(scale, job.draft.file("scale.parquet"))
    write_parts(parts, job.draft.file("parts.json"))
    _write_counts(job, counts)
    yield from _contact_sheet(job, cells, parts)
    return counts


def make_plate(settings: Settings, bench: Bench, fetched: Artifact) -> Making:
    """The part that holds the cells of one plate, found or made."""
    return (yield from make_part(bench, plate_card(settings, fetched), settings, {"fetch": fetched}, _make_plate))


def plate_card(settings: Settings, fetched: Artifact) -> Card:
    """What determines one plate's part: the settings, and that plate's fields."""
    identity = {"plate": fetched.card.section["plate"]}
    return card_for("segment", ALGORITHM, settings, {"fetch": fetched.fingerprint}, {}, identity=identity)


def _make_plate(job: Job) -> Generator[Event, None, Metrics]:
    fetched = job.inputs["fetch"]
    if "crops.npy" in fetched.card.files:
        return (yield from _pass_through(job, fetched))
    fields = read_fields(fetched)
    channels = [name.removeprefix("path_") for name in fields.columns if name.startswith("path_")]
    _check_reference(job.settings, fields)
    tasks = list(_tasks(job, fetched, fields, channels))
    yield from _work(tasks, job.settings)
    failures = _failures(tasks)
    _check_failures(failures, tasks, job.settings, fetched)
    done = [task for task in tasks if task.result.is_file()]
    cells = _cell_table(_opened(done))
    shape = (len(cells), len(channels), job.settings.crop_px, job.settings.crop_px)
    write_crops(job.draft.file("crops.npy"), (contents["crops"] for _, contents in _opened(done)), shape)
    write_table(cells, job.draft.file("cells.parquet"))
    write_table(fields, job.draft.file("fields.parquet"))
    if not any(task.count_greys for task in done):
        raise DataError(
            f"every control field of {fetched.path.name} is broken; first: {failures[0]['reason']}",
            hint='mend them, or set segment.reference = "all"',
        )
    counted = (contents["greys"] for _, contents in _opened(done) if "greys" in contents)
    greys = sum((counts.astype(np.int64) for counts in counted), np.int64(0))
    write_table(_scale(job.settings, greys, channels, fields["plate"].iloc[0]), job.draft.file("scale.parquet"))
    counts = _balance(_opened(done), len(tasks), len(failures))
    _write_counts(job, counts)
    write_quarantine(failures, job.draft.file("quarantine.csv"))
    if failures:
        yield Note(f"{len(failures)} of {len(tasks)} fields are quarantined; reasons in quarantine.csv")
    return counts


def _tasks(job: Job, fetched: Artifact, fields: pd.DataFrame, channels: list[str]) -> Iterator[FieldTask]:
    from cellssl.stages._field import FieldTask

    settings, scratch = job.settings, job.draft.scratch()
    nucleus = _nucleus(settings, channels)
    phenotypes = _phenotypes(fetched)
    for number, row in enumerate(fields.to_dict("records")):
        truth = row.get("truth_labels")
        yield FieldTask(
            field_id=row["field_id"],
            images=tuple(fetched.path / row[f"path_{channel}"] for channel in channels),
            hashes=tuple(row[f"sha256_{channel}"] for channel in channels),
            nucleus=nucleus,
            pixel_um=None if np.isnan(row["pixel_um"]) else row["pixel_um"],
            count_greys=settings.reference == "all" or bool(row["control"]),
            result=scratch / f"{number:06d}.npz",
            labels=job.draft.file(f"labels/{row['field_id']}_cp_masks.tif") if settings.keep_labels else None,
            truth=fetched.path / truth if isinstance(truth, str) else None,
            phenotypes=phenotypes.get(row["field_id"], {}),
        )


def _work(tasks: list[FieldTask], settings: Settings) -> Iterator[Event]:
    """Every field that has no result yet, on all cores; the order of finishing changes nothing."""
    from cellssl.stages._field import failed_path, segment_field
    from cellssl.stages._workers import spread

    left = [task for task in tasks if not task.result.is_file() and not failed_path(task.result).is_file()]
    done = len(tasks) - len(left)
    for task in spread(partial(segment_field, settings=settings), left, settings.workers):
        done += 1
        yield Progress(done, len(tasks), "fields", task.field_id)


def _opened(done: list[FieldTask]) -> Iterator[tuple[FieldTask, Any]]:
    """One result at a time: a plate has more fields than a process may have open files."""
    for task in done:
        with np.load(task.result, allow_pickle=False) as contents:
            yield task, contents


def _cell_table(done: Iterable[tuple[FieldTask, Any]]) -> pd.DataFrame:
    import pandas as pd

    tables = []
    for task, contents in done:
        table = pd.DataFrame({name: contents[name] for name in MEASURED})
        table.insert(0, "cell_id", [f"{task.field_id}_{label:04d}" for label in range(1, len(table) + 1)])
        table.insert(1, "field_id", task.field_id)
        if "true_label" in contents:
            table["true_phenotype"] = [task.phenotypes.get(int(label)) for label in contents["true_label"]]
        tables.append(table)
    cells = pd.concat(tables, ignore_index=True)
    cells["crop_row"] = np.arange(len(cells))
    if "true_phenotype" in cells:
        cells["true_phenotype"] = cells["true_phenotype"].astype("string")
    return cells


MEASURED = ("row_px", "column_px", "area_px", "eccentricity", "neighbours")


def _scale(settings: Settings, greys: Any, channels: list[str], plate: str) -> pd.DataFrame:
    import pandas as pd

    from cellssl.imaging.scaling import Histogram

    histogram = Histogram(greys)
    limits = [histogram.percentile(percent) for percent in (settings.low_percentile, settings.high_percentile)]
    return pd.DataFrame({"plate": plate, "channel": channels, "low": limits[0], "high": limits[1]})


def _pass_through(job: Job, fetched: Artifact) -> Generator[Event, None, Metrics]:
    """Crops that a lab has already cut: nothing is found, nothing dropped; the scale is that of the control cells."""
    import pandas as pd

    from cellssl.stages._field import greys

    fields, cells = (
        read_fields(fetched),
        pd.read_csv(fetched.file("cells.csv"), dtype={"cell_id": str, "field_id": str}),
    )
    _check_reference(job.settings, fields)
    crops = open_crops(fetched.file("crops.npy"))
    control = cells["field_id"].isin(fields["field_id"][fields["control"]]).to_numpy()
    counted = np.flatnonzero(control) if job.settings.reference == "controls" else np.arange(len(cells))
    total: Any = np.int64(0)
    for start in range(0, len(counted), BLOCK):
        rows = counted[start : start + BLOCK]
        total = total + greys(crops[rows].swapaxes(0, 1).reshape(crops.shape[1], -1, crops.shape[3])).astype(np.int64)
        yield Progress(start + len(rows), len(counted), "reference cells")
    channels = json.loads(fetched.file("channels.json").read_text(encoding="utf-8"))
    blocks = (crops[start : start + BLOCK] for start in range(0, len(crops), BLOCK))
    write_crops(job.draft.file("crops.npy"), blocks, crops.shape)
    cells["crop_row"] = np.arange(len(cells))
    write_table(cells, job.draft.file("cells.parquet"))
    write_table(fields, job.draft.file("fields.parquet"))
    write_table(_scale(job.settings, total, channels, fields["plate"].iloc[0]), job.draft.file("scale.parquet"))
    counts = {"fields": len(fields), "quarantined": 0, "detected": len(cells), "kept": len(cells)}
    _write_counts(job, counts)
    return counts


BLOCK = 256
"""Crops moved at a time."""


def _contact_sheet(job: Job, cells: pd.DataFrame, parts: dict[str, Artifact]) -> Iterator[Event]:
    """64 cells from all over, as every model will see them."""
    from PIL import Image

    from cellssl.artifacts.atomic import replacing
    from cellssl.imaging.colour import contact_sheet, named_colours, to_rgb
    from cellssl.randomness import generator
    from cellssl.stages._cells import ScaledCrops

    yield Progress(0, 1, "contact sheet")
    crops = ScaledCrops({part.fingerprint: part for part in parts.values()}, cells)
    rows = np.sort(generator("contact sheet").permutation(len(cells))[:64])
    sheet = contact_sheet(to_rgb(crops.read(rows), named_colours(crops.channels)), columns=8)
    with replacing(job.draft.file("contact-sheet.png")) as beside:
        Image.fromarray(sheet).save(beside, format="PNG")


def _nucleus(settings: Settings, channels: list[str]) -> int:
    if settings.nucleus_channel is None:
        return 0
    if settings.nucleus_channel not in channels:
        hint = rooms.did_you_mean(settings.nucleus_channel, tuple(channels))
        raise UsageError(f"there is no channel {settings.nucleus_channel!r}", hint=hint)
    return channels.index(settings.nucleus_channel)


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


def _check_reference(settings: Settings, fields: pd.DataFrame) -> None:
    if settings.reference == "controls" and not fields["control"].any():
        raise UsageError(
            f"plate {fields['plate'].iloc[0]} has no control wells to set its intensity scale",
            hint='name them in fetch.controls, or set segment.reference = "all"',
        )


def _failures(tasks: list[FieldTask]) -> list[dict[str, str]]:
    from cellssl.stages._field import failed_path

    paths = (failed_path(task.result) for task in tasks)
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def _check_failures(
    failures: list[dict[str, str]], tasks: list[FieldTask], settings: Settings, fetched: Artifact
) -> None:
    if len(failures) <= settings.max_failures * len(tasks) and len(failures) < len(tasks):
        return
    from cellssl.stages._field import failed_path

    for task in tasks:
        failed_path(task.result).unlink(missing_ok=True)  # the next try looks at them again
    raise DataError(
        f"{len(failures)} of {len(tasks)} fields of {fetched.path.name} are broken; first: {failures[0]['reason']}",
        hint="mend them, or raise segment.max_failures, a share of the fields",
    )


def _balance(done: Iterable[tuple[FieldTask, Any]], fields: int, quarantined: int) -> dict[str, int]:
    from cellssl.stages._field import COUNTS

    totals = np.sum([contents["counts"] for _, contents in done], axis=0)
    return {"fields": fields, "quarantined": quarantined, **dict(zip(COUNTS, map(int, totals), strict=True))}


def _write_counts(job: Job, counts: dict[str, int]) -> None:
    job.draft.file("counts.json").write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
