"""embed: cells and a model in, one vector a cell out; baselines are models too and look through the same scaling."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationInfo, model_validator

from cellssl.artifacts import embeddings
from cellssl.artifacts.crops import in_blocks
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_cells, read_table
from cellssl.errors import UsageError
from cellssl.events import Event, Progress
from cellssl.learning.view import ViewSettings
from cellssl.recipe import InputPath
from cellssl.rooms import did_you_mean
from cellssl.settings import NOT_COUNTED, Strict
from cellssl.stages._cells import ScaledCrops, scaled_crops, segment_below
from cellssl.stages._make import Job, Metrics
from cellssl.stages._weights import SUFFIXES

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from cellssl.learning.objective import Objective

ALGORITHM = 2
"""2: `features` holds texture, and the area and shape of the nucleus."""
MEASURED = ("intensities", "features")
"""Models that measure pixels, without any network."""
UNTRAINED = ("random", "imagenet")
"""Models that are this recipe's network without its training."""
BASELINES = (*UNTRAINED, *MEASURED)
SHAPES = ("area_px", "eccentricity", "solidity")
"""Of the nucleus; what `features` takes from the cell table, where every cell has it."""


def _file_or_word(given: Any, info: ValidationInfo) -> Any:
    """A file of weights as a whole path; anything else as it is."""
    if not isinstance(given, str) or not given.endswith(SUFFIXES):
        return given
    return str(TypeAdapter(InputPath).validate_python(given, context=info.context))


class Settings(Strict):
    """Represent every cell. `network`, `layer`, `branch` and `view` say nothing to models that are no networks."""

    model: Annotated[str, BeforeValidator(_file_or_word)] = "pretrain"
    """`pretrain` is this recipe's own; `random` the same network untrained; `imagenet` the same network with its
    published weights, or those of encoder.weights, untrained; a .pth, .pt or .safetensors file the same network with
    the weights in it, untrained; `intensities` the mean of each channel; `features` its mean, spread, percentiles and
    texture, and the nucleus' area and shape; else an earlier pretrain artifact: folder, card file or fingerprint."""
    cells: Literal["split", "segment"] = "split"
    """The chosen cells of the split, or every cell that was found."""
    network: Literal["query", "momentum"] = "query"
    """Which of the two encoders; the second only where an objective has trained it."""
    layer: Literal["pooled", "flattened", "projector"] = "pooled"
    """`pooled` is the trunk's average over the crop, `flattened` its last map in full, `projector` what the trained
    projectors of the objectives make of the average, as the losses compare it: of unit length where they compare
    directions, all spaces side by side for looc (LooC++)."""
    branch: str | None = None
    """Whose projector; those of all branches side by side, in the order of their names, where nothing is given."""
    view: ViewSettings = ()
    """Transforms through which every cell is looked at several times, its vectors averaged; as it is, once, where
    nothing is given."""
    draws: int = Field(8, ge=1)
    """Looks at a cell through `view`."""
    also: tuple[Literal["csv.gz", "h5ad"], ...] = ()
    """The same table in other formats too; h5ad is AnnData's and needs cellssl[anndata]."""
    batch: int = Field(64, ge=1, json_schema_extra=NOT_COUNTED)
    """Cells at a time."""

    def changed(self) -> dict[str, Any]:
        """A trained model counts by its fingerprint, not by how it was named; what says nothing does not count."""
        counted = super().changed()
        silent = ["model"] if self.model not in MEASURED else ["network", "layer", "branch", "view"]
        if self.model in UNTRAINED or self.model.endswith(SUFFIXES):
            silent.append("network")  # both encoders begin alike
        if not self.view or self.model in MEASURED:
            silent.append("draws")
        return {name: value for name, value in counted.items() if name not in silent}

    def network_of(self) -> str | Path | None:
        """What this recipe's own network becomes: trained, untrained or with a file of weights; None for others."""
        if self.model.endswith(SUFFIXES):
            return Path(self.model)
        return self.model if self.model in ("pretrain", *UNTRAINED) else None

    @model_validator(mode="after")
    def _only_what_there_is(self) -> Settings:
        if self.layer == "projector" and self.network_of() not in ("pretrain", None):
            raise ValueError(
                f"model = {self.model!r} is untrained and has no projector; "
                'a baseline\'s arm needs its own embed.layer = "pooled"'
            )
        if self.layer == "projector" and self.network == "momentum":
            raise ValueError('layer = "projector" goes with network = "query", whose projectors are the trained ones')
        if self.branch is not None and self.layer != "projector":
            raise ValueError('branch chooses a projector, so it goes with layer = "projector"')
        return self


