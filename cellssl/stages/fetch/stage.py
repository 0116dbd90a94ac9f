"""stage: a data set's settings in, its fields as files and one field table out, plate by plate."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.card import Card
from cellssl.artifacts.hashing import HashCache
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import TREATMENT_COLUMNS, read_table, write_table
from cellssl.config.plugins import did_you_mean
from cellssl.datasets.base import Dataset, Field
from cellssl.datasets.transfer.checksums import NAME as RECORD
from cellssl.datasets.transfer.checksums import OF_ARCHIVES as ARCHIVES
from cellssl.datasets.transfer.checksums import joined
from cellssl.datasets.transfer.threads import attending
from cellssl.engine.build import Build, Job, Metrics, RunContext, build_part
from cellssl.engine.cards import card_for
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Note
from cellssl.files import write_text

if TYPE_CHECKING:
    import pandas as pd
from cellssl.engine.plate_parts import (
    QUARANTINE,
    allowed_failures,
    concat_parts,
    gather_quarantine,
    write_parts,
    write_quarantine,
)
from cellssl.stages.fetch.settings import ALGORITHM, PlateSettings, Settings, dataset_of


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Make the missing plates, then gather their tables; no pixel is copied by gathering."""
    dataset = dataset_of(job.settings)
    plates = yield from attending(partial(planned_plates, job.settings, job.context))
    fields = [field for of_plate in plates.values() for field in of_plate]
    parts = {}
    for number, (plate, of_plate) in enumerate(plates.items(), start=1):
        yield Note(f"plate {plate}, {number} of {len(plates)}: {len(of_plate):,} fields")
        parts[plate] = yield from make_plate(job.settings, job.context, of_plate)
    table = concat_parts({plate: read_table(part.file("fields.parquet")) for plate, part in parts.items()}, parts)
    write_table(table, job.draft.file("fields.parquet"))
    for name, text in dataset.tables(fields, _cache(job.context)).items():
        write_text(job.draft.file(f"tables/{name}"), text)
    _gather_records(parts, job.draft.file(RECORD))
    gather_quarantine(parts, job.draft.file(QUARANTINE))
    write_parts(parts, job.draft.file("parts.json"))
    failed = sum(part.card.metrics["quarantined"] for part in parts.values())
    return {
        "planned": len(fields),
        "fields": len(table),
        "plates": len(parts),
        "quarantined": failed,
        "controls": int(table["control"].sum()),
        "wells": int(table[["plate", "well"]].drop_duplicates().shape[0]),
    }


def planned_plates(settings: Settings, context: RunContext) -> dict[str, list[Field]]:
    """What is selected, plate by plate; UsageError where that is nothing."""
    fields = dataset_of(settings).plan(_cache(context))
    if not fields:
        raise UsageError("the data set's settings select no field", hint="loosen compounds, doses, plates or wells")
    return by_plate(fields)


def make_plate(settings: Settings, context: RunContext, fields: list[Field]) -> Build:
    """The part that holds the fields of one plate, found or made."""
    counted = _of_plate(settings)
    card = plate_card(settings, context, fields)
    return (yield from build_part(context, card, counted, {}, partial(_make_plate, dataset_of(settings), fields)))


def plate_card(settings: Settings, context: RunContext, fields: list[Field]) -> Card:
    """What determines one plate's part: its rows, its own images' bytes, and what the data set says counts."""
    dataset = dataset_of(settings)
    rows = [asdict(field) for field in fields]
    identity = {
        "plate": fields[0].plate,
        "fields": [{**row, "images": _ours(row["images"])} for row in rows],
        "dataset": {"name": settings.dataset.plugin_name(), **dataset.identity(fields, context.store.hashes.sha256)},
        "images": _own_hashes(context, fields),
    }
    counted = _of_plate(settings)
    return card_for("fetch", ALGORITHM, counted, {}, {}, identity=identity)


def _of_plate(settings: Settings) -> PlateSettings:
    return PlateSettings(controls=settings.controls, max_failures=settings.max_failures)


def by_plate(fields: Sequence[Field]) -> dict[str, list[Field]]:
    """The fields of every plate, sorted by plate, well and site."""
    ordered = sorted(fields, key=lambda field: (field.plate, field.well, field.site))
    return {plate: list(group) for plate, group in groupby(ordered, key=lambda field: field.plate)}


