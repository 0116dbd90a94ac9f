"""stage: embeddings in; a cluster for every cell, scores against every column, figures and a table of wells out."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from cellssl.artifacts.contents import input_of, not_as_written
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import write_table
from cellssl.bounded import read_arrays
from cellssl.config.settings import FROM_CARD, first_fault, json_ready
from cellssl.engine.build import Job, Metrics
from cellssl.errors import UsageError
from cellssl.events import Event, Note, Progress
from cellssl.files import save_arrays
from cellssl.profiling.clusterer import NOISE, ClustererSettings, Clustering
from cellssl.profiling.normaliser import chain_names
from cellssl.stages.cluster import map
from cellssl.stages.cluster.block_clusters import block_agreements
from cellssl.stages.cluster.earlier import check_same_model, check_same_scale
from cellssl.stages.cluster.metrics import ClusterMetrics, WellCounts, method_of
from cellssl.stages.cluster.montage import write_montage
from cellssl.stages.cluster.normalised import (
    FittingControls,
    Normalised,
    fitting_controls,
    normalised,
    normalised_as_before,
)
from cellssl.stages.cluster.scores import check_columns, score_clusters
from cellssl.stages.cluster.settings import Settings
from cellssl.stages.cluster.wells import write_wells
from cellssl.stages.shared.card_shapes import embed_section
from cellssl.stages.shared.cell_tables import read_all_embeddings
from cellssl.stages.shared.plate_layout import split_by_cell
from cellssl.stages.shared.scaled_crops import upstream_segment

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.chain import FittedChain

CHOOSING_CELLS = 20_000
"""Number of cells on which the number of clusters is chosen; where there are more, a random sample of this size."""


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Fit and score the clusters on one part of the split, and describe the wells by the even draw of cells."""
    from cellssl.profiling.copies import distinct
    from cellssl.profiling.vector_spread import vector_spread

    yield Progress(0, 4, "parts", "clusters")
    cells, vectors = _cells_in_use(job)
    scored = cells["scored"].to_numpy(bool)
    check_columns(job.settings.against, cells)
    if not np.ptp(vectors[scored], axis=0).any():
        yield Note(
            f"all {scored.sum():,} embeddings are the same: the encoder has collapsed, and the clusters mean nothing"
        )
    spread = vector_spread(vectors[scored])
    fitting = FittingControls.none(len(cells)) if "assign_to" in job.inputs else fitting_controls(job, cells)
    if n_fitting := int((fitting.not_scored & scored).sum()):
        yield Note(
            f"{n_fitting:,} of {scored.sum():,} cells are controls that fit {' and '.join(fitting.links)} of "
            "cluster.normalise; they are neither clustered nor scored"
        )
        scored = scored & ~fitting.not_scored
        cells = cells.assign(scored=scored)
    found = _normalised(job, cells, vectors, fitting.fitting)
    normal = found.x
    del vectors
    if found.by_cell:
        yield Note(split_by_cell(found.by_cell))
    method, clustering, silhouette_of_k = _clustering(job, normal[scored])
    if not method.assigns() and not scored.all():
        yield Note(
            f"{method.plugin_name()} cannot assign new cells to its clusters: wells.csv and the montage use the drawn "
            f"cells among the {scored.sum():,} that were clustered; n_drawn says how many these are in each well"
        )
        cells, normal, scored = cells[scored].reset_index(drop=True), normal[scored], scored[scored]
    clustering = _with_drawn_cells(method, clustering, normal, scored)
    _write_assignment(job, cells, normal, found.chain, clustering)
    yield Progress(1, 4, "parts", "scores")
    of_part = cells[scored].reset_index(drop=True), normal[scored], clustering.assignment[scored]
    scores = score_clusters(*of_part, job.seed or 0, job.settings.against, silhouette_of_k)
    text = json.dumps(scores.to_json(), indent=1, sort_keys=True)
    job.draft.file("scores.json").write_text(text + "\n", encoding="utf-8")
    source, segment = _cells_below(job)
    drawn = cells["drawn"].to_numpy(bool)
    of_draw = (
        cells[drawn].reset_index(drop=True),
        normal[drawn],
        replace(clustering, assignment=clustering.assignment[drawn]),
    )
    wells = write_wells(job, source, segment, *of_draw)
    yield Progress(2, 4, "parts", "map")
    axes = map.write(job, *of_part, whitened=found.is_whitened)
    yield Progress(3, 4, "parts", "montage")
    write_montage(job, segment, *of_draw)
    gains = None
    if found.chain.blocks and job.settings.drop_blocks and "assign_to" not in job.inputs:
        yield Progress(3, 4, "parts", "clusters without each block")
        k, seed = len(clustering.centroids), job.seed or 0
        gains = block_agreements(
            *of_part,
            found.chain.blocks_out,
            lambda x: method.fit(x, k, job.settings.n_init, seed).assignment,
        )
    numbers = clustering.assignment[scored]
    filled = len(np.unique(numbers[numbers != NOISE]))
    is_any_empty = filled < len(clustering.centroids)
    metrics = ClusterMetrics(
        cells=int(scored.sum()),
        k=len(clustering.centroids),
        method=json_ready(method, full=True),
        normalise=tuple(chain_names(found.chain.links)),
        fitted_by=found.fitted_by,
        empty_blocks=found.chain.empty_blocks,
        block_gains=gains,
        scores=scores,
        wells=WellCounts.of(wells),
        spread=spread,
        filled=filled if is_any_empty else None,
        distinct=distinct(normal[scored]) if is_any_empty else None,
        map_axes=axes,
    )
    yield from (Note(sentence) for sentence in metrics.cautions())
    return metrics.to_json()


