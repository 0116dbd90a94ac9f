"""label_zarr: clusters in, an OME-Zarr plate per plate out; napari shows its nuclei in the colours of the clusters."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cellssl.artifacts.contents import input_of
from cellssl.artifacts.locks import hold_lock
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_assignments, read_cells, read_fields, read_scale
from cellssl.bounded import parse_json
from cellssl.counting import counted
from cellssl.disk import faults_explained
from cellssl.engine.build import RunContext
from cellssl.engine.plate_parts import NUCLEI_OF_PLATE, parts_of
from cellssl.errors import UsageError
from cellssl.events import Event, Note, Progress, Started
from cellssl.files import UNFINISHED, check_space
from cellssl.imaging.colour import named_colours
from cellssl.letters import letters_of
from cellssl.profiling.clusterer import NOISE
from cellssl.profiling.well_positions import well_position
from cellssl.sharing import ngff
from cellssl.sharing.cluster_colours import cluster_colour, repeats, rgb_of
from cellssl.sharing.request import Export
from cellssl.stages.segment.inputs import channels_of
from cellssl.stages.segment.tasks import cells_name, fetched_images, labels_name
from cellssl.stages.shared.card_shapes import embed_section
from cellssl.stages.shared.cell_tables import check_cells_known
from cellssl.stages.shared.scaled_crops import upstream_segment

if TYPE_CHECKING:
    import pandas as pd

PROPERTIES = ("cell_id", "cluster", "distance", "compound", "dose_micromolar", "moa", "well")
"""What is known of a cell, as napari shows it under the pointer."""
NO_PLACE = "well"
"""Row of wells whose names say no row and column; they are its columns, one after the other."""


@dataclass(frozen=True)
class Plate:
    """One plate to write: its fields with cells, its cells, and the artifacts of its images and label images."""

    name: str
    fields: pd.DataFrame
    cells: pd.DataFrame
    scale: pd.DataFrame
    fetched: Artifact
    detected: Artifact

    def labels_of(self, field_id: str) -> dict[str, str]:
        """Return the label images of a field: their names in OME-Zarr, and the files of the artifact."""
        files = {"nuclei": labels_name(field_id), "cells": cells_name(field_id)}
        return {name: file for name, file in files.items() if file in self.detected.card.files}

    def bytes(self) -> int:
        """Return how many bytes its fields take before they are packed."""
        channels = len(channels_of(self.fields))
        sides = self.fields[["field_height_px", "field_width_px"]].fillna(0).astype(int)
        return sum(
            ngff.bytes_of(rows, columns, channels, len(self.labels_of(field)))
            for field, (rows, columns) in zip(self.fields["field_id"], sides.to_numpy().tolist(), strict=True)
        )


def export(job: Export) -> Iterator[Event]:
    """Write a folder PLATE.ome.zarr per plate: fields with clustered cells as images with labels.

    Raises UsageError where zarr is missing, the cells came as finished crops, or a folder of that name was not written
    by cellssl; IntegrityError where an image is not the one that was fetched; FailedError where the disk is too small.
    """
    if find_spec("zarr") is None:
        raise UsageError("OME-Zarr needs the library zarr", hint='pip install "cellssl[zarr]"')
    plates = _plates(job)
    with faults_explained(job.folder, "give another folder"):
        job.folder.mkdir(parents=True, exist_ok=True)
        targets = [job.folder / f"{quote(plate.name, safe=' ')}.ome.zarr" for plate in plates]
        for target in targets:
            _check_own(target)
        fields, needed = sum(len(plate.fields) for plate in plates), sum(plate.bytes() for plate in plates)
        yield Note(
            f"{counted(fields, 'field')} of {counted(len(plates), 'plate')} with images and labels: "
            f"{needed / 1e9:,.2f} GB at most, and less once packed"
        )
        if sentence := repeats(int(number) for plate in plates for number in plate.cells["cluster"].unique()):
            yield Note(sentence)
        check_space(job.folder, needed, "give a folder on another disk, or one plate with --plate")
        yield Started(0, fields, "fields")
        done = 0
        for plate, target in zip(plates, targets, strict=True):
            with _beside(target) as folder:
                for field_id in _write_plate(plate, folder, job):
                    done += 1
                    yield Progress(done, fields, "fields", field_id)


def _plates(job: Export) -> list[Plate]:
    """Return the plates with clustered cells, or the one that is asked for."""
    store = job.store.with_store_of(job.artifact)
    embed = store.get("embed", input_of(job.artifact, "embed"))
    kind = embed_section(embed).cells
    segment = upstream_segment(store.get(kind, input_of(embed, kind)), store)
    assigned, cells = read_assignments(job.artifact), read_cells(segment)
    check_cells_known(assigned["cell_id"], cells["cell_id"], job.artifact, segment)
    clustered = assigned.merge(cells.drop(columns=["split", "scored", "drawn"], errors="ignore"), on="cell_id")
    scale = read_scale(segment)
    of_plates = {plate: part for plate, part in parts_of(segment) if (clustered["part"] == part).any()}
    if job.plate is not None and job.plate not in of_plates:
        raise UsageError(
            f"plate {job.plate!r} has no clustered cells", hint=f"there are: {', '.join(sorted(of_plates))}"
        )
    return [
        _plate(store, plate, part, clustered[clustered["part"] == part], scale[scale["part"] == part])
        for plate, part in of_plates.items()
        if job.plate in (None, plate)
    ]


def _plate(store: Store, name: str, fingerprint: str, cells: pd.DataFrame, scale: pd.DataFrame) -> Plate:
    """Return a plate with the artifacts below it; UsageError where it has no label images."""
    part = store.get("segment", fingerprint)
    fetched = store.get("fetch", input_of(part, "fetch"))
    if NUCLEI_OF_PLATE not in part.card.inputs or "nucleus_label" not in cells:
        crops = "crops.npy" in fetched.card.files
        raise UsageError(
            f"plate {name} has no label images: "
            + ("its cells came as finished crops" if crops else "an earlier version segmented it, which kept none"),
            hint="export h5ad" if crops else "segment it again with this version: cellssl segment RECIPE",
        )
    detected = store.get("segment", input_of(part, NUCLEI_OF_PLATE))
    fields = read_fields(detected)
    fields = fields[fields["field_id"].isin(cells["field_id"])].reset_index(drop=True)
    return Plate(name, fields, cells, scale, fetched, detected)


def _write_plate(plate: Plate, folder: Path, job: Export) -> Iterator[str]:
    """Write the wells and fields of a plate; yield the name of every field that is finished."""
    from cellssl.images.reading import read_labels
    from cellssl.stages.segment.field import read_field

    store = job.store.with_store_of(job.artifact)
    images = fetched_images(plate.fields, plate.fetched, RunContext(store))
    places = _places(list(plate.fields["well"].unique()))
    of_wells = {str(well): fields.to_dict("records") for well, fields in plate.fields.groupby("well", sort=False)}
    maker = {"kind": job.artifact.card.kind, "fingerprint": job.artifact.fingerprint}
    most = max(map(len, of_wells.values()))
    group = ngff.open_plate(folder, plate.name, list(places.values()), most, maker)
    shown, of_field = _channels(plate), dict(tuple(plate.cells.groupby("field_id")))
    for well, fields in of_wells.items():
        in_well = ngff.open_well(group, places[well], len(fields))
        for number, field in enumerate(fields):
            name, um = field["field_id"], _known(field["pixel_um"])
            image = ngff.write_image(in_well, number, name, read_field(name, images[name], ()), um, shown)
            labels = {key: read_labels(plate.detected.file(file)) for key, file in plate.labels_of(name).items()}
            colours = _colours(of_field[name], int(max(one.max() for one in labels.values())))
            ngff.write_labels(image, labels, colours, um)
            yield name


def _channels(plate: Plate) -> list[ngff.Channel]:
    """Return how the channels are shown: colours as in the report, black and white of the intensity scale."""
    names = channels_of(plate.fields)
    limits = plate.scale.set_index("channel").loc[names, ["low", "high"]].to_numpy(float)
    colours = ["".join(f"{round(255 * level):02X}" for level in colour) for colour in named_colours(names)]
    return [
        ngff.Channel(name, colour, low, high)
        for name, colour, (low, high) in zip(names, colours, limits.tolist(), strict=True)
    ]


def _colours(cells: pd.DataFrame, labels: int) -> ngff.LabelColours:
    """Return the colour of every nucleus of a field: that of its cluster, grey without one; and what is known of it."""
    grey = rgb_of(cluster_colour(NOISE))
    known = {int(cell["nucleus_label"]): cell for cell in cells.to_dict("records")}
    rgb = {
        label: rgb_of(cluster_colour(known[label]["cluster"])) if label in known else grey
        for label in range(1, labels + 1)
    }
    properties = {label: _plain(cell) for label, cell in known.items()}
    return ngff.LabelColours(rgb, properties)


def _plain(cell: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the properties of a cell that are known, as JSON has them."""
    import pandas as pd

    found = {name: cell[name] for name in PROPERTIES if name in cell and not pd.isna(cell[name])}
    return {name: value if isinstance(value, str | int | float) else value.item() for name, value in found.items()}


