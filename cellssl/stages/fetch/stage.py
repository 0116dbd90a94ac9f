"""stage: the settings of a data set in, its images as files and one field table out, plate by plate."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.card import PARTS, Card
from cellssl.artifacts.contents import metrics_of, read_text
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import TREATMENT_COLUMNS, read_fields, write_table
from cellssl.config.plugins import did_you_mean
from cellssl.datasets.base import Dataset, Field
from cellssl.datasets.tables.controls import is_control
from cellssl.datasets.transfer.checksums import ARCHIVES_FILE, RECORD_FILE, concat_records
from cellssl.datasets.transfer.threads import run_in_thread
from cellssl.disk import raise_fault
from cellssl.engine.build import Build, Job, Metrics, RunContext, build_part
from cellssl.engine.cards import card_for
from cellssl.engine.plate_parts import (
    QUARANTINE,
    allowed_failures,
    concat_parts,
    gather_quarantine,
    write_parts,
    write_quarantine,
)
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Note, PlatesDone, PlateStarted
from cellssl.files import write_text
from cellssl.images.reference import parse_reference
from cellssl.stages.fetch.check import check_plates
from cellssl.stages.fetch.contradictions import contradictions_by_kind
from cellssl.stages.fetch.findings import SAME_IMAGE, Check, Tolerances, kinds_of, sentence_of, way_out
from cellssl.stages.fetch.sample import first_look, sampled
from cellssl.stages.fetch.settings import ALGORITHM, PlateSettings, Settings
from cellssl.stages.shared.card_shapes import FetchMetrics

if TYPE_CHECKING:
    import pandas as pd

LENIENT = Tolerances(missing=1, broken=1)
"""Here nothing is refused because of a header: the check before the work has done so, and every plate counts itself."""


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Make the missing plates, then gather their tables; gathering copies no pixels."""
    settings: Settings = job.settings
    plates, of = yield from run_in_thread(partial(_planned_and_all, settings, job.context))
    fields = [field for plate_fields in plates.values() for field in plate_fields]
    if of > len(fields):
        yield Note(f"{first_look(len(fields), of)} (fetch.sample), which is no result; leave it out for all of them")
    remarks = yield from run_in_thread(partial(settings.dataset.remarks, settings.controls))
    check = yield from check_plates(plates, settings.controls, LENIENT, job.context, remarks)
    parts = yield from _all_plates(settings, job.context, plates)
    table = concat_parts({plate: read_fields(part) for plate, part in parts.items()}, parts)
    write_table(table, job.draft.file("fields.parquet"))
    noticed = list(contradictions_by_kind(table, settings.controls))
    same_bytes = [sentence for kind, sentence in noticed if kind == SAME_IMAGE]
    shown = same_bytes if job.context.refused is not None else [*map(str, remarks), *(words for _, words in noticed)]
    yield from map(Note, shown)
    warnings = _warnings(check, same_bytes)
    for name, text in settings.dataset.tables(fields, _cache(job.context)).items():
        write_text(job.draft.file(f"tables/{name}"), text)
    _gather_records(parts, job.draft.file(RECORD_FILE))
    gather_quarantine(parts, job.draft.file(QUARANTINE))
    write_parts(parts, job.draft.file(PARTS))
    failed = sum(metrics_of(part, FetchMetrics).quarantined for part in parts.values())
    return {
        "planned": len(fields),
        "fields": len(table),
        "plates": len(parts),
        "quarantined": failed,
        "controls": int(table["control"].sum()),
        "wells": int(table[["plate", "well"]].drop_duplicates().shape[0]),
        "warnings": sum(warnings.values()),
        "warning_kinds": warnings,
        **({"sampled_of": of} if of > len(fields) else {}),
    }


def _all_plates(
    settings: Settings, context: RunContext, plates: Mapping[str, list[Field]]
) -> Generator[Event, None, dict[str, Artifact]]:
    """Return the part of every plate; DataError, after all others are made, where plates are refused or fail."""
    parts, bad = {}, dict(context.refused or {})
    hint = ""
    for number, (plate, fields) in enumerate(plates.items(), start=1):
        if plate in bad:
            continue
        yield PlateStarted(plate, number, len(plates))
        yield Note(f"plate {plate}, {number} of {len(plates)}: {len(fields):,} fields")
        try:
            parts[plate] = yield from make_plate(settings, context, fields)
        except DataError as error:
            bad[plate], hint = error.message, error.hint
            if len(plates) > 1:
                yield Note(f"{error.message}; continuing with the other plates")
    yield PlatesDone()
    if bad and len(plates) > 1:
        shares = "fetch.max_failures or segment.max_failures"
        hint = way_out(bad, len(plates), "repair them (cellssl check lists all faults)", shares)
    if bad:
        raise DataError(sentence_of(bad, len(plates)), hint=hint)
    return parts


