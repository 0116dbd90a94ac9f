"""contact_sheet: the nuclei, cells and images of all plates in; one picture of whole fields and of kept cells out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.contents import not_as_written
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_cells
from cellssl.counting import counted
from cellssl.engine.build import Job
from cellssl.errors import DataError, FailedError, IntegrityError
from cellssl.events import Event, Note, Progress
from cellssl.files import write_buffer
from cellssl.stages.segment.counts import ALL_REASONS, IN_WORDS, in_words
from cellssl.stages.segment.field_choice import chosen_fields
from cellssl.stages.segment.inputs import channels_of, nucleus_of

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.reporting.figures.field_sheet import Crops, ShownField

SHEET = "contact-sheet.png"
FIELDS_SINCE = 4
"""ALGORITHM of `segment` from which on the sheet shows whole fields."""
KEPT = "kept"
COLOURS = {
    KEPT: "#56B4E9",
    "edge": "#F0E442",
    "too_small": "#E69F00",
    "too_large": "#D55E00",
    "window_outside": "#B040F0",
    "ragged": "#CC79A7",
    "saturated": "#D4FFD4",
    "blurred": "#009E73",
    "flagged_field": "#805540",
    "over_cap": "#406A80",
}
"""What became of a nucleus -> the colour of its outline. The frequent ones are Okabe and Ito's; people with any common
colour blindness can distinguish all of them."""
KINDS = (KEPT, *ALL_REASONS)
MOST_PANELS = 8
"""Pictures of fields on one sheet; a field with small nuclei takes two of them."""
CROPS_SHOWN, CROPS_WITHOUT_FIELDS = 60, 64


@dataclass(frozen=True)
class PlateSource:
    """Where the images, the label images and the cells of one plate lie."""

    fetched: Artifact
    detected: Artifact
    cells: Artifact


def shows_fields(segment: Artifact) -> bool:
    """Return whether the sheet of a segment artifact shows whole fields, and not cells alone as in earlier versions."""
    return "dropped.parquet" in segment.card.files and segment.card.algorithm >= FIELDS_SINCE


def write_field_sheet(
    job: Job, sources: Mapping[str, PlateSource], tables: Mapping[str, pd.DataFrame], counts: Mapping[str, int]
) -> Iterator[Event]:
    """Write a few whole fields with the outline of every nucleus, and random kept cells as every model gets them.

    `sources` are the plates by the fingerprint of their cells. A field whose images are gone meanwhile is left out.
    """
    from cellssl.reporting.figures.field_sheet import field_sheet

    fields, nuclei = tables["fields.parquet"], _kinds_of_nuclei(tables["cells.parquet"], tables["dropped.parquet"])
    shown: list[ShownField] = []
    choices = chosen_fields(_with_counts(fields, nuclei), MOST_PANELS)
    for number, choice in enumerate(choices):
        yield Progress(number, len(choices), "contact sheet", choice.field_id)
        field = fields[fields["field_id"] == choice.field_id].iloc[0]
        rows = nuclei[nuclei["field_id"] == choice.field_id]
        try:
            drawn = _shown_field(job, sources[field["part"]], field, rows, choice.why)
        except (DataError, IntegrityError, FailedError) as error:  # the cells are whole without this picture
            yield Note(f"the contact sheet lacks the field {choice.field_id}: {error.message}")
            continue
        if sum(len(one.panels) for one in (*shown, drawn)) > MOST_PANELS:
            break
        shown.append(drawn)
    where = f"{counted(len(fields), 'field')} of {counted(len(sources), 'plate')}"
    title = f"{counts['detected']:,} nuclei found in {where}; the colour of an outline says what became of a nucleus:"
    png = field_sheet(title, _legend(counts), shown, _crops(sources, tables["scale.parquet"], tables["cells.parquet"]))
    write_buffer(job.draft.file(SHEET), lambda buffer: buffer.write(png))


def write_crop_sheet(
    job: Job, parts: Mapping[str, Artifact], scale: pd.DataFrame, cells: pd.DataFrame
) -> Iterator[Event]:
    """Write random crops that a data set gives, as every model gets them; there are no fields to show."""
    from PIL import Image

    from cellssl.imaging.colour import contact_sheet

    yield Progress(0, 1, "contact sheet")
    tiles, _ = _random_crops(parts, scale, cells, CROPS_WITHOUT_FIELDS)
    image = Image.fromarray(contact_sheet(tiles, columns=8))
    write_buffer(job.draft.file(SHEET), lambda buffer: image.save(buffer, format="PNG"))


def _kinds_of_nuclei(cells: pd.DataFrame, dropped: pd.DataFrame) -> pd.DataFrame:
    """Return field_id, nucleus_label and kind, a position in KINDS, of all nuclei."""
    import pandas as pd

    kept = cells[["field_id", "nucleus_label"]].assign(kind=0)
    numbers = dropped["reason"].map({reason: number for number, reason in enumerate(KINDS)}).astype(int)
    return pd.concat([kept, dropped[["field_id", "nucleus_label"]].assign(kind=numbers)], ignore_index=True)


def _with_counts(fields: pd.DataFrame, nuclei: pd.DataFrame) -> pd.DataFrame:
    """Return the fields that could be read, with the numbers of found nuclei, and of dropped ones within the field."""
    table = fields[fields["field_flags"] != "quarantined"].copy()
    inside = nuclei[~nuclei["kind"].isin([0, KINDS.index("edge")])]
    for name, rows in (("found", nuclei), ("dropped_inside", inside)):
        table[name] = table["field_id"].map(rows["field_id"].value_counts()).fillna(0).astype(int)
    return table


def _shown_field(job: Job, source: PlateSource, field: pd.Series, nuclei: pd.DataFrame, why: str) -> ShownField:
    """Draw one field; its images must be those that were fetched."""
    from cellssl.imaging.outlines import field_pictures
    from cellssl.reporting.figures.field_sheet import PANEL_PX, Panel, ShownField

    pixels, labels = _pixels_and_labels(job, source, field)
    kinds = np.full(labels.max(initial=0), -1)
    inside = nuclei["nucleus_label"].between(1, len(kinds))
    kinds[nuclei["nucleus_label"][inside] - 1] = nuclei["kind"][inside]
    if (kinds < 0).any() or not inside.all():
        raise not_as_written(source.cells, "cells.parquet", "its nuclei are not those of the label images")
    palette = np.array([rgb(kind) for kind in KINDS], np.uint8)
    um = float(field["pixel_um"]) if field["pixel_um"] > 0 else None
    panels = [
        Panel(one.pixels, None if um is None else um / one.zoom, one.part)
        for one in field_pictures(pixels, labels, kinds, palette, PANEL_PX)
    ]
    counts = {kind: int((kinds == number).sum()) for number, kind in enumerate(KINDS)} | {"detected": len(kinds)}
    return ShownField(_name_of(field), f"{why}: {in_words(counts)}", panels)


def _pixels_and_labels(job: Job, source: PlateSource, field: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the nucleus channel of a field, as it was segmented, and the label image of all nuclei."""
    from cellssl.images.reading import read_labels
    from cellssl.stages.segment.field import read_field
    from cellssl.stages.segment.tasks import fetched_images, flatfield_files, labels_name

    table = field.to_frame().T
    channels = channels_of(table)
    nucleus = nucleus_of(job.settings, channels)
    images = fetched_images(table, source.fetched, job.context)[field["field_id"]]
    flatfields = flatfield_files(source.detected, table)[field["field_id"]]
    pixels = read_field(field["field_id"], images[nucleus : nucleus + 1], flatfields[nucleus : nucleus + 1])[0]
    labels = read_labels(source.detected.file(labels_name(field["field_id"])))
    if labels.shape != pixels.shape:
        raise not_as_written(source.detected, labels_name(field["field_id"]), "its size is not that of the field")
    return pixels, labels