def _known(pixel_um: float) -> float | None:
    return float(pixel_um) if pixel_um > 0 else None


def _places(wells: list[str]) -> dict[str, ngff.Place]:
    """Return the row and column of every well; where one has none, or two have the same, all stand in one row."""
    positions = [well_position(well) for well in wells]
    if None in positions or len(set(positions)) < len(wells):
        return {well: ngff.Place(NO_PLACE, str(number), 0, number) for number, well in enumerate(wells)}
    return {
        well: ngff.Place(letters_of(row), str(column), row - 1, column - 1)
        for well, (row, column) in zip(wells, filter(None, positions), strict=True)
    }


def _check_own(target: Path) -> None:
    """Raise UsageError where something else than a plate of cellssl has the name of a plate that is to be written."""
    if not target.exists():
        return
    try:
        is_own = ngff.MAKER in parse_json((target / ".zattrs").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        is_own = False
    if not is_own:
        raise UsageError(f"{target} was not written by cellssl export", hint="move it away, or give another folder")


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Give a folder to write to, and rename it to `target` at the end, in place of a former one."""
    hidden = f".{target.name}."
    cure = "wait until it is done, then run the same command again"
    with hold_lock(target.with_name(f"{hidden}lock"), wait=False, cure=cure):
        for left in target.parent.iterdir():
            if left.name.startswith(hidden) and left.suffix == UNFINISHED:  # of a process that was killed
                shutil.rmtree(left)
        folder = target.with_name(f"{hidden}{secrets.token_hex(4)}{UNFINISHED}")
        try:
            yield folder
            former = target.with_name(f"{hidden}{secrets.token_hex(4)}{UNFINISHED}")
            if target.exists():
                target.rename(former)
            folder.rename(target)
            shutil.rmtree(former, ignore_errors=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