def fields_of(settings: Settings, plate: str, context: RunContext) -> list[Field]:
    """The fields of one plate; UsageError where the data set has no such plate."""
    plates = planned_plates(settings, context)
    if plate not in plates:
        raise UsageError(f"the data set has no plate {plate!r}", hint=did_you_mean(plate, tuple(plates)))
    return plates[plate]


def _make_plate(dataset: Dataset, fields: list[Field], job: Job) -> Generator[Event, None, Metrics]:
    """Let the data set put its files there, then write down what came, with size and hash."""
    reasons = yield from dataset.make(fields, job.draft.path)
    job.draft.extra(ARCHIVES)
    table, failures = _field_table(fields, job, reasons)
    if len(failures) > allowed_failures(job.settings.max_failures, len(fields)) or table.empty:
        first = failures[0]
        raise DataError(
            f"{len(failures)} of {len(fields)} fields of plate {fields[0].plate} are missing or broken; "
            f"first: {first['field_id']}: {first['reason']}",
            hint="mend them, or raise fetch.max_failures, a share of the fields",
        )
    if failures:
        where = job.draft.target / QUARANTINE
        yield Note(f"plate {fields[0].plate}: {len(failures)} fields are quarantined; the reasons are in {where}")
        _remove_images(fields, {failure["field_id"] for failure in failures}, job.draft.path)
    write_table(table, job.draft.file("fields.parquet"))
    write_quarantine(failures, job.draft.file(QUARANTINE))
    return {"planned": len(fields), "fields": len(table), "quarantined": len(failures)}


def _remove_images(fields: Sequence[Field], quarantined: set[str], folder: Path) -> None:
    """What came of a field that is set aside is no part of the result; own images that stay are left alone."""
    for field in fields:
        if field.field_id in quarantined:
            for place in _ours(field.images).values():
                (folder / place).unlink(missing_ok=True)


def _field_table(
    fields: Sequence[Field], job: Job, reasons: Mapping[str, str]
) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    import pandas as pd

    rows, failures = [], []
    for field in fields:
        try:
            rows.append(_row(field, job))
        except DataError as error:
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
    from cellssl.artifacts.images import image_fault

    row = {name: getattr(field, name) for name in ("field_id", "plate", "well", "site", *TREATMENT_COLUMNS)}
    row["control"] = field.compound in job.settings.controls
    for channel, place in field.images.items():
        path = job.draft.path / place
        row[f"path_{channel}"] = place
        if fault := image_fault(path):
            raise DataError(f"{place} {fault}")
        row[f"sha256_{channel}"] = _hash_of(path, Path(place).is_absolute(), job.context.store.hashes)
    return {**row, **field.extra}


def _hash_of(path: Path, stays: bool, remembered: HashCache) -> str:
    from cellssl.artifacts.hashing import sha256_of

    return remembered.sha256(path) if stays else sha256_of(path)


def _own_hashes(context: RunContext, fields: Sequence[Field]) -> dict[str, list[str]]:
    """Own images stay where they are; their bytes count, and their place does not."""
    remembered = context.store.hashes
    staying = {field.field_id: [place for place in field.images.values() if _stays(place)] for field in fields}
    return {
        field_id: [_or_missing(Path(place), remembered) for place in places]
        for field_id, places in staying.items()
        if places
    }


def _or_missing(path: Path, remembered: HashCache) -> str:
    from cellssl.artifacts.images import image_fault

    return "missing" if image_fault(path) else remembered.sha256(path)


def _stays(place: str) -> bool:
    return Path(place).is_absolute()


def _ours(images: Mapping[str, str]) -> dict[str, str]:
    """Of a field's images, those that lie in the artifact."""
    return {channel: place for channel, place in images.items() if not _stays(place)}


def _gather_records(parts: Mapping[str, Artifact], path: Path) -> None:
    """The records of all plates in one table, where they have any."""
    recorded = [part.file(RECORD) for part in parts.values() if RECORD in part.card.files]
    if recorded:
        write_text(path, joined(file.read_text(encoding="utf-8") for file in recorded))


def _cache(context: RunContext) -> Path:
    """Tables that were downloaded before any plate was known."""
    return context.store.root / "tables"
