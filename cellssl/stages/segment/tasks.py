"""tasks: the field table of one plate in, one task per field out: its images, and where its results are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from cellssl.artifacts.store import Artifact, Draft
from cellssl.artifacts.tables import KEY, TEXT, Column, check_columns, explained
from cellssl.engine.build import RunContext
from cellssl.images.content import hashes_of, is_composed, state_of
from cellssl.stages.segment.field import FetchedImage, FieldTask, LobeMerging, changed_error
from cellssl.stages.segment.inputs import body_of, channels_of, image_of, label_image_of, nucleus_of, stain_of

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.segment.settings import Detection


def field_tasks(
    settings: Detection, fields: pd.DataFrame, fetched: Artifact, context: RunContext, draft: Draft
) -> list[FieldTask]:
    """Return the task of every field, in the order of the table; results and label images go into the draft."""
    channels, scratch = channels_of(fields), draft.scratch()
    nucleus, stain = nucleus_of(settings, channels), stain_of(settings, channels)
    phenotypes, images_of = _phenotypes(fetched), fetched_images(fields, fetched, context)

    def task(number: int, row: Mapping[Any, Any]) -> FieldTask:
        truth, images = row.get("truth_labels"), images_of[row["field_id"]]
        flatfields = flatfield_names(row["site"], channels) if settings.illumination == "mean" else []
        return FieldTask(
            field_id=row["field_id"],
            channels=tuple(channels),
            images=images,
            nucleus=nucleus,
            pixel_um=None if np.isnan(row["pixel_um"]) else row["pixel_um"],
            result=scratch / f"field-{number:06d}.npz",
            labels=draft.file(labels_name(row["field_id"])),
            stain=stain,
            cells=None if stain is None else draft.file(cells_name(row["field_id"])),
            given_labels=label_image_of(settings, images[nucleus].reference, row["field_id"]),
            truth=fetched.file(truth) if isinstance(truth, str) else None,
            phenotypes=phenotypes.get(row["field_id"], {}),
            flatfields=tuple(map(draft.file, flatfields)),
            lobes=_lobe_merging(settings, channels, row),
        )

    return [task(number, row) for number, row in enumerate(fields.to_dict("records"))]


def _lobe_merging(settings: Detection, channels: list[str], field: Mapping[Any, Any]) -> LobeMerging | None:
    """Return how lobes are merged in a field; UsageError where no channel has that name."""
    lobes, body = settings.lobes, body_of(settings, channels)
    if lobes is None or body is None:
        return None
    diameter_px = lobes.diameter_um / field["pixel_um"] if lobes.diameter_um is not None else None
    return LobeMerging(body, lobes.limits(), diameter_px)


def labels_name(field_id: str) -> str:
    """Return the name of a field's label image in the artifact of a plate's nuclei."""
    return f"nuclei/{field_id}.tif"


def cells_name(field_id: str) -> str:
    """Return the name of the label image of a field's cells in the artifact of a plate's nuclei."""
    return f"cells/{field_id}.tif"


def flatfield_names(site: Any, channels: list[str]) -> list[str]:
    """Return the names of the flat fields of one site in the artifact of a plate's nuclei, one per channel."""
    # site and channel come from tables of users, and must not lead out of the folder
    return [f"illumination/{quote(f'{site}-{channel}', safe=' ')}.npy" for channel in channels]


def flatfield_files(detected: Artifact, fields: pd.DataFrame) -> dict[str, tuple[Path, ...]]:
    """Return the flat fields of every field, one per channel; () where illumination was not corrected."""
    channels = channels_of(fields)
    names = {site: flatfield_names(site, channels) for site in fields["site"].unique()}
    files = {
        site: tuple(detected.file(name) for name in of_site)
        for site, of_site in names.items()
        if all(name in detected.card.files for name in of_site)
    }
    return {str(field): files.get(site, ()) for field, site in zip(fields["field_id"], fields["site"], strict=True)}


def fetched_images(fields: pd.DataFrame, fetched: Artifact, context: RunContext) -> dict[str, tuple[FetchedImage, ...]]:
    """Return the images of every field, in the order of the channels."""
    channels = channels_of(fields)
    states = _compared_states(fields, fetched, context)

    def image(row: Mapping[Any, Any], channel: str) -> FetchedImage:
        text = row[f"path_{channel}"]
        return FetchedImage(image_of(text, fetched), row[f"sha256_{channel}"], states.get(text, ""))

    rows = fields.to_dict("records")
    return {row["field_id"]: tuple(image(row, channel) for channel in channels) for row in rows}


def _compared_states(fields: pd.DataFrame, fetched: Artifact, context: RunContext) -> dict[str, str]:
    """Return the state of every image that is not one plain file, after its bytes were found to be those fetched.

    They are compared here, once for all images of a file, through the cache of hashes. Raises IntegrityError where
    they differ.
    """
    wanted = {
        text: sha256
        for channel in channels_of(fields)
        for text, sha256 in zip(fields[f"path_{channel}"], fields[f"sha256_{channel}"], strict=True)
        if is_composed(text, fetched.path)
    }
    references = {text: image_of(text, fetched) for text in wanted}
    states = {text: state_of(reference) for text, reference in references.items()}
    hashes = hashes_of(wanted, context.store.hashes.sha256_of_all, fetched.path)
    for text, sha256 in wanted.items():
        if hashes.get(text) != sha256:
            raise changed_error(references[text])
    return states


def _phenotypes(fetched: Artifact) -> dict[str, dict[int, str]]:
    """Return the phenotype of every true nucleus by field and label; empty where the plate is not simulated."""
    if "truth.csv" not in fetched.card.files:
        return {}
    import pandas as pd

    path = fetched.file("truth.csv")
    with explained(path):
        truth = pd.read_csv(path, dtype={"field_id": str, "phenotype": str})
        check_columns(truth, {"field_id": KEY, "phenotype": TEXT, "label": Column("whole", needed=True, gaps=False)})
        return {
            str(field_id): dict(zip(of_field["label"].astype(int), of_field["phenotype"], strict=True))
            for field_id, of_field in truth.groupby("field_id")
        }