def inputs(settings: Settings) -> tuple[str, ...]:
    """Cells, and this recipe's own network where it is asked for."""
    return (settings.cells, *(("pretrain",) if settings.network_of() else ()))


def references(settings: Settings) -> dict[str, tuple[str, tuple[str, ...]]]:
    """An earlier model, where one is named."""
    if settings.network_of() or settings.model in MEASURED:
        return {}
    return {"model": (settings.model, ("pretrain",))}


def seeded(settings: Settings) -> bool:
    """The seed is in the model."""
    return False


def outside(settings: Settings) -> list[Path]:
    """A file of weights counts in the network that is made of it."""
    return []


def check(settings: Settings) -> None:
    """Raise UsageError where a format is asked for whose library is not there."""
    if "h5ad" in settings.also and find_spec("anndata") is None:
        raise UsageError("embed.also = h5ad needs the library anndata", hint='pip install "cellssl[anndata]"')


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Row i of the table is row i of the cells artifact, whatever the batch; vectors go to the disk as they come."""
    source = job.inputs[job.settings.cells]
    segment = segment_below(source, job.bench.store)
    cells = chosen_cells(source, segment)
    crops = scaled_crops(segment, job.bench.store, cells)
    table, done = job.draft.file("embeddings.parquet"), 0
    with embeddings.writing(table, metadata(cells)) as file:
        for vectors in _vectors(job, crops, cells):
            file.append(vectors)
            done += len(vectors)
            yield Progress(done, len(crops), "cells")
    if "csv.gz" in job.settings.also:
        embeddings.write_csv(table, job.draft.file("embeddings.csv.gz"))
    if "h5ad" in job.settings.also:
        embeddings.write_anndata(table, job.draft.file("embeddings.h5ad"))
    return {"cells": len(crops), "dim": file.dim}


def chosen_cells(source: Artifact, segment: Artifact) -> pd.DataFrame:
    """The cell table of a split or segment artifact, with `split` and `label` where there is a split."""
    cells = read_cells(segment)
    if source.card.kind == "segment":
        return cells
    split = read_table(source.file("split.parquet")).drop(columns="field_id")
    return split.merge(cells, on="cell_id", how="left", validate="one_to_one")


PLACE = {"plate": "Plate", "well": "Well", "site": "Site"}
"""Written as pycytominer and DeepProfiler write them."""
NOT_METADATA = ("part", "crop_row", "row_px", "column_px")


def metadata(cells: pd.DataFrame) -> pd.DataFrame:
    """Metadata_* columns, then the nucleus' place in its field."""
    known = cells.drop(columns=[name for name in NOT_METADATA if name in cells])
    table = known.rename(columns={name: f"Metadata_{PLACE.get(name, name)}" for name in known.columns})
    if "row_px" in cells:
        table["Nuclei_Location_Center_X"] = cells["column_px"].to_numpy()
        table["Nuclei_Location_Center_Y"] = cells["row_px"].to_numpy()
    return table


def read_embeddings(artifact: Artifact) -> tuple[pd.DataFrame, np.ndarray]:
    """The metadata, under the cell table's own names, and the vectors (n, dim) float32."""
    known, vectors = embeddings.read(artifact.file("embeddings.parquet"))
    known = known.rename(columns={f"Metadata_{there}": here for here, there in PLACE.items()})
    known.columns = known.columns.str.removeprefix("Metadata_")
    return known, vectors


def _vectors(job: Job, crops: ScaledCrops, cells: pd.DataFrame) -> Iterator[np.ndarray]:
    if job.settings.model in MEASURED:
        yield from _measured(job.settings.model, crops, cells)
        return
    from cellssl.learning.embed import Look, embed
    from cellssl.learning.feed import Streamed, fed
    from cellssl.learning.machine import device_for
    from cellssl.learning.memory import enough_memory, keep_freed_memory
    from cellssl.learning.view import View
    from cellssl.stages._networks import keys_of

    keep_freed_memory()
    settings = job.settings
    model = job.inputs.get("model") or job.inputs["pretrain"]
    check_same_kind(model, crops)
    device = device_for(job.bench.device)
    job.ran.update(device=str(device), precision="float32")
    side_px = model.card.metrics["input_px"]
    look = Look(side_px)
    if settings.view:
        look = Look(side_px, View(settings.view), settings.draws, keys_of(list(cells["cell_id"])))
    blocks = in_blocks(np.arange(len(crops)), settings.batch)
    with enough_memory("lower embed.batch"):
        yield from embed(load_network(model, settings), fed(Streamed(crops.read, device), blocks), look, device)


