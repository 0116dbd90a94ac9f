"""segment: a field table in, one crop of pixels and one table row for every nucleus out, plate by plate."""

from __future__ import annotations

import csv
import json
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from cellssl import rooms
from cellssl.artifacts.atomic import replacing
from cellssl.artifacts.card import Card
from cellssl.artifacts.crops import open_crops, write_crops
from cellssl.artifacts.hashing import HashCache
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_fields, read_table, write_table
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Note, Progress
from cellssl.imaging.cutting import Border
from cellssl.settings import NOT_COUNTED, OfRoom, Part, Strict
from cellssl.stages._chosen import (
    ALL_REASONS,
    as_cellprofiler,
)
from cellssl.stages._downloads import Download, of_file
from cellssl.stages._make import Bench, Job, Making, Metrics, make_part
from cellssl.stages._nuclei import (
    channels_of,
    check_reference,
    find_and_cut,
    label_image_of,
    nucleus_of,
    scale_table,
    whole_range,
    write_counts,
)
from cellssl.stages._plan import card_for
from cellssl.stages.fetch import gather_quarantine, gathered, parts_of, write_parts

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.imaging.masks import Limits

ALGORITHM = (
    3  # 2: nuclei_net is the default, a constant image is a fault; 3: sums in another order, nuclei are one piece
)

Flag = Literal["empty", "blurred", "saturated", "artefact"]


class Quality(Strict):
    """What good nuclei and good fields are; everything is measured and written down, whatever stands here."""

    min_solidity: float = Field(0.0, ge=0, le=1)
    """Nuclei with less of their convex hull filled are counted as ragged and dropped; 0.9 parts lobed from round."""
    max_saturated: float = Field(1.0, ge=0, le=1)
    """Nuclei with a larger share of pixels at the camera's highest value are counted as saturated and dropped."""
    min_focus: float = Field(0.0, ge=0)
    """Nuclei with a flatter rim are counted as blurred and dropped; in focus it is about 0.2 a pixel."""
    field_min_nuclei: int = Field(1, ge=0)
    """Fields in which fewer nuclei are found are flagged as empty."""
    field_min_focus: float = Field(0.08, ge=0)
    """Fields whose typical nucleus has a flatter rim are flagged as blurred."""
    field_max_saturated: float = Field(0.01, ge=0, le=1)
    """Fields with a larger share of pixels at the camera's highest value are flagged as saturated."""
    field_max_stray: float = Field(0.02, ge=0, le=1)
    """Fields with a larger share of bright pixels outside nuclei are flagged as artefact."""
    drop_fields: tuple[Flag, ...] = ()
    """Flags whose fields give no cells; such nuclei are counted under flagged_field."""


