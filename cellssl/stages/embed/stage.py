"""stage: cells and a model in, one vector per cell out; baselines are models too and get the same scaled crops.

Only `cellprofiler` measures in the images of the fields. Vectors with blocks are joined from finished embeddings.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts import embeddings
from cellssl.artifacts.crops import in_blocks
from cellssl.artifacts.shared_models import source_words
from cellssl.artifacts.store import Artifact
from cellssl.engine.build import Job, Metrics
from cellssl.events import Event, Note, Progress, Started
from cellssl.stages.embed.block_settings import MEASUREMENTS
from cellssl.stages.embed.joined import JoinedBlock, column_names, join, joined_blocks
from cellssl.stages.embed.models import load_network
from cellssl.stages.embed.neighbours import surroundings
from cellssl.stages.shared import preparation
from cellssl.stages.shared.card_shapes import pretrain_metrics
from cellssl.stages.shared.cell_tables import metadata
from cellssl.stages.shared.learned_labels import of_inputs, on_card
from cellssl.stages.shared.scaled_crops import ScaledCrops, scaled_crops, upstream_segment
from cellssl.stages.shared.well_draw import cells_to_embed

if TYPE_CHECKING:
    import pandas as pd

SHAPE_FEATURES = ("area_px", "eccentricity", "solidity")
"""Shape features of the nucleus that `features` takes from the cell table, where every cell has them."""


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Write the table of embeddings: row i is row i of the cells artifact, then come cells of the draw per well alone.

    Vectors are written as they come.
    """
    source = job.inputs[job.settings.cells]
    segment = upstream_segment(source, job.context.store)
    cells = cells_to_embed(source, segment, job.settings.cells_per_well)
    outside = int(cells["split"].isna().sum()) if "split" in cells else 0
    joined = list(joined_blocks(job)) if job.settings.blocks else []
    names, pieces = yield from _vectors(job, segment, cells, joined)
    yield Started(0, len(cells), "cells")
    table, done = job.draft.file("embeddings.parquet"), 0
    with embeddings.writer(table, metadata(cells), names) as file:
        for vectors in pieces:
            file.append(vectors)
            done += len(vectors)
            yield Progress(done, len(cells), "cells")
    if "csv.gz" in job.settings.formats:
        embeddings.write_csv(table, job.draft.file("embeddings.csv.gz"))
    if "h5ad" in job.settings.formats:
        embeddings.write_anndata(table, job.draft.file("embeddings.h5ad"))
    return {
        **on_card(of_inputs(job.inputs)),
        "cells": len(cells) - outside,
        "drawn": int(cells["drawn"].sum()),
        "drawn_outside_split": outside,
        "dim": file.dim,
        **({"blocks": [block.metrics() for block in joined]} if joined else {}),
    }


def _vectors(
    job: Job, segment: Artifact, cells: pd.DataFrame, joined: list[JoinedBlock]
) -> Generator[Event, None, tuple[list[str] | None, Iterator[np.ndarray]]]:
    """Return the names of the columns, where they have names, and the vectors of all cells, some rows at a time."""
    if joined:
        return column_names(joined), join(joined, metadata(cells))
    if job.settings.model == "neighbours":
        names, values = yield from surroundings(segment, cells)
        return [f"{embeddings.PREFIX}{name}" for name in names], iter([values])
    if job.settings.model == "cellprofiler":
        from cellssl.stages.embed.cellprofiler import measure_cells

        measured = yield from measure_cells(job, segment, cells)
        return measured.names, measured.blocks()
    crops = scaled_crops(segment, job.context.store, cells)
    yield from _check_model(job, segment, cells, crops)
    return None, _iter_vectors(job, crops, cells)


def _check_model(job: Job, segment: Artifact, cells: pd.DataFrame, crops: ScaledCrops) -> Iterator[Event]:
    """Raise UsageError where an earlier model was trained on other cells; say what is not compared, or accepted."""
    model = job.inputs.get("model") or job.inputs.get("pretrain")
    if model is None:
        return
    if source := source_words(model):
        job.ran.update(model=source)
        yield Note(f"the model is {source}")
    expected = preparation.of_model(model, job.context.store)
    here = preparation.of_cells(segment, cells, crops.channels, crops.shape[-1])
    preparation.check_same(model, expected, here, job.settings.accept)
    if "model" not in job.inputs:
        return  # this recipe's own model, trained on these cells
    for words in preparation.differences(expected, here):
        yield Note(f"accepted: the model was trained on {words}")
    if what := preparation.unknown(expected, here):
        yield Note(f"not compared with the cells of the model, because it is not known of both: {', '.join(what)}")


def _iter_vectors(job: Job, crops: ScaledCrops, cells: pd.DataFrame) -> Iterator[np.ndarray]:
    if job.settings.model in MEASUREMENTS:
        yield from _iter_measurements(job.settings.model, crops, cells)
        return
    from cellssl.device import device_for
    from cellssl.learning.embed import EmbeddingViews, embed
    from cellssl.learning.threads import threads_of, torch_threads
    from cellssl.learning.training.memory import enough_memory, keep_freed_memory
    from cellssl.learning.training.readers import MemmapReader, prefetch
    from cellssl.learning.view import View
    from cellssl.stages.pretrain.networks import keys_of

    keep_freed_memory()
    settings = job.settings
    model = job.inputs.get("model") or job.inputs["pretrain"]
    device = device_for(job.context.device)
    job.ran.update(device=str(device), precision="float32")
    side_px = pretrain_metrics(model).input_px
    views = EmbeddingViews(side_px)
    if settings.view:
        views = EmbeddingViews(side_px, View(settings.view), settings.draws, keys_of(list(cells["cell_id"])))
    batches = prefetch(MemmapReader(crops.read_once, device), in_blocks(np.arange(len(crops)), settings.batch))
    with enough_memory("lower embed.batch"):
        network = load_network(model, settings)
        # no number depends on the threads; for a small network several would wait for each other longer than they work
        threads = threads_of(network, crops.shape[1], side_px, job.context.threads)
        job.ran.update(threads=threads)
        with torch_threads(threads):
            yield from embed(network, batches, views, device)


MEASUREMENT_BATCH = 256
"""Cells that are measured at a time."""


def _iter_measurements(model: str, crops: ScaledCrops, cells: pd.DataFrame) -> Iterator[np.ndarray]:
    from cellssl.imaging import measurements

    with_shape = model == "features"
    measure = measurements.features if with_shape else measurements.intensities
    columns = [name for name in SHAPE_FEATURES if with_shape and name in cells and cells[name].notna().all()]
    shapes = cells[columns].to_numpy(np.float32)
    for rows in in_blocks(np.arange(len(crops)), MEASUREMENT_BATCH):
        yield np.concatenate([measure(crops.read_once(rows)), shapes[rows]], axis=1)
