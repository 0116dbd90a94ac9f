"""stage: a field table in, one crop and one table row per cell out, plate by plate."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.card import PARTS, Card
from cellssl.artifacts.contents import input_of, metrics_of, section_of
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import (
    CELLS,
    FIELDS,
    SCALE,
    UNREAD_FIELDS,
    read_fields,
    read_table,
    write_csv,
    write_table,
)
from cellssl.datasets.tables.controls import is_control
from cellssl.disk import raise_fault
from cellssl.engine.build import Build, Job, Metrics, RunContext, build_part
from cellssl.engine.cards import card_for
from cellssl.engine.plate_parts import NUCLEI_OF_PLATE, concat_parts, gather_quarantine, parts_of, write_parts
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Note, PlatesDone, PlateStarted
from cellssl.stages.segment.contact_sheet import PlateSource, write_crop_sheet, write_field_sheet
from cellssl.stages.segment.counts import ALL_REASONS, write_counts, write_counts_of_plates
from cellssl.stages.segment.inputs import channels_of, image_of, label_image_of, nucleus_of
from cellssl.stages.segment.nuclei import SEGMENTERS, detect_plate
from cellssl.stages.segment.plate import check_space_for_first, select_plate
from cellssl.stages.segment.pooling import pooled_scale
from cellssl.stages.segment.precut import copy_crops
from cellssl.stages.segment.scale import check_reference, no_range_error, scale_cautions
from cellssl.stages.segment.selection import as_cellprofiler, check_areas, check_pixel_sizes
from cellssl.stages.shared.card_shapes import FetchedPlateSection, FetchMetrics, PlannedImages, PlateSection

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Settings

UNREAD_COLUMNS = ("field_id", "plate", "well", "site", "compound", "dose_micromolar")
"""Columns of the table of fields that could not be read."""


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Make the parts of missing plates, then concatenate the tables of all parts; pixels stay in the parts."""
    fetch = job.inputs["fetch"]
    store = job.context.store.with_store_of(fetch)
    fetched = {plate: store.get("fetch", part) for plate, part in parts_of(fetch)}
    _check_fetched(job.settings, list(fetched.values()))
    parts = yield from _all_plates(job, fetched)
    tables = {name: _gathered_table(name, parts) for name in _tables_of(parts)}
    cells = tables["cells.parquet"]
    of_parts = [metrics_of(part, dict[str, int]) for part in parts.values()]
    counts = {name: sum(one.get(name, 0) for one in of_parts) for name in dict.fromkeys(chain(*of_parts))}
    if cells.empty:
        raise _no_cells_error(counts)
    if not cells["cell_id"].is_unique:
        duplicate = cells["cell_id"][cells["cell_id"].duplicated()].iloc[0]
        raise DataError(f"the cell_id {duplicate!r} occurs more than once", hint="field ids must differ between plates")
    if job.settings.scale.pool == "batch":
        tables["scale.parquet"] = yield from pooled_scale(job.settings, tables, parts)
    for name, table in tables.items():
        write_table(table, job.draft.file(name))
    yield from _note_scale(job.settings, tables["scale.parquet"])
    if job.settings.cellprofiler_table:
        _write_nuclei_csv(job, cells, tables["fields.parquet"])
    write_parts(parts, job.draft.file(PARTS))
    gather_quarantine(parts, job.draft.file("quarantine.csv"))
    _write_unread_fields(job, fetched)
    write_counts(job, counts)
    write_counts_of_plates(job, parts)
    yield from _contact_sheet(job, job.context.store, fetched, parts, tables, counts)
    return counts


def _note_scale(settings: Settings, scale: pd.DataFrame) -> Iterator[Event]:
    """Say what is doubtful about the scales that are used; the part of a plate does not know whether it has its own."""
    if settings.reference != "range" and settings.scale.of == "cells":
        found = scale_cautions(scale, settings.reference, settings.scale.pool, settings.scale.headroom)
        yield from (Note(f"warning: {sentence}", "warning") for sentence in found)


def _all_plates(job: Job, fetched: dict[str, Artifact]) -> Generator[Event, None, dict[str, Artifact]]:
    """Return the part of every plate; after a plate that fails the others are made, then its error is raised."""
    parts, errors = {}, []
    for number, (plate, fields) in enumerate(fetched.items(), start=1):
        yield PlateStarted(plate, number, len(fetched))
        try:
            parts[plate] = yield from make_plate(job.settings, job.context, fields)
        except DataError as error:
            errors.append(error)
            if len(fetched) > 1:
                yield Note(f"{error.message}; continuing with the other plates")
    yield PlatesDone()
    if errors:
        raise errors[0]
    return parts


