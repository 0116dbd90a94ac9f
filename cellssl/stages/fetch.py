"""fetch: a data set's settings in, its fields as files and one field table out, plate by plate."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field as Knob

from cellssl.artifacts.atomic import write_text
from cellssl.artifacts.card import Card
from cellssl.artifacts.hashing import HashCache
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import PLANNED, read_table, write_table
from cellssl.datasets._record import NAME as RECORD
from cellssl.datasets._record import OF_ARCHIVES as ARCHIVES
from cellssl.datasets._record import joined
from cellssl.datasets._together import Crew, attending
from cellssl.datasets.field import Dataset, Field, Forecast
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Note
from cellssl.rooms import did_you_mean
from cellssl.settings import OfRoom, Part, Strict
from cellssl.stages._make import Bench, Job, Making, Metrics, make_part
from cellssl.stages._plan import card_for

if TYPE_CHECKING:
    import pandas as pd

ALGORITHM = 1
QUARANTINE = "quarantine.csv"
AT_ONCE = 8
"""Plates whose cost is looked up at a time."""


class PlateSettings(Strict):
    """What counts for one plate."""

    controls: tuple[str, ...] = ("DMSO",)
    """Compounds of the control wells, which scale intensities and are the untreated class."""
    max_failures: float = Knob(0.01, ge=0, le=1)
    """Share of fields that may be missing or broken; they are listed in quarantine.csv with the reason."""


class Settings(PlateSettings):
    """Where the images come from."""

    dataset: Annotated[Part, OfRoom("cellssl.datasets")]
    """The data set: a name, or a table with a name and its knobs."""


def inputs(settings: Settings) -> tuple[str, ...]:
    """Fetch stands at the beginning."""
    return ()


def seeded(settings: Settings) -> bool:
    """A simulator has a seed of its own, so that all seeds see the same cells."""
    return False


def outside(settings: Settings) -> list[Path]:
    """The user's tables and stacks."""
    return list(_dataset(settings).outside_files())


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Make the missing plates, then gather their tables; no pixel is copied by gathering."""
    dataset = _dataset(job.settings)
    plates = yield from attending(partial(planned_plates, job.settings, job.bench))
    fields = [field for of_plate in plates.values() for field in of_plate]
    parts = {}
    for number, (plate, of_plate) in enumerate(plates.items(), start=1):
        yield Note(f"plate {plate}, {number} of {len(plates)}: {len(of_plate):,} fields")
        parts[plate] = yield from make_plate(job.settings, job.bench, of_plate)
    table = gathered({plate: read_table(part.file("fields.parquet")) for plate, part in parts.items()}, parts)
    write_table(table, job.draft.file("fields.parquet"))
    for name, text in dataset.tables(fields, _cache(job.bench)).items():
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


def planned_plates(settings: Settings, bench: Bench) -> dict[str, list[Field]]:
    """What is selected, plate by plate; UsageError where that is nothing."""
    fields = _dataset(settings).plan(_cache(bench))
    if not fields:
        raise UsageError("the data set's settings select no field", hint="loosen compounds, doses, plates or wells")
    return by_plate(fields)


@dataclass(frozen=True)
class PlateForecast:
    """What one plate holds and will cost; `state` is done, partial or missing."""

    plate: str
    state: str
    fields: int
    controls: int
    images: int
    to_come: int
    """Images that are not there yet."""
    absent: int
    """Of these, images that are not where they should come from."""
    moved_bytes: int | None
    disk_bytes: int | None
    whole_archive: bool


def forecast(settings: Settings, bench: Bench, plate: str | None = None) -> list[PlateForecast]:
    """What a fetch would bring and cost, plate by plate; nothing is moved but tables and directories of archives."""
    plates = planned_plates(settings, bench) if plate is None else {plate: fields_of(settings, plate, bench)}
    crew = Crew(partial(_forecast, settings, bench), AT_ONCE)  # whose threads nobody waits for who is interrupted
    for fields in plates.values():
        crew.give(fields)
    found = {one.plate: one for _, one in filter(None, crew.results())}
    return [found[name] for name in plates]


def _forecast(settings: Settings, bench: Bench, fields: list[Field]) -> PlateForecast:
    card, dataset = plate_card(settings, bench, fields), _dataset(settings)
    partial_folder = bench.store.partial(card.kind, card.fingerprint)
    images = [place for field in fields for place in field.images.values()]
    if bench.store.find(card.kind, card.fingerprint):
        state, cost, to_come = "done", Forecast(0, 0, 0), 0
    else:
        state = "partial" if partial_folder.is_dir() else "missing"
        cost = dataset.forecast(fields, partial_folder)
        to_come = sum(not (partial_folder / place).is_file() for place in images)
    controls = sum(field.compound in settings.controls for field in fields)
    costs = (cost.absent, cost.moved_bytes, cost.disk_bytes, cost.whole_archive)
    return PlateForecast(fields[0].plate, state, len(fields), controls, len(images), to_come, *costs)


def make_plate(settings: Settings, bench: Bench, fields: list[Field]) -> Making:
    """The part that holds the fields of one plate, found or made."""
    counted = _of_plate(settings)
    card = plate_card(settings, bench, fields)
    return (yield from make_part(bench, card, counted, {}, partial(_make_plate, _dataset(settings), fields)))


def plate_card(settings: Settings, bench: Bench, fields: list[Field]) -> Card:
    """What determines one plate's part: its rows, its own images' bytes, and what the data set says counts."""
    dataset = _dataset(settings)
    rows = [asdict(field) for field in fields]
    identity = {
        "plate": fields[0].plate,
        "fields": [{**row, "images": _ours(row["images"])} for row in rows],
        "dataset": {"name": settings.dataset.part_name(), **dataset.identity(fields, bench.store.hashes.sha256)},
        "images": _own_hashes(bench, fields),
    }
    counted = _of_plate(settings)
    return card_for("fetch", ALGORITHM, counted, {}, {}, identity=identity)


def _of_plate(settings: Settings) -> PlateSettings:
    return PlateSettings(controls=settings.controls, max_failures=settings.max_failures)


def by_plate(fields: Sequence[Field]) -> dict[str, list[Field]]:
    """The fields of every plate, sorted by plate, well and site."""
    ordered = sorted(fields, key=lambda field: (field.plate, field.well, field.site))
    return {plate: list(group) for plate, group in groupby(ordered, key=lambda field: field.plate)}


def fields_of(settings: Settings, plate: str, bench: Bench) -> list[Field]:
    """The fields of one plate; UsageError where the data set has no such plate."""
    plates = planned_plates(settings, bench)
    if plate not in plates:
        raise UsageError(f"the data set has no plate {plate!r}", hint=did_you_mean(plate, tuple(plates)))
    return plates[plate]


def gathered(tables: dict[str, pd.DataFrame], parts: dict[str, Artifact]) -> pd.DataFrame:
    """The tables of all plates under each other, with the fingerprint of the part that each row lies in."""
    import pandas as pd

    return pd.concat([tables[plate].assign(part=parts[plate].fingerprint) for plate in tables], ignore_index=True)


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
    columns = ["field_id", "plate", "well", "site", *PLANNED, "control"]
    table = pd.DataFrame(rows)
    if table.empty:
        table = pd.DataFrame(columns=columns)
    for name in ("batch", "compound", "moa"):
        table[name] = table[name].astype("string")
    for name in ("dose_micromolar", "pixel_um"):
        table[name] = table[name].astype("float64")
    return table, failures


def _row(field: Field, job: Job) -> dict[str, Any]:
    from cellssl.artifacts.images import fault_of

    row = {name: getattr(field, name) for name in ("field_id", "plate", "well", "site", *PLANNED)}
    row["control"] = field.compound in job.settings.controls
    for channel, place in field.images.items():
        path = job.draft.path / place
        row[f"path_{channel}"] = place
        if fault := fault_of(path):
            raise DataError(f"{place} {fault}")
        row[f"sha256_{channel}"] = _hash_of(path, Path(place).is_absolute(), job.bench.store.hashes)
    return {**row, **field.extra}


def allowed_failures(share: float, fields: int) -> int:
    """How many of so many fields may fail; 29 of 100 at a share of 0.29, though their product is a little less."""
    return math.floor(share * fields + 1e-9)


def gather_quarantine(parts: Mapping[str, Artifact], path: Path) -> None:
    """The fields of all plates that were set aside, where there are any."""
    import csv

    rows: list[dict[str, str]] = []
    for part in parts.values():
        if QUARANTINE in part.card.files:
            with part.file(QUARANTINE).open(newline="", encoding="utf-8") as file:
                rows += csv.DictReader(file)
    if rows:
        write_quarantine(rows, path)


def _hash_of(path: Path, stays: bool, remembered: HashCache) -> str:
    from cellssl.artifacts.hashing import sha256_of

    return remembered.sha256(path) if stays else sha256_of(path)


def _own_hashes(bench: Bench, fields: Sequence[Field]) -> dict[str, list[str]]:
    """Own images stay where they are; their bytes count, and their place does not."""
    remembered = bench.store.hashes
    staying = {field.field_id: [place for place in field.images.values() if _stays(place)] for field in fields}
    return {
        field_id: [_or_missing(Path(place), remembered) for place in places]
        for field_id, places in staying.items()
        if places
    }


def _or_missing(path: Path, remembered: HashCache) -> str:
    from cellssl.artifacts.images import fault_of

    return "missing" if fault_of(path) else remembered.sha256(path)


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


def write_quarantine(failures: Sequence[dict[str, str]], path: Path) -> None:
    """The fields that were set aside, each with its reason."""
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=["field_id", "reason"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(failures)


def write_parts(parts: dict[str, Artifact], path: Path) -> None:
    """Plate and fingerprint of every part that an artifact gathers; `parts_of` reads it."""
    import json

    prints = {plate: part.fingerprint for plate, part in parts.items()}
    write_text(path, json.dumps(prints, indent=1, sort_keys=True) + "\n")


def _cache(bench: Bench) -> Path:
    """Tables that were downloaded before any plate was known."""
    return bench.store.root / "tables"


def _dataset(settings: Settings) -> Dataset:
    dataset: Any = settings.dataset
    return dataset  # type: ignore[no-any-return]


def parts_of(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """Plate and fingerprint of every part of a gathered fetch or segment artifact."""
    import json

    yield from json.loads(artifact.file("parts.json").read_text(encoding="utf-8")).items()