def _warnings(check: Check, same_bytes: list[str]) -> dict[str, int]:
    """Return the number of warnings by kind; whether images are the same is decided by their bytes, not their names."""
    others = kinds_of(one for one in check.warnings + check.errors if one.kind != SAME_IMAGE)
    return {**others, SAME_IMAGE: len(same_bytes)} if same_bytes else others


def planned_plates(settings: Settings, context: RunContext) -> dict[str, list[Field]]:
    """Return the selected fields by plate, without those of excluded plates, or a sample of them.

    Raises UsageError where no field is selected.
    """
    return _planned_and_all(settings, context)[0]


def _planned_and_all(settings: Settings, context: RunContext) -> tuple[dict[str, list[Field]], int]:
    """Return the planned fields by plate, and the number of fields of which they are a sample."""
    planned = settings.dataset.plan(_cache(context))
    names = tuple(sorted({field.plate for field in planned}))
    for plate in settings.exclude_plates:
        if plate not in names:
            raise UsageError(
                f"fetch.exclude_plates names {plate!r}, and the data set has no such plate",
                hint=did_you_mean(plate, names),
            )
    fields = [field for field in planned if field.plate not in settings.exclude_plates]
    if not fields:
        raise UsageError(
            "the data set's settings select no field", hint="select more compounds, doses, plates or wells"
        )
    taken = fields if settings.sample is None else sampled(fields, settings.sample, settings.controls)
    return by_plate(taken), len(fields)


def make_plate(settings: Settings, context: RunContext, fields: list[Field]) -> Build:
    """Find or make the artifact that holds the fields of one plate."""
    card = plate_card(settings, context, fields)
    make = partial(_make_plate, settings.dataset, fields)
    return (yield from build_part(context, card, plate_settings(settings), {}, make))


def plate_card(settings: Settings, context: RunContext, fields: list[Field]) -> Card:
    """Return the card of one plate: its rows, the bytes of the user's images, and the identity from the data set."""
    dataset = settings.dataset
    rows = [field.row() for field in fields]
    identity = {
        "plate": fields[0].plate,
        "fields": [{**row, "images": [*map(list, _artifact_images(row["images"]).items())]} for row in rows],
        "dataset": {
            "name": dataset.plugin_name(),
            "algorithm": dataset.algorithm(),
            **dataset.identity(fields, context.store.hashes.sha256),
        },
        "images": _external_hashes(context, fields),
    }
    return card_for("fetch", ALGORITHM, plate_settings(settings), {}, {}, identity=identity)


def plate_settings(settings: Settings) -> PlateSettings:
    """Return the settings that count in the part of one plate besides the data set."""
    return PlateSettings(controls=settings.controls, max_failures=settings.max_failures)


def by_plate(fields: Sequence[Field]) -> dict[str, list[Field]]:
    """Return the fields of every plate, sorted by plate, well and site."""
    ordered = sorted(fields, key=lambda field: (field.plate, field.well, field.site))
    return {plate: list(group) for plate, group in groupby(ordered, key=lambda field: field.plate)}


def fields_of(settings: Settings, plate: str, context: RunContext) -> list[Field]:
    """Return the fields of one plate; UsageError where the data set has no such plate."""
    plates = planned_plates(settings, context)
    if plate not in plates:
        raise UsageError(f"the data set has no plate {plate!r}", hint=did_you_mean(plate, tuple(plates)))
    return plates[plate]


def _make_plate(dataset: Dataset, fields: list[Field], job: Job) -> Generator[Event, None, Metrics]:
    """Let the data set write its files, then write the field table, with the hash of every image.

    Raises DataError where more fields are missing or broken than `max_failures` allows.
    """
    reasons = yield from dataset.make(fields, job.draft.path)
    job.draft.extra(ARCHIVES_FILE)
    table, failures = _field_table(fields, job, reasons)
    if len(failures) > allowed_failures(job.settings.max_failures, len(fields)) or table.empty:
        first = failures[0]
        raise DataError(
            f"{len(failures)} of {len(fields)} fields of plate {fields[0].plate} are missing or broken; "
            f"first: {first['field_id']}: {first['reason']}",
            hint="repair them, or raise fetch.max_failures, the share of fields that may be missing or broken",
        )
    if failures:
        path = job.draft.target / QUARANTINE
        yield Note(f"plate {fields[0].plate}: {len(failures)} fields are quarantined; the reasons are in {path}")
        _remove_images(fields, {failure["field_id"] for failure in failures}, job.draft.path)
    write_table(table, job.draft.file("fields.parquet"))
    write_quarantine(failures, job.draft.file(QUARANTINE))
    return {"planned": len(fields), "fields": len(table), "quarantined": len(failures)}