def _no_cells_error(counts: dict[str, int]) -> DataError:
    if not counts["detected"]:
        return DataError("no nucleus was found in any field", hint="check nucleus_channel, the method and the images")
    reasons = ", ".join(f"{counts[name]:,} {name}" for name in ALL_REASONS if counts.get(name))
    return DataError(
        f"{counts['detected']:,} nuclei were found, and none was kept: {reasons}",
        hint="loosen the limits that dropped them; `cellssl explain segment` lists the settings",
    )


def _check_fetched(settings: Settings, fetched: list[Artifact]) -> None:
    """Raise UsageError where the settings do not fit the fields of some plate, before any plate is segmented."""
    _check_label_images(settings, fetched)
    for part in fetched:
        if not _gives_crops(part):
            fields = read_fields(part)
            check_pixel_sizes(settings, fields)
            check_areas(settings, fields)


def _check_label_images(settings: Settings, fetched: list[Artifact]) -> None:
    """Raise UsageError where two fields would take their nuclei from the same label image."""
    if not settings.method.reads_label_images:
        return
    fields_by_image: dict[Path, str] = {}
    for part in fetched:
        if _gives_crops(part):
            continue
        fields = read_fields(part)
        channels = channels_of(fields)
        images = fields[f"path_{channels[nucleus_of(settings, channels)]}"]
        for field_id, image in zip(fields["field_id"], images, strict=True):
            place = label_image_of(settings, image_of(image, part), field_id)
            assert place is not None
            if place in fields_by_image:
                raise UsageError(
                    f"the fields {fields_by_image[place]} and {field_id} would both take their nuclei from {place}",
                    hint="use a segment.method.pattern that gives them different names, such as "
                    '"{folder}_{stem}_cp_masks.tif" or "{field}_cp_masks.tif"; {folder} is the folder of an '
                    "image, and {field} the field_id",
                )
            fields_by_image[place] = str(field_id)


def _tables_of(parts: dict[str, Artifact]) -> list[str]:
    """Return the tables that every part has: finished crops of a data set have no table of dropped nuclei."""
    names = ("fields.parquet", "cells.parquet", "dropped.parquet", "scale.parquet")
    return [name for name in names if all(name in part.card.files for part in parts.values())]


def _gathered_table(name: str, parts: dict[str, Artifact]) -> pd.DataFrame:
    columns = {"fields.parquet": FIELDS, "cells.parquet": CELLS, "scale.parquet": SCALE}.get(name, {})
    return concat_parts({plate: read_table(part.file(name), columns) for plate, part in parts.items()}, parts)


def _write_unread_fields(job: Job, fetched: dict[str, Artifact]) -> None:
    """Write the fields that fetch has quarantined, where there are any: their wells are counted, too."""
    import pandas as pd

    rows = [row for part in fetched.values() for row in _unread_fields(part)]
    if rows:
        write_table(pd.DataFrame(rows).astype({"dose_micromolar": float}), job.draft.file(UNREAD_FIELDS))


def _unread_fields(part: Artifact) -> list[dict[str, Any]]:
    """Return the fields of a plate that its card names and its table lacks."""
    if not metrics_of(part, FetchMetrics).quarantined:
        return []
    plate, known = section_of(part, FetchedPlateSection), set(read_fields(part)["field_id"])
    return [
        {name: getattr(field, name) for name in UNREAD_COLUMNS}
        | {"control": is_control(field.compound, field.control_type, plate.controls)}
        for field in plate.fields
        if field.field_id not in known
    ]


def _write_nuclei_csv(job: Job, cells: pd.DataFrame, fields: pd.DataFrame) -> None:
    """Write the cells for pycytominer and similar tools; gzip without a time, so that equal tables give equal bytes."""
    table = as_cellprofiler(cells.merge(fields[["field_id", "plate", "well", "site"]], on="field_id"))
    write_csv(table, job.draft.file("nuclei.csv.gz"), compression={"method": "gzip", "mtime": 0})


def make_plate(settings: Settings, context: RunContext, fetched: Artifact) -> Build:
    """Find or make the part that holds the cells of one plate."""
    _check_fetched(settings, [fetched])
    card = plate_card(settings, context, fetched)
    work = partial(_make_cells, nuclei_card(settings, context, fetched))
    return (yield from build_part(context, card, settings.of_plate(), {"fetch": fetched}, work))