class Settings(Strict):
    """Find every nucleus, and cut one window around it."""

    method: Annotated[Part, OfRoom("cellssl.imaging.segmenters")] = Field(
        default_factory=lambda: rooms.load("cellssl.imaging.segmenters", "nuclei_net").Settings()
    )
    """The detector: a name, or a table with a name and its knobs."""
    nucleus_channel: str | None = None
    """The channel that shows nuclei; the first one where nothing is given."""
    illumination: Literal["off", "mean"] = "off"
    """Whether uneven light is taken off first: `mean` divides by the blurred mean of each plate, site and channel."""
    illumination_blur_px: float = Field(500.0, gt=0)
    """How widely that mean is blurred; 500 as pybbbc does, which takes off only what changes over more than a field.
    Darker corners call for about a tenth of the field's side, and enough fields that no cell shows in their mean."""
    crop_px: int = Field(196, ge=8)
    """Side of the window; 196 is about five nuclei across at 0.5 um a pixel."""
    border: Border = "reflect"
    """What happens where the window leaves the field."""
    cells_per_well: int | None = Field(None, ge=1)
    """Most cells that are cut of one well, drawn by lot from all that are good; all of them where nothing is given."""
    min_area_px: float = Field(100.0, ge=0)
    """Smaller nuclei are counted as too small and dropped."""
    max_area_px: float = Field(20_000.0, gt=0)
    """Larger nuclei are counted as too large and dropped."""
    quality: Quality = Quality()
    """What good nuclei and good fields are."""
    reference: Literal["controls", "all", "range"] = "controls"
    """Which wells of a plate set its intensity scale; `range` takes no percentiles, but the lowest and the highest
    value that pixels can have, for pictures of a data set that knows it."""
    low_percentile: float = Field(0.1, ge=0, lt=50)
    """Percentile of the reference pixels that becomes 0."""
    high_percentile: float = Field(99.9, gt=50, le=100)
    """Percentile of the reference pixels that becomes 255."""
    keep_labels: bool = False
    """Whether label images of the nuclei within the limits are written, as labels/FIELD_cp_masks.tif."""
    cellprofiler_table: bool = False
    """Whether nuclei.csv.gz is written too: the cells under CellProfiler's column names."""
    max_failures: float = Field(0.01, ge=0, le=1)
    """Share of a plate's fields that may be broken; they are listed in quarantine.csv with the reason."""
    workers: int | None = Field(None, ge=1, json_schema_extra=NOT_COUNTED)
    """Processes at work; as many as cores where nothing is given."""

    @model_validator(mode="after")
    def _check_areas(self) -> Settings:
        if self.min_area_px > self.max_area_px:
            raise ValueError("min_area_px is above max_area_px, so that no nucleus could be kept")
        return self

    def limits(self) -> Limits:
        """Which nuclei are kept."""
        from cellssl.imaging.masks import Limits

        quality = self.quality
        return Limits(
            self.min_area_px,
            self.max_area_px,
            self.crop_px if self.border == "drop" else None,
            quality.min_solidity,
            quality.max_saturated,
            quality.min_focus,
        )


EXPLAINED = {"quality": Quality}


def inputs(settings: Settings) -> tuple[str, ...]:
    """Fields."""
    return ("fetch",)


def seeded(settings: Settings) -> bool:
    """Nothing here is left to chance."""
    return False


def outside(settings: Settings) -> list[Path]:
    """What the detector reads besides images: weights of one's own, label images."""
    outside_files = getattr(settings.method, "outside_files", None)
    return list(outside_files()) if outside_files else []


def check(settings: Settings) -> None:
    """Raise UsageError where this machine has not what the detector needs."""
    needs = getattr(settings.method, "check", None)
    if needs:
        needs()