def _remove_images(fields: Sequence[Field], quarantined: set[str], folder: Path) -> None:
    """Remove the images of quarantined fields from the artifact; images of the user stay where they are."""
    for field in fields:
        if field.field_id in quarantined:
            for text in _artifact_images(field.images).values():
                for file in parse_reference(text).files:
                    (folder / file).unlink(missing_ok=True)


def _field_table(
    fields: Sequence[Field], job: Job, reasons: Mapping[str, str]
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """Return one row per field with readable images, and the id and reason of every other field.

    Raises FailedError where the file system failed to give the bytes of an image, which may be whole.
    """
    import pandas as pd

    rows, failures = [], []
    for field in fields:
        try:
            rows.append(_row(field, job))
        except DataError as error:
            raise_fault(error, job.draft.path)
            failures.append({"field_id": field.field_id, "reason": reasons.get(field.field_id, error.message)})
    columns = ["field_id", "plate", "well", "site", *TREATMENT_COLUMNS, "control"]
    table = pd.DataFrame(rows)
    if table.empty:
        table = pd.DataFrame(columns=columns)
    for name in ("batch", "compound", "moa"):
        table[name] = table[name].astype("string")
    for name in ("dose_micromolar", "pixel_um"):
        table[name] = table[name].astype("float64")
    return table, failures


def _row(field: Field, job: Job) -> dict[str, Any]:
    """Return the row of a field, with path and hash of its images; DataError where one is missing or unreadable."""
    from cellssl.images.content import reference_fault

    values = asdict(field)
    row = {name: values[name] for name in ("field_id", "plate", "well", "site", *TREATMENT_COLUMNS)}
    row["control"] = is_control(field.compound, field.control_type, job.settings.controls)
    for channel, text in field.images.items():
        row[f"path_{channel}"] = text
        if fault := reference_fault(parse_reference(text), job.draft.path):
            raise DataError(fault)
        row[f"sha256_{channel}"] = _hash_of(text, job)
    known = {} if field.control_type is None else {"control_type": field.control_type}
    return {**row, **known, **field.extra}


def _hash_of(text: str, job: Job) -> str:
    """Return the hash of an image: of its file, or of its files and what is chosen in them."""
    from cellssl.artifacts.hashing import sha256_of
    from cellssl.images.content import hashes_of

    if _is_external(text):
        hashes = hashes_of([text], job.context.store.hashes.sha256_of_all)
    else:
        hashes = hashes_of([text], lambda paths: {path: sha256_of(path) for path in paths}, job.draft.path)
    if text not in hashes:
        raise DataError(f"{text} was removed while it was read")
    return hashes[text]


def _external_hashes(context: RunContext, fields: Sequence[Field]) -> dict[str, list[list[str]]]:
    """Return field_id -> channel and hash of each of the user's images, in the order of the channels.

    These images are not copied: their bytes and channels count, the folder that they lie in does not.
    """
    from cellssl.images.content import hashes_of

    external = {
        field.field_id: [(channel, text) for channel, text in field.images.items() if _is_external(text)]
        for field in fields
    }
    texts = [text for images in external.values() for _, text in images]
    hashes = hashes_of(texts, context.store.hashes.sha256_of_all)
    return {
        field_id: [[channel, hashes.get(text, "missing")] for channel, text in images]
        for field_id, images in external.items()
        if images
    }


def _is_external(text: str) -> bool:
    """Return whether an image is the user's, outside of the artifact."""
    return Path(parse_reference(text).files[0]).is_absolute()


def _artifact_images(images: Mapping[str, str]) -> dict[str, str]:
    """Return the images of a field that lie in the artifact."""
    return {channel: place for channel, place in images.items() if not _is_external(place)}


def _gather_records(parts: Mapping[str, Artifact], path: Path) -> None:
    """Write the checksum records of all plates as one table, where they have any."""
    records = [read_text(part, RECORD_FILE) for part in parts.values() if RECORD_FILE in part.card.files]
    if records:
        write_text(path, concat_records(records))


def _cache(context: RunContext) -> Path:
    """Return the folder for tables that are downloaded before any plate is known."""
    return context.store.root / "tables"
