"""embed: cells and a model in, one vector a cell out; baselines are models too and look through the same scaling."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_cells, read_table, write_table
from cellssl.errors import UsageError
from cellssl.events import Event, Progress
from cellssl.settings import NOT_COUNTED, Strict
from cellssl.stages._cells import ScaledCrops, scaled_crops, segment_below
from cellssl.stages._make import Job, Metrics

if TYPE_CHECKING:
    import pandas as pd

ALGORITHM = 1
MEASURED = ("intensities", "features")
"""Models that measure pixels, without any network."""
UNTRAINED = ("random", "imagenet")
"""Models that are this recipe's network without its training."""
BASELINES = (*UNTRAINED, *MEASURED)


class Settings(Strict):
    """Represent every cell."""

    model: str = "pretrain"
    """`pretrain` is this recipe's own; `random` the same network untrained; `imagenet` the same network with its
    published weights, or those of encoder.weights, untrained; `intensities` the mean of each channel; `features` its
    mean, spread and percentiles; else an earlier pretrain artifact: folder, card file or fingerprint."""
    cells: Literal["split", "segment"] = "split"
    """The chosen cells of the split, or every cell that was found."""
    network: Literal["query", "momentum"] = "query"
    """Which of the two encoders; the second only where an objective has trained it."""
    layer: Literal["trunk", "heads"] = "trunk"
    """The representation, or what the objectives' projectors make of it, side by side (of looc: LooC++). Baselines
    have no projectors: they always give the representation."""
    batch: int = Field(256, ge=1, json_schema_extra=NOT_COUNTED)
    """Cells at a time."""

    @model_validator(mode="after")
    def _heads_are_trained(self) -> Settings:
        if self.layer == "heads" and self.network == "momentum":
            raise ValueError('layer = "heads" goes with network = "query", whose projectors are the trained ones')
        return self

    def changed(self) -> dict[str, Any]:
        """A trained model counts by its fingerprint, not by how it was named."""
        counted = super().changed()
        if self.model not in MEASURED:
            counted.pop("model", None)
        if self.model in BASELINES:
            counted.pop("layer", None)
        return counted


def inputs(settings: Settings) -> tuple[str, ...]:
    """Cells, and this recipe's own network where it is asked for."""
    own = ("pretrain",) if settings.model in ("pretrain", *UNTRAINED) else ()
    return (settings.cells, *own)


def references(settings: Settings) -> dict[str, tuple[str, tuple[str, ...]]]:
    """An earlier model, where one is named."""
    if settings.model in ("pretrain", *BASELINES):
        return {}
    return {"model": (settings.model, ("pretrain",))}


def seeded(settings: Settings) -> bool:
    """The seed is in the model."""
    return False


def outside(settings: Settings) -> list[Path]:
    """No files of the user."""
    return []


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Row i of the table is row i of the cells artifact, whatever the batch."""
    source = job.inputs[job.settings.cells]
    segment = segment_below(source, job.bench.store)
    cells = chosen_cells(source, segment)
    crops = scaled_crops(segment, job.bench.store, cells)
    vectors = []
    for vector in _vectors(job, crops):
        vectors.append(vector)
        yield Progress(sum(map(len, vectors)), len(crops), "cells")
    embeddings = np.concatenate(vectors)
    write_table(with_metadata(cells, embeddings), job.draft.file("embeddings.parquet"))
    return {"cells": len(crops), "dim": embeddings.shape[1]}


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


def with_metadata(cells: pd.DataFrame, embeddings: np.ndarray) -> pd.DataFrame:
    """Metadata_* columns, the nucleus' place in its field, then emb_0000 and on."""
    import pandas as pd

    known = cells.drop(columns=[name for name in NOT_METADATA if name in cells])
    table = known.rename(columns={name: f"Metadata_{PLACE.get(name, name)}" for name in known.columns})
    if "row_px" in cells:
        table["Nuclei_Location_Center_X"] = cells["column_px"].to_numpy()
        table["Nuclei_Location_Center_Y"] = cells["row_px"].to_numpy()
    names = [f"emb_{number:04d}" for number in range(embeddings.shape[1])]
    numbers = pd.DataFrame(embeddings.astype(np.float32), columns=names, index=table.index)
    return pd.concat([table, numbers], axis=1)


def read_embeddings(artifact: Artifact) -> tuple[pd.DataFrame, np.ndarray]:
    """The metadata, under the cell table's own names, and the vectors (n, dim) float32."""
    table = read_table(artifact.file("embeddings.parquet"))
    numbers = [name for name in table.columns if name.startswith("emb_")]
    back = {f"Metadata_{there}": here for here, there in PLACE.items()}
    known = table.drop(columns=numbers).rename(columns=back)
    known.columns = known.columns.str.removeprefix("Metadata_")
    return known, np.ascontiguousarray(table[numbers].to_numpy(np.float32))


def _vectors(job: Job, crops: ScaledCrops) -> Iterator[np.ndarray]:
    blocks = crops.blocks(job.settings.batch)
    if job.settings.model in MEASURED:
        from cellssl.imaging import measurements

        measure = getattr(measurements, job.settings.model)
        yield from (measure(block) for block in blocks)
        return
    from cellssl.learning.embed import embed
    from cellssl.learning.machine import device_for

    model = job.inputs.get("model") or job.inputs["pretrain"]
    check_same_kind(model, crops)
    device = device_for(job.bench.device)
    job.ran.update(device=str(device), precision="float32")
    encoder = load_encoder(model, job.settings.network)
    if job.settings.layer == "heads" and job.settings.model not in BASELINES:
        encoder = with_heads(encoder, model)
    yield from embed(encoder, blocks, model.card.metrics["input_px"], device)


def load_encoder(model: Artifact, network: str) -> Any:
    """The encoder of a pretrain artifact, with its weights."""
    from safetensors.torch import load_file

    from cellssl.stages._networks import build_encoder
    from cellssl.stages.pretrain import Settings as PretrainSettings

    settings = PretrainSettings.model_validate(
        {"encoder": model.card.section["encoder"], "branches": model.card.section.get("branches", {})}
    )
    if network == "momentum" and settings.active() and settings.momentum() is None:
        raise UsageError(
            "no objective of this model trains a momentum encoder", hint='set embed.network = "query", or leave it out'
        )
    encoder = build_encoder(settings.encoder, len(model.card.metrics["channels"]))
    name = {"query": "encoder", "momentum": "momentum_encoder"}[network]
    encoder.load_state_dict(load_file(model.file(f"{name}.safetensors")))
    return encoder


def with_heads(encoder: Any, model: Artifact) -> Any:
    """The encoder of a pretrain artifact and the projectors on top of it, whose outputs stand side by side."""
    import torch
    from safetensors.torch import load_file

    from cellssl.learning.embed import WithHeads
    from cellssl.stages._networks import Around, objectives_of
    from cellssl.stages.pretrain import Settings as PretrainSettings

    section, metrics = model.card.section, model.card.metrics
    settings = PretrainSettings.model_validate({name: section[name] for name in ("encoder", "branches", "epochs")})
    around = Around(torch.arange(metrics["cells"]), section["batch"], len(metrics["channels"]), metrics["input_px"])
    objectives = objectives_of(settings, around, encoder.out_dim, seed=0)  # the weights are loaded
    objectives.load_state_dict(load_file(model.file("heads.safetensors")))
    heads = WithHeads(encoder, objectives)
    if not heads.objectives:
        raise UsageError("no objective of this model has a projector to embed by", hint='set embed.layer = "trunk"')
    return heads


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