MEASURED_CELLS = 256
"""Cells that are measured at a time."""


def _measured(model: str, crops: ScaledCrops, cells: pd.DataFrame) -> Iterator[np.ndarray]:
    from cellssl.imaging import measurements

    measure = getattr(measurements, model)
    known = [name for name in SHAPES if name in cells and cells[name].notna().all()] if model == "features" else []
    shapes = cells[known].to_numpy(np.float32)
    for rows in in_blocks(np.arange(len(crops)), MEASURED_CELLS):
        yield np.concatenate([measure(crops.read(rows)), shapes[rows]], axis=1)


def load_network(model: Artifact, settings: Settings) -> nn.Module:
    """The network of a pretrain artifact that ends at the layer which is asked for."""
    from cellssl.learning import layers

    encoder = load_encoder(model, settings.network)
    match settings.layer:
        case "flattened":
            return layers.flattened(_pretrain_settings(model).encoder, encoder)
        case "projector":
            return layers.Projected(encoder, load_projectors(model, encoder.out_dim, settings.branch))
    pooled: nn.Module = encoder
    return pooled


def load_encoder(model: Artifact, network: str) -> Any:
    """The encoder of a pretrain artifact, with its weights."""
    from safetensors.torch import load_file

    from cellssl.stages._networks import build_encoder

    settings = _pretrain_settings(model)
    if network == "momentum" and settings.active() and settings.momentum() is None:
        raise UsageError(
            "no objective of this model trains a momentum encoder", hint='set embed.network = "query", or leave it out'
        )
    encoder = build_encoder(settings.encoder, len(model.card.metrics["channels"]))
    name = {"query": "encoder", "momentum": "momentum_encoder"}[network]
    encoder.load_state_dict(load_file(model.file(f"{name}.safetensors")))
    return encoder


def load_projectors(model: Artifact, in_dim: int, branch: str | None) -> list[Objective]:
    """The objectives of the chosen branch, or of all of them by name, that have a projector.

    Raises UsageError where there is none.
    """
    import torch
    from safetensors.torch import load_file

    from cellssl.stages._networks import Around, head_name, objectives_of

    section, metrics = model.card.section, model.card.metrics
    settings = _pretrain_settings(model)
    branches = tuple(settings.active()) if section["epochs"] > 0 else ()
    if not branches:
        raise UsageError(f"{model.path} was not trained, so it has no projector", hint='set embed.layer = "pooled"')
    if branch is not None and branch not in branches:
        raise UsageError(f"{model.path} has no branch {branch!r}", hint=did_you_mean(branch, branches))
    around = Around(torch.arange(metrics["cells"]), section["batch"], len(metrics["channels"]), metrics["input_px"])
    objectives = objectives_of(settings, around, in_dim, seed=0)  # the weights are loaded
    objectives.load_state_dict(load_file(model.file("heads.safetensors")))
    chosen: list[Any] = [objectives[head_name(name)] for name in ([branch] if branch else branches)]
    projecting = [objective for objective in chosen if objective.projects]
    if not projecting:
        raise UsageError(f"no objective of {model.path} has a projector to embed by", hint='set embed.layer = "pooled"')
    return projecting


def _pretrain_settings(model: Artifact) -> Any:
    from cellssl.stages.pretrain import Settings as PretrainSettings

    section = model.card.section
    known = {name: section[name] for name in ("encoder", "branches", "epochs") if name in section}
    return PretrainSettings.model_validate(known)


def check_same_kind(model: Artifact, crops: ScaledCrops) -> None:
    """Raise UsageError where the cells differ from those that the model has learned on."""
    trained, here = model.card.metrics["channels"], crops.channels
    if trained != here:
        raise UsageError(
            f"the model was trained on the channels {', '.join(trained)}, but these cells have {', '.join(here)}",
            hint="give the same channels, named alike and in the same order, in [fetch]",
        )
    if model.card.metrics["crop_px"] != crops.shape[-1]:
        raise UsageError(
            f"the model was trained on crops of {model.card.metrics['crop_px']} px, but these are {crops.shape[-1]} px",
            hint=f"set segment.crop_px = {model.card.metrics['crop_px']}",
        )