def _name_of(field: pd.Series) -> str:
    """Return well, site, treatment and plate of a field; a title that is too long loses its middle."""
    dose = f"{field['dose_micromolar']:g} µM" if field["dose_micromolar"] > 0 else ""
    treatment = " ".join(filter(None, (_text(field["compound"]), dose)))
    if field["control"]:
        treatment = f"control ({treatment})" if treatment else "control"
    site = _text(field["site"])
    return " · ".join(filter(None, (_text(field["well"]), site and f"site {site}", treatment, _text(field["plate"]))))


def _text(value: Any) -> str:
    """Return a value of the field table as text; empty where there is none."""
    from cellssl.reporting.figures.common import label_text

    return label_text(value)


def rgb(kind: str) -> tuple[int, int, int]:
    """Return the colour of the outline of a kept nucleus, or of one that is dropped for a reason."""
    red, green, blue = bytes.fromhex(COLOURS[kind].removeprefix("#"))
    return red, green, blue


def _legend(counts: Mapping[str, int]) -> list[Any]:
    """Return what became of how many nuclei of all fields; kept ones come first."""
    from cellssl.reporting.figures.field_sheet import LegendEntry

    return [
        LegendEntry(f"{counts[kind]:,} {IN_WORDS.get(kind, kind)}", rgb(kind)) for kind in KINDS if counts.get(kind)
    ]


def _crops(sources: Mapping[str, PlateSource], scale: pd.DataFrame, cells: pd.DataFrame) -> Crops:
    """Return random kept cells, as every model gets them."""
    from cellssl.imaging.colour import colour_words
    from cellssl.reporting.figures.field_sheet import Crops

    parts = {part: source.cells for part, source in sources.items()}
    tiles, channels = _random_crops(parts, scale, cells, CROPS_SHOWN)
    number = f"{len(tiles)} of the " if len(tiles) < len(cells) else ""
    return Crops(
        f"{number}{counted(len(cells), 'kept cell')}, as models get them: {colour_words(channels)}", list(tiles)
    )


def shown_cells(segment: Artifact) -> pd.DataFrame:
    """Return the rows of the cell table that are shown on the sheet of a segment artifact, in their order there."""
    cells = read_cells(segment)
    return cells.iloc[_chosen_rows(len(cells), CROPS_SHOWN if shows_fields(segment) else CROPS_WITHOUT_FIELDS)]


def _chosen_rows(cells: int, most: int) -> np.ndarray:
    """Return the rows of some cells chosen at random."""
    from cellssl.randomness import generator

    return np.sort(generator("contact sheet").permutation(cells)[:most])


def _random_crops(
    parts: Mapping[str, Artifact], scale: pd.DataFrame, cells: pd.DataFrame, most: int
) -> tuple[np.ndarray, list[str]]:
    """Return some crops as RGB tiles, in the order of the table, and their channels."""
    from cellssl.imaging.colour import named_colours, to_rgb
    from cellssl.stages.shared.scaled_crops import ScaledCrops

    crops = ScaledCrops(parts, scale, cells)
    rows = _chosen_rows(len(cells), most)
    return to_rgb(crops.read(rows), named_colours(crops.channels)), crops.channels