def downloads(settings: Settings) -> list[Download]:
    """The published weights of the detector, where it has any."""
    method: Any = settings.method
    files = method.downloads() if hasattr(method, "downloads") else {}
    return [
        of_file(f"the weights of {method.part_name()}'s {method.model!r}", url, place) for place, url in files.items()
    ]


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Make the missing plates, then gather their tables; no pixel is copied by gathering."""
    fetch = job.inputs["fetch"]
    store = job.bench.store.beside(fetch)
    fetched = {plate: store.get("fetch", part) for plate, part in parts_of(fetch)}
    _check_label_images(job.settings, list(fetched.values()))
    parts = yield from _all_plates(job, fetched)
    tables = {name: _gathered_table(name, parts) for name in _tables_of(parts)}
    cells = tables["cells.parquet"]
    counts = {
        name: sum(part.card.metrics[name] for part in parts.values())
        for name in next(iter(parts.values())).card.metrics
    }
    if cells.empty:
        raise _no_cells(counts)
    if not cells["cell_id"].is_unique:
        again = cells["cell_id"][cells["cell_id"].duplicated()].iloc[0]
        raise DataError(f"the cell_id {again!r} occurs more than once", hint="field ids must differ between plates")
    for name, table in tables.items():
        write_table(table, job.draft.file(name))
    if job.settings.cellprofiler_table:
        _write_nuclei_csv(job, cells, tables["fields.parquet"])
    write_parts(parts, job.draft.file("parts.json"))
    gather_quarantine(parts, job.draft.file("quarantine.csv"))
    write_counts(job, counts)
    yield from _contact_sheet(job, cells, parts)
    return counts


def _all_plates(job: Job, fetched: dict[str, Artifact]) -> Generator[Event, None, dict[str, Artifact]]:
    """The part of every plate; one that cannot be made does not keep the later ones from being made."""
    parts, faults = {}, []
    for plate, of_plate in fetched.items():
        try:
            parts[plate] = yield from make_plate(job.settings, job.bench, of_plate)
        except DataError as error:
            faults.append(error)
            if len(fetched) > 1:
                yield Note(f"{error.message}; going on with the other plates")
    if faults:
        raise faults[0]
    return parts


def _no_cells(counts: dict[str, int]) -> DataError:
    if not counts["detected"]:
        return DataError("no nucleus was found in any field", hint="check nucleus_channel, the method and the images")
    why = ", ".join(f"{counts[name]:,} {name}" for name in ALL_REASONS if counts.get(name))
    return DataError(
        f"{counts['detected']:,} nuclei were found, and none was kept: {why}",
        hint="loosen what dropped them; `cellssl explain segment` lists the knobs",
    )


def _check_label_images(settings: Settings, fetched: list[Artifact]) -> None:
    """Raise UsageError where two fields would take their nuclei from one label image."""
    if not hasattr(settings.method, "label_image"):
        return
    fields_by_image: dict[Path, str] = {}
    for part in fetched:
        if "crops.npy" in part.card.files:
            continue
        fields = read_fields(part)
        channels = channels_of(fields)
        images = fields[f"path_{channels[nucleus_of(settings, channels)]}"]
        for field_id, image in zip(fields["field_id"], images, strict=True):
            place = label_image_of(settings, part.path / image)
            assert place is not None
            if place in fields_by_image:
                raise UsageError(
                    f"the fields {fields_by_image[place]} and {field_id} would both take their nuclei from {place}",
                    hint="tell them apart in segment.method.pattern, such as "
                    '"{folder}_{stem}_cp_masks.tif"; {folder} is the name of the folder that an image lies in',
                )
            fields_by_image[place] = str(field_id)


def _tables_of(parts: dict[str, Artifact]) -> list[str]:
    """The tables that every part has: of crops that a lab has cut nothing was dropped."""
    names = ("fields.parquet", "cells.parquet", "dropped.parquet", "scale.parquet")
    return [name for name in names if all(name in part.card.files for part in parts.values())]


def _gathered_table(name: str, parts: dict[str, Artifact]) -> pd.DataFrame:
    return gathered({plate: read_table(part.file(name)) for plate, part in parts.items()}, parts)


def _write_nuclei_csv(job: Job, cells: pd.DataFrame, fields: pd.DataFrame) -> None:
    """The cells for pycytominer and its kin; gzip without a time, so that equal tables are equal bytes."""
    table = as_cellprofiler(cells.merge(fields[["field_id", "plate", "well", "site"]], on="field_id"))
    table.to_csv(job.draft.file("nuclei.csv.gz"), index=False, compression={"method": "gzip", "mtime": 0})


def make_plate(settings: Settings, bench: Bench, fetched: Artifact) -> Making:
    """The part that holds the cells of one plate, found or made."""
    _check_label_images(settings, [fetched])
    return (yield from make_part(bench, plate_card(settings, fetched), settings, {"fetch": fetched}, _make_plate))


def plate_card(settings: Settings, fetched: Artifact) -> Card:
    """What determines one plate's part: the settings, that plate's fields, and what else the detector reads of it."""
    identity = {"plate": fetched.card.section["plate"]}
    remembered = HashCache(fetched.path.parents[1] / "hashes")
    files = _label_images(settings, fetched) if hasattr(settings.method, "label_image") else outside(settings)
    hashes = {str(path): remembered.sha256(path) for path in files}
    return card_for("segment", ALGORITHM, settings, {"fetch": fetched.fingerprint}, hashes, identity=identity)


def _label_images(settings: Settings, fetched: Artifact) -> list[Path]:
    """Those of this plate that are there; a field without one is quarantined when it comes to it."""
    fields = read_fields(fetched)
    channels = channels_of(fields)
    images = fields[f"path_{channels[nucleus_of(settings, channels)]}"]
    places = (label_image_of(settings, fetched.path / place) for place in images)
    return sorted({place for place in places if place is not None and place.is_file()})


def _make_plate(job: Job) -> Generator[Event, None, Metrics]:
    fetched = job.inputs["fetch"]
    if "crops.npy" in fetched.card.files:
        return (yield from _pass_through(job, fetched))
    return (yield from find_and_cut(job))


def _pass_through(job: Job, fetched: Artifact) -> Generator[Event, None, Metrics]:
    """Crops that are already cut: nothing is found, nothing dropped."""
    fields, cells = read_fields(fetched), _cells_of_crops(fetched.file("cells.csv"))
    check_reference(job.settings, fields)
    crops = open_crops(fetched.file("crops.npy"))
    _check_only_scaled(job.settings, crops.shape[-1])
    scale = yield from _scale_of_crops(job.settings, fetched, fields, cells)
    blocks = (crops[start : start + BLOCK] for start in range(0, len(crops), BLOCK))
    write_crops(job.draft.file("crops.npy"), blocks, crops.shape)
    cells["crop_row"] = np.arange(len(cells))
    write_table(cells, job.draft.file("cells.parquet"))
    write_table(fields, job.draft.file("fields.parquet"))
    write_table(scale, job.draft.file("scale.parquet"))
    counts = {"fields": len(fields), "quarantined": 0, "detected": len(cells), "kept": len(cells)}
    write_counts(job, counts)
    return counts


def _cells_of_crops(path: Path) -> pd.DataFrame:
    """Their table; a class is a word, also where it looks like a number or like something missing."""
    import pandas as pd

    cells = pd.read_csv(path, dtype={"cell_id": str, "field_id": str})
    if "class" in cells:
        with path.open(newline="", encoding="utf-8") as file:
            cells["class"] = pd.array([row["class"] or None for row in csv.DictReader(file)], dtype="string")
    return cells


def _scale_of_crops(
    settings: Settings, fetched: Artifact, fields: pd.DataFrame, cells: pd.DataFrame
) -> Generator[Event, None, pd.DataFrame]:
    """The scale of crops that are already cut: by percentiles of the control cells, of all, or their whole range."""
    from cellssl.stages._field import greys

    channels = json.loads(fetched.file("channels.json").read_text(encoding="utf-8"))
    plate = fields["plate"].iloc[0]
    if settings.reference == "range":
        return whole_range(fetched, channels, plate)
    crops = open_crops(fetched.file("crops.npy"))
    control = cells["field_id"].isin(fields["field_id"][fields["control"]]).to_numpy()
    counted = np.flatnonzero(control) if settings.reference == "controls" else np.arange(len(cells))
    total: Any = np.int64(0)
    for start in range(0, len(counted), BLOCK):
        rows = counted[start : start + BLOCK]
        total = total + greys(crops[rows].swapaxes(0, 1).reshape(crops.shape[1], -1, crops.shape[3])).astype(np.int64)
        yield Progress(start + len(rows), len(counted), "reference cells")
    return scale_table(settings, total, channels, plate)


def _check_only_scaled(settings: Settings, side_px: int) -> None:
    """Raise UsageError where something is asked of finished crops that only finding nuclei could give."""
    asked = settings.changed()
    if asked.get("crop_px") == side_px:
        asked.pop("crop_px")
    beyond = [name for name in asked if name not in ("reference", "low_percentile", "high_percentile", "max_failures")]
    if beyond:
        raise UsageError(
            f"segment.{beyond[0]} asks for what crops of {side_px} px that are already cut cannot give",
            hint="leave it out; of [segment] only the intensity scale (reference, percentiles) concerns such crops",
        )


BLOCK = 256
"""Crops moved at a time."""


def _contact_sheet(job: Job, cells: pd.DataFrame, parts: dict[str, Artifact]) -> Iterator[Event]:
    """64 cells from all over, as every model will see them."""
    from PIL import Image

    from cellssl.imaging.colour import contact_sheet, named_colours, to_rgb
    from cellssl.randomness import generator
    from cellssl.stages._cells import ScaledCrops

    yield Progress(0, 1, "contact sheet")
    crops = ScaledCrops({part.fingerprint: part for part in parts.values()}, cells)
    rows = np.sort(generator("contact sheet").permutation(len(cells))[:64])
    sheet = contact_sheet(to_rgb(crops.read(rows), named_colours(crops.channels)), columns=8)
    with replacing(job.draft.file("contact-sheet.png")) as beside:
        Image.fromarray(sheet).save(beside, format="PNG")