def _cells_in_use(job: Job) -> tuple[pd.DataFrame, np.ndarray]:
    """Return metadata and embeddings of the cells of the part, `scored`, and of those drawn to describe the wells.

    Raises UsageError where there is no such part, or the embeddings are from a version without the draw.
    """
    embed = job.inputs["embed"]
    cells, vectors = read_all_embeddings(embed)
    if "drawn" not in cells:
        raise UsageError(
            f"{embed.path} lacks the draw of cells per well that wells.csv is made from: an earlier version wrote it",
            hint="embed the cells again: cellssl embed RECIPE",
        )
    cells = cells.assign(scored=_is_in_part(job.settings.part, cells))
    used = (cells["scored"] | cells["drawn"]).to_numpy(bool)
    return (cells, vectors) if used.all() else (cells[used].reset_index(drop=True), vectors[used])


def _is_in_part(part: str | None, cells: pd.DataFrame) -> np.ndarray:
    """Return which cells are clustered and scored; by default those of test where there is a split, else all."""
    if "split" not in cells:
        if part not in (None, "all"):
            raise UsageError(
                f"these embeddings have no split, so there is no part {part!r}", hint='set cluster.part = "all"'
            )
        return np.ones(len(cells), bool)
    part = part or "test"
    here = cells["split"].notna() if part == "all" else (cells["split"] == part).fillna(False)
    if not here.any():
        raise UsageError(f"the part {part!r} of the split has no cells", hint="set cluster.part to another part")
    return here.to_numpy(bool)


def _with_drawn_cells(
    method: ClustererSettings, clustering: Clustering, normal: np.ndarray, scored: np.ndarray
) -> Clustering:
    """Return the clustering of all rows: those that were not fitted are assigned to the fitted clusters."""
    if scored.all():
        return clustering
    assignment = np.empty(len(scored), clustering.assignment.dtype)
    assignment[scored] = clustering.assignment
    arrays = {"centroids": clustering.centroids, **clustering.model}
    assignment[~scored] = method.assign(normal[~scored], arrays)
    return replace(clustering, assignment=assignment)


def _cells_below(job: Job) -> tuple[Artifact, Artifact]:
    """Return the split or segment artifact whose cells were embedded, and the segment artifact."""
    embed = job.inputs["embed"]
    store = job.context.store.with_store_of(embed)
    kind = embed_section(embed).cells
    source = store.get(kind, input_of(embed, kind))
    return source, upstream_segment(source, store)


