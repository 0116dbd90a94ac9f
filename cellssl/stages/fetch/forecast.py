"""forecast: the plates of a data set in, the images and bytes that fetching each of them would take out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from cellssl.datasets.base import Field, Forecast
from cellssl.datasets.tables.controls import is_control
from cellssl.datasets.transfer.threads import WorkerThreads
from cellssl.engine.build import RunContext
from cellssl.engine.cards import changed_defaults
from cellssl.stages.fetch.settings import Settings
from cellssl.stages.fetch.stage import fields_of, planned_plates, plate_card, plate_settings

AT_ONCE = 8
"""Number of plates whose cost is looked up at a time."""


@dataclass(frozen=True)
class PlateForecast:
    """What one plate holds and what it will cost; `state` is done, outdated, partial or missing."""

    plate: str
    state: str
    fields: int
    controls: int
    images: int
    to_come: int
    """Number of images that are not yet downloaded."""
    absent: int
    """Number of those images that their source does not have."""
    moved_bytes: int | None
    disk_bytes: int | None
    whole_archive: bool


def forecast(settings: Settings, context: RunContext, plate: str | None = None) -> list[PlateForecast]:
    """Return what a fetch would download, plate by plate; reads only tables and directories of archives."""
    plates = planned_plates(settings, context) if plate is None else {plate: fields_of(settings, plate, context)}
    # daemon threads, so that a user who interrupts does not wait for them, as for a pool of concurrent.futures
    threads = WorkerThreads(partial(_forecast, settings, context), AT_ONCE)
    for fields in plates.values():
        threads.submit(fields)
    found = {one.plate: one for _, one in filter(None, threads.results())}
    return [found[name] for name in plates]


def _forecast(settings: Settings, context: RunContext, fields: list[Field]) -> PlateForecast:
    card = plate_card(settings, context, fields)
    partial_folder = context.store.partial(card.kind, card.fingerprint)
    images = [place for field in fields for place in field.images.values()]
    found = None if context.force else context.store.find(card.kind, card.fingerprint)
    if found is not None:
        changes = changed_defaults(found.card, plate_settings(settings))
        state = f"outdated ({changes[0].name})" if changes else "done"
        cost, to_come = Forecast(0, 0, 0), 0
    else:
        state = "partial" if partial_folder.is_dir() else "missing"
        cost = settings.dataset.forecast(fields, partial_folder)
        to_come = sum(not (partial_folder / place).is_file() for place in images)
    controls = sum(is_control(field.compound, field.control_type, settings.controls) for field in fields)
    costs = (cost.absent, cost.moved_bytes, cost.disk_bytes, cost.whole_archive)
    return PlateForecast(fields[0].plate, state, len(fields), controls, len(images), to_come, *costs)