def plate_card(settings: Settings, context: RunContext, fetched: Artifact) -> Card:
    """Return the card of the cells of one plate: the settings, the plate's fields, and its nuclei where they are cut.

    Crops that a data set gives are passed on, so that there are no nuclei.
    """
    inputs, plate = {"fetch": fetched.fingerprint}, section_of(fetched, PlateSection).plate
    if not _gives_crops(fetched):
        inputs[NUCLEI_OF_PLATE] = nuclei_card(settings, context, fetched).fingerprint
    return card_for("segment", settings.algorithm(), settings.of_plate(), inputs, {}, identity={"plate": plate})


def nuclei_card(settings: Settings, context: RunContext, fetched: Artifact) -> Card:
    """Return the card of all nuclei of one plate: what decides them, the plate's fields, and the segmenter's files."""
    detection, plate = settings.detection(), section_of(fetched, PlateSection).plate
    files = _label_images(settings, fetched) if settings.method.reads_label_images else settings.external_files()
    hashes = context.store.hashes.sha256_of_all(files.values())
    external = {role: hashes[path] for role, path in files.items()}
    inputs, identity = {"fetch": fetched.fingerprint}, {"plate": plate, "of": "nuclei"}
    return card_for("segment", detection.algorithm(), detection, inputs, external, identity=identity)


def _gives_crops(fetched: Artifact) -> bool:
    """Return whether the data set of a plate, fetched or planned, gives crops and no images of fields."""
    if fetched.card.files:
        return "crops.npy" in fetched.card.files
    planned = section_of(fetched, PlannedImages)
    return not planned.images and not any(field.images for field in planned.fields)


def _label_images(settings: Settings, fetched: Artifact) -> dict[str, Path]:
    """Return the label images of this plate that are there, by field; a field without one is quarantined later."""
    fields = read_fields(fetched)
    channels = channels_of(fields)
    images = fields[f"path_{channels[nucleus_of(settings, channels)]}"]
    places = [
        label_image_of(settings, image_of(text, fetched), field_id)
        for field_id, text in zip(fields["field_id"], images, strict=True)
    ]
    return {
        f"label_image/{field_id}": place
        for field_id, place in zip(fields["field_id"], places, strict=True)
        if place is not None and _is_there(place)
    }


def _is_there(place: Path) -> bool:
    """Return whether there is a file; FailedError where the file system cannot tell."""
    try:
        return place.is_file()
    except OSError as error:
        raise_fault(error, place)
        return False


def _make_cells(nuclei: Card, job: Job) -> Generator[Event, None, Metrics]:
    """Find or make the nuclei of a plate, then select and crop its cells.

    The nuclei are made while the lock of the cells is held: until these name them, nothing else keeps them from gc.
    """
    fetched = job.inputs["fetch"]
    if _gives_crops(fetched):
        return (yield from copy_crops(job, fetched))
    if job.settings.reference == "range":
        raise no_range_error(fetched)
    fields = read_fields(fetched)
    check_reference(job.settings, fields)
    work = partial(detect_plate, first_done=partial(check_space_for_first, job))
    detected = yield from build_part(job.context, nuclei, job.settings.detection(), {"fetch": fetched}, work)
    # whoever reads the card of the cells sees there which network found them
    job.ran.update({name: detected.card.run[name] for name in SEGMENTERS if name in detected.card.run})
    return (yield from select_plate(job, detected))


def _contact_sheet(
    job: Job,
    store: Store,
    fetched: Mapping[str, Artifact],
    parts: Mapping[str, Artifact],
    tables: Mapping[str, pd.DataFrame],
    counts: Mapping[str, int],
) -> Iterator[Event]:
    """Write a picture of whole fields and of cells; of cells alone where a data set gives crops."""
    cells = tables["cells.parquet"]
    if any(NUCLEI_OF_PLATE not in part.card.inputs for part in parts.values()):
        scaled = {part.fingerprint: part for part in parts.values()}
        yield from write_crop_sheet(job, scaled, tables["scale.parquet"], cells)
        return
    sources = {
        part.fingerprint: PlateSource(fetched[plate], store.get("segment", input_of(part, NUCLEI_OF_PLATE)), part)
        for plate, part in parts.items()
    }
    yield from write_field_sheet(job, sources, tables, counts)
