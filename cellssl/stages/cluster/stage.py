"""stage: embeddings in; a cluster for every cell, scores against every column, figures and a table of wells out."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from cellssl.artifacts.contents import not_as_written
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import write_csv, write_table
from cellssl.bounded import read_arrays
from cellssl.config.settings import FROM_CARD, first_fault, json_ready
from cellssl.engine.build import Job, Metrics
from cellssl.errors import UsageError
from cellssl.events import Event, Note, Progress
from cellssl.files import save_arrays
from cellssl.profiling.clusterer import NOISE, ClustererSettings, Clustering
from cellssl.stages.cluster import map
from cellssl.stages.cluster.earlier import check_same_model
from cellssl.stages.cluster.metrics import ClusterMetrics, method_of
from cellssl.stages.cluster.montage import write_montage
from cellssl.stages.cluster.scores import check_columns, score_clusters
from cellssl.stages.cluster.settings import Settings
from cellssl.stages.shared.cell_tables import read_embeddings

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.normalise import Normaliser

CHOOSING_CELLS = 20_000
"""Number of cells on which the number of clusters is chosen; where there are more, a random sample of this size."""


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Normalise the embeddings, cluster or assign the cells, score the clusters, and draw them."""
    from cellssl.profiling.copies import distinct

    yield Progress(0, 4, "parts", "clusters")
    cells, vectors = _cells_of_part(job)
    check_columns(job.settings.against, cells)
    if not np.ptp(vectors, axis=0).any():
        yield Note(
            f"all {len(vectors):,} embeddings are the same: the encoder has collapsed, and the clusters mean nothing"
        )
    method, normaliser, clustering, silhouette_of_k = _clustering(job, vectors)
    normal = normaliser.apply(vectors)
    del vectors
    _write_assignment(job, cells, normal, normaliser, clustering)
    yield Progress(1, 4, "parts", "scores")
    against = job.settings.against
    scores = score_clusters(cells, normal, clustering.assignment, job.seed or 0, against, silhouette_of_k)
    text = json.dumps(scores.to_json(), indent=1, sort_keys=True)
    job.draft.file("scores.json").write_text(text + "\n", encoding="utf-8")
    _write_wells(job, cells, normal, clustering)
    yield Progress(2, 4, "parts", "map")
    map.write(job, cells, normal, clustering.assignment, whitened=normaliser.name == "pca_whiten")
    yield Progress(3, 4, "parts", "montage")
    write_montage(job, cells, normal, clustering)
    filled = len(np.unique(clustering.assignment[clustering.assignment != NOISE]))
    is_any_empty = filled < len(clustering.centroids)
    metrics = ClusterMetrics(
        cells=len(cells),
        k=len(clustering.centroids),
        method=json_ready(method, full=True),
        normalise=normaliser.name,
        scores=scores,
        filled=filled if is_any_empty else None,
        distinct=distinct(normal) if is_any_empty else None,
    )
    yield from (Note(sentence) for sentence in metrics.cautions())
    return metrics.to_json()


def _cells_of_part(job: Job) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the metadata and the embeddings of the cells that are to be clustered."""
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
        raise UsageError(f"the part {part!r} of the split has no cells", hint="set cluster.part to another part")
    return cells[here].reset_index(drop=True), vectors[here]


def _clustering(
    job: Job, vectors: np.ndarray
) -> tuple[ClustererSettings, Normaliser, Clustering, dict[str, float] | None]:
    """Return the method, the normaliser, the clusters, and the silhouette by number of clusters if one was chosen."""
    from cellssl.profiling import normalise

    if "assign_to" in job.inputs:
        return (*_assigned(job, vectors), None)
    settings, method, seed = job.settings, job.settings.clusterer(), job.seed or 0
    normaliser = normalise.fit(settings.normalise, vectors)
    normal = normaliser.apply(vectors)
    k, silhouette_of_k = _number_of_clusters(settings, normal, seed)
    clustering = method.fit(normal, k, settings.n_init, seed)
    return method, normaliser, clustering, silhouette_of_k


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


def _assigned(job: Job, vectors: np.ndarray) -> tuple[ClustererSettings, Normaliser, Clustering]:
    """Return the method, the normaliser and the clusters of the earlier clustering, applied to these vectors."""
    from cellssl.profiling import kmeans, normalise

    earlier = job.inputs["assign_to"]
    check_same_model(earlier, job.inputs["embed"].card, job.context.store)
    # not the method in its section, which has no effect where the earlier clustering was an assignment, too
    method = _method_of(earlier)
    path = earlier.file("centroids.npz")
    try:
        arrays = read_arrays(path)
        normaliser = normalise.Normaliser.from_arrays(arrays)
        method.check_arrays(arrays)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise not_as_written(earlier, path.name, str(error)) from error
    normal = normaliser.apply(vectors)
    assignment = method.assign(normal, arrays)
    model = {name: array for name, array in arrays.items() if name.startswith(method.plugin_name())}
    return method, normaliser, kmeans.clustering_of(normal, assignment, arrays["centroids"], model)


def _method_of(earlier: Artifact) -> ClustererSettings:
    """Return the method of an earlier clustering, as its card has it; IntegrityError where that is none."""
    try:
        return Settings.model_validate(
            {"method": method_of(earlier.card.metrics)}, context={FROM_CARD: True}
        ).clusterer()
    except ValidationError as error:
        raise not_as_written(earlier, "artifact.json", f"metrics.method: {first_fault(error).message}") from error


def _write_assignment(
    job: Job, cells: pd.DataFrame, normal: np.ndarray, normaliser: Normaliser, clustering: Clustering
) -> None:
    """Write assignments.parquet, one row per cell, and centroids.npz, which `assign_to` reads."""
    import pandas as pd

    from cellssl.profiling.kmeans import distances_to_centroids

    columns = {"cell_id": cells["cell_id"], "cluster": clustering.assignment.astype(np.int32)}
    table = pd.DataFrame({**columns, "distance": distances_to_centroids(normal, clustering)})
    write_table(table, job.draft.file("assignments.parquet"))
    arrays: dict[str, Any] = {"centroids": clustering.centroids, **clustering.model, **normaliser.arrays()}
    save_arrays(job.draft.file("centroids.npz"), arrays)


def _write_wells(job: Job, cells: pd.DataFrame, normal: np.ndarray, clustering: Clustering) -> None:
    """Write wells.csv, one row per well, and the figure of clusters against dose."""
    from cellssl.profiling.wells import well_table

    control = cells["control"].to_numpy(bool)
    table = well_table(cells, normal, clustering.assignment, len(clustering.centroids), control)
    write_csv(table, job.draft.file("wells.csv"))
    map.write_doses(job, table)
