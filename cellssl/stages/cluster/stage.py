"""stage: embeddings in, a cluster for every cell, scores against every label, pictures and a table of wells out."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import write_table
from cellssl.config.settings import json_ready
from cellssl.engine.build import Job, Metrics
from cellssl.errors import UsageError
from cellssl.events import Event, Note, Progress
from cellssl.profiling.clusterer import ClustererSettings, Clustering
from cellssl.stages.cluster import map
from cellssl.stages.shared.cell_tables import read_embeddings

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.normalise import Normaliser
from cellssl.stages.cluster.montage import write_montage
from cellssl.stages.cluster.scores import check_columns, finite, score_columns
from cellssl.stages.cluster.settings import Settings

CHOOSING_CELLS = 20_000
"""Cells on which the number of clusters is chosen; of more, so many are drawn."""


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Normalise, cluster or assign, score, and draw."""
    yield Progress(0, 4, "parts of the work", "clusters")
    cells, vectors = _chosen(job)
    check_columns(job.settings.against, cells)
    if not np.ptp(vectors, axis=0).any():
        yield Note(
            f"all {len(vectors):,} embeddings are the same: the encoder has collapsed, and clusters mean nothing"
        )
    method, normaliser, clustering, chosen = _clustering(job, vectors)
    normal = normaliser.apply(vectors)
    del vectors
    _write_assignment(job, cells, normal, normaliser, clustering)
    yield Progress(1, 4, "parts of the work", "scores")
    scores = {**chosen, **score_columns(cells, normal, clustering.assignment, job.seed or 0, job.settings.against)}
    scores = finite(scores)
    job.draft.file("scores.json").write_text(json.dumps(scores, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _write_wells(job, cells, normal, clustering)
    yield Progress(2, 4, "parts of the work", "map")
    map.write(job, cells, normal, clustering.assignment, whitened=normaliser.name == "pca_whiten")
    yield Progress(3, 4, "parts of the work", "montage")
    write_montage(job, cells, normal, clustering)
    return {
        "cells": len(cells),
        "k": len(clustering.centroids),
        "method": json_ready(method, full=True),
        "normalise": normaliser.name,
        **scores,
    }


def _chosen(job: Job) -> tuple[pd.DataFrame, np.ndarray]:
    cells, vectors = read_embeddings(job.inputs["embed"])
    part = job.settings.part or ("test" if "split" in cells else "all")
    if part == "all":
        return cells, vectors
    if "split" not in cells:
        raise UsageError(
            f"these embeddings have no split, so there is no part {part!r}", hint='set cluster.part = "all"'
        )
    here = (cells["split"] == part).to_numpy()
    if not here.any():
        raise UsageError(f"the part {part!r} of the split has no cells", hint="choose another cluster.part")
    return cells[here].reset_index(drop=True), vectors[here]


def _clustering(job: Job, vectors: np.ndarray) -> tuple[ClustererSettings, Normaliser, Clustering, dict[str, Any]]:
    """The method, the normaliser, the clusters, and how their number was chosen."""
    from cellssl.profiling import normalise

    if "assign_to" in job.inputs:
        return (*_assigned(job, vectors), {})
    settings, method, seed = job.settings, job.settings.clusterer(), job.seed or 0
    normaliser = normalise.fit(settings.normalise, vectors)
    normal = normaliser.apply(vectors)
    k, silhouettes = _number(settings, normal, seed)
    clustering = method.fit(normal, k, settings.n_init, seed)
    return method, normaliser, clustering, {"silhouette_of_k": silhouettes} if silhouettes else {}


def _number(settings: Settings, normal: np.ndarray, seed: int) -> tuple[int, dict[str, float]]:
    """The number of clusters, and the silhouette of every number that was tried."""
    from cellssl.profiling import cluster_scores
    from cellssl.randomness import generator

    if isinstance(settings.k, int) or not settings.clusterer().takes_k:
        return (settings.k if isinstance(settings.k, int) else settings.k[0]), {}
    if len(normal) > CHOOSING_CELLS:
        normal = normal[np.sort(generator("choosing k", seed).permutation(len(normal))[:CHOOSING_CELLS])]
    low, high = settings.k
    silhouettes = {}
    for k in range(low, high + 1):
        assignment = settings.clusterer().fit(normal, k, settings.n_init, seed).assignment
        silhouettes[k] = cluster_scores.silhouette(normal, assignment, seed)
    best = max(silhouettes, key=lambda k: (np.nan_to_num(silhouettes[k], nan=-2.0), -k))
    return best, {str(k): value for k, value in silhouettes.items()}


def _assigned(job: Job, vectors: np.ndarray) -> tuple[ClustererSettings, Normaliser, Clustering]:
    from cellssl.profiling import kmeans, normalise

    earlier = job.inputs["assign_to"]
    _check_same_model(earlier, job)
    # not the method of its section, which says nothing where the earlier clustering was an assignment too
    method = Settings.model_validate({"method": earlier.card.metrics.get("method", "kmeans")}).clusterer()
    with np.load(earlier.file("centroids.npz"), allow_pickle=False) as arrays:
        normaliser = normalise.Normaliser.from_arrays(arrays)
        normal = normaliser.apply(vectors)
        assignment = method.assign(normal, arrays)
        centroids = arrays["centroids"]
        model = {name: arrays[name] for name in arrays if name.startswith(method.plugin_name())}
    return method, normaliser, kmeans.clustering_of(normal, assignment, centroids, model)


def _check_same_model(earlier: Artifact, job: Job) -> None:
    """Numbers of two models mean different things even where they are equally many."""
    made_by = [_model_of(embed) for embed in (job.inputs["embed"], _embed_below(earlier, job))]
    if made_by[0] != made_by[1]:
        raise UsageError(
            f"the earlier clustering stands on the model {made_by[1]}, these embeddings on {made_by[0]}",
            hint=f"embed the cells with [embed] model = {made_by[1].partition(' ')[0]!r}, and the same network",
        )


def _embed_below(clustering: Artifact, job: Job) -> Artifact:
    return job.context.store.with_store_of(clustering).get("embed", clustering.card.inputs["embed"])


def _model_of(embed: Artifact) -> str:
    """The model's fingerprint, and how it looked at the cells."""
    given, section = embed.card.inputs, embed.card.section
    trained = given.get("model", given.get("pretrain"))
    how = [section["network"]]
    how += [str(section[knob]) for knob in ("layer", "branch", "view") if section.get(knob) not in (None, "pooled", [])]
    return f"{trained} ({', '.join(how)})" if trained else str(section["model"])


def _write_assignment(
    job: Job, cells: pd.DataFrame, normal: np.ndarray, normaliser: Normaliser, clustering: Clustering
) -> None:
    import pandas as pd

    from cellssl.profiling.kmeans import distances

    far = distances(normal, clustering)
    table = pd.DataFrame(
        {"cell_id": cells["cell_id"], "cluster": clustering.assignment.astype(np.int32), "distance": far}
    )
    write_table(table, job.draft.file("assignments.parquet"))
    arrays: dict[str, Any] = {"centroids": clustering.centroids, **clustering.model, **normaliser.arrays()}
    np.savez(job.draft.file("centroids.npz"), **arrays)


def _write_wells(job: Job, cells: pd.DataFrame, normal: np.ndarray, clustering: Clustering) -> None:
    from cellssl.profiling.wells import well_table

    control = cells["control"].to_numpy(bool)
    table = well_table(cells, normal, clustering.assignment, len(clustering.centroids), control)
    table.to_csv(job.draft.file("wells.csv"), index=False, lineterminator="\n")
    map.write_doses(job, table)