def _normalised(job: Job, cells: pd.DataFrame, vectors: np.ndarray, fitting: np.ndarray) -> Normalised:
    if "assign_to" not in job.inputs:
        return normalised(job, cells, vectors, fitting)
    earlier = job.inputs["assign_to"]
    check_same_model(earlier, job.inputs["embed"].card, job.context.store)
    check_same_scale(earlier, job.inputs["embed"], job.context.store)
    return normalised_as_before(earlier, job.inputs["embed"], cells, vectors)


def _clustering(job: Job, normal: np.ndarray) -> tuple[ClustererSettings, Clustering, dict[str, float] | None]:
    """Return the method, the clusters, and the silhouette by number of clusters if one was chosen."""
    if "assign_to" in job.inputs:
        return (*_assigned(job, normal), None)
    settings, method, seed = job.settings, job.settings.clusterer(), job.seed or 0
    k, silhouette_of_k = _number_of_clusters(settings, normal, seed)
    return method, method.fit(normal, k, settings.n_init, seed), silhouette_of_k


def _number_of_clusters(settings: Settings, normal: np.ndarray, seed: int) -> tuple[int, dict[str, float] | None]:
    """Return the number of clusters, and the silhouette of every number that was tried."""
    from cellssl.profiling import cluster_scores
    from cellssl.randomness import generator

    if isinstance(settings.k, int) or not settings.clusterer().takes_k:
        return (settings.k if isinstance(settings.k, int) else settings.k[0]), None
    if len(normal) > CHOOSING_CELLS:
        normal = normal[np.sort(generator("choosing k", seed).permutation(len(normal))[:CHOOSING_CELLS])]
    low, high = settings.k
    silhouettes = {}
    for k in range(low, high + 1):
        assignment = settings.clusterer().fit(normal, k, settings.n_init, seed).assignment
        silhouettes[k] = cluster_scores.silhouette(normal, assignment, seed)
    best = max(silhouettes, key=lambda k: (np.nan_to_num(silhouettes[k], nan=-2.0), -k))
    return best, {str(k): value for k, value in silhouettes.items()}


def _assigned(job: Job, normal: np.ndarray) -> tuple[ClustererSettings, Clustering]:
    """Return the method and the clusters of the earlier clustering, applied to these vectors."""
    from cellssl.profiling import kmeans

    earlier = job.inputs["assign_to"]
    # not the method in its section, which has no effect where the earlier clustering was an assignment, too
    method = _method_of(earlier)
    path = earlier.file("centroids.npz")
    try:
        arrays = read_arrays(path)
        method.check_arrays(arrays)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise not_as_written(earlier, path.name, str(error)) from error
    assignment = method.assign(normal, arrays)
    model = {name: array for name, array in arrays.items() if name.startswith(method.plugin_name())}
    return method, kmeans.clustering_of(normal, assignment, arrays["centroids"], model)


def _method_of(earlier: Artifact) -> ClustererSettings:
    """Return the method of an earlier clustering, as its card has it; IntegrityError where that is none."""
    try:
        return Settings.model_validate(
            {"method": method_of(earlier.card.metrics)}, context={FROM_CARD: True}
        ).clusterer()
    except ValidationError as error:
        raise not_as_written(earlier, "artifact.json", f"metrics.method: {first_fault(error).message}") from error


def _write_assignment(
    job: Job, cells: pd.DataFrame, normal: np.ndarray, chain: FittedChain, clustering: Clustering
) -> None:
    """Write assignments.parquet, one row per cell, and centroids.npz, which `assign_to` reads."""
    from cellssl.profiling.kmeans import distances_to_centroids

    names = [name for name in ("cell_id", "split", "scored", "drawn") if name in cells]
    table = cells[names].copy()
    table.insert(1, "cluster", clustering.assignment.astype(np.int32))
    table.insert(2, "distance", distances_to_centroids(normal, clustering))
    write_table(table, job.draft.file("assignments.parquet"))
    arrays: dict[str, Any] = {"centroids": clustering.centroids, **clustering.model, **chain.arrays()}
    save_arrays(job.draft.file("centroids.npz"), arrays)
