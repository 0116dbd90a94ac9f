"""cluster: embeddings in, a cluster for every cell, scores against every label, montages and a table of wells out."""

from __future__ import annotations

import json
import math
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_cells, write_table
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Progress
from cellssl.settings import Strict
from cellssl.stages._cells import scaled_crops, segment_below
from cellssl.stages._make import Job, Metrics
from cellssl.stages.embed import read_embeddings

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.cluster import Clustering
    from cellssl.profiling.normalise import Normaliser

ALGORITHM = 1
ANSWERS = ("label", "compound", "dose_micromolar", "moa", "true_phenotype")
"""Columns that the clusters are asked for, where the cells have them."""
NUISANCES = ("plate", "well", "density")
"""Columns that they should not follow; `density` is whether a cell has more neighbours than the median cell."""


class Settings(Strict):
    """Find groups of alike cells, and compare them with what is known."""

    k: int = Field(2, ge=2)
    """Number of clusters."""
    starts: int = Field(20, ge=1)
    """K-Means is begun so often, and the best is kept."""
    part: Literal["train", "val", "test", "all"] | None = None
    """Which cells; test where there is a split, else all."""
    normalise: Literal["none", "zscore", "l2", "pca_whiten"] = "none"
    """What is done to the embeddings before."""
    assign_to: str | None = None
    """An earlier cluster artifact: its normaliser and centroids are used, and nothing is fitted."""
    montage_cells: int = Field(32, ge=1)
    """Cells nearest each centroid that are kept as pictures."""

    def changed(self) -> dict[str, Any]:
        """An earlier clustering counts by its fingerprint, not by how it was named."""
        counted = super().changed()
        counted.pop("assign_to", None)
        return counted


def inputs(settings: Settings) -> tuple[str, ...]:
    """Embeddings."""
    return ("embed",)


def references(settings: Settings) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The earlier clustering, where one is named."""
    return {"assign_to": (settings.assign_to, ("cluster",))} if settings.assign_to else {}


def seeded(settings: Settings) -> bool:
    """K-Means begins somewhere; an assignment does not."""
    return settings.assign_to is None


def outside(settings: Settings) -> list[Path]:
    """No files of the user."""
    return []


def run(job: Job) -> Generator[Event, None, Metrics]:
    """Normalise, cluster or assign, score, and draw."""
    yield Progress(0, 3, "parts of the work", "clusters")
    cells, vectors = _chosen(job)
    normaliser, clustering = _clustering(job, vectors)
    normal = normaliser.apply(vectors)
    _write_assignment(job, cells, normal, normaliser, clustering)
    yield Progress(1, 3, "parts of the work", "scores")
    scores = _scores(cells, normal, clustering.assignment, job.seed or 0)
    job.draft.file("scores.json").write_text(json.dumps(scores, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _write_wells(job, cells, normal, clustering)
    yield Progress(2, 3, "parts of the work", "montage")
    _write_montage(job, cells, normal, clustering)
    return {"cells": len(cells), "k": len(clustering.centroids), **scores}


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


def _clustering(job: Job, vectors: np.ndarray) -> tuple[Normaliser, Clustering]:
    from cellssl.profiling import cluster, normalise

    settings = job.settings
    if "assign_to" not in job.inputs:
        normaliser = normalise.fit(settings.normalise, vectors)
        fitted = cluster.fit(normaliser.apply(vectors), settings.k, starts=settings.starts, seed=job.seed or 0)
        return normaliser, fitted
    earlier = job.inputs["assign_to"]
    _check_same_model(earlier, job)
    with np.load(earlier.file("centroids.npz"), allow_pickle=False) as arrays:
        normaliser = normalise.Normaliser.from_arrays(arrays)
        centroids = arrays["centroids"]
    normal = normaliser.apply(vectors)
    assignment = cluster.assign(normal, centroids)
    inertia = float(np.square(normal - centroids[assignment]).sum())
    return normaliser, cluster.Clustering(centroids, assignment, inertia)


def _check_same_model(earlier: Artifact, job: Job) -> None:
    """Numbers of two models mean different things even where they are equally many."""
    made_by = [_model_of(embed) for embed in (job.inputs["embed"], _embed_below(earlier, job))]
    if made_by[0] != made_by[1]:
        raise UsageError(
            f"the earlier clustering stands on the model {made_by[1]}, these embeddings on {made_by[0]}",
            hint=f"embed the cells with [embed] model = {made_by[1].partition(' ')[0]!r}, and the same network",
        )


def _embed_below(clustering: Artifact, job: Job) -> Artifact:
    return job.bench.store.beside(clustering).get("embed", clustering.card.inputs["embed"])


def _model_of(embed: Artifact) -> str:
    given = embed.card.inputs
    network = embed.card.section["network"]
    trained = given.get("model", given.get("pretrain"))
    return f"{trained} ({network})" if trained else str(embed.card.section["model"])


def _write_assignment(
    job: Job, cells: pd.DataFrame, normal: np.ndarray, normaliser: Normaliser, clustering: Clustering
) -> None:
    import pandas as pd

    far = np.linalg.norm(normal - clustering.centroids[clustering.assignment], axis=1)
    table = pd.DataFrame(
        {"cell_id": cells["cell_id"], "cluster": clustering.assignment.astype(np.int32), "distance": far}
    )
    write_table(table, job.draft.file("assignments.parquet"))
    np.savez(job.draft.file("centroids.npz"), centroids=clustering.centroids, **normaliser.arrays())  # type: ignore[arg-type]


def _scores(cells: pd.DataFrame, normal: np.ndarray, assignment: np.ndarray, seed: int) -> dict[str, Any]:
    """Agreement with every column that has two values or more; shuffled labels and an interval for the label."""
    from cellssl.profiling import scores

    known = _with_density(cells)
    found: dict[str, Any] = {"silhouette": scores.silhouette(normal, assignment, seed), "against": {}}
    for name in (*ANSWERS, *NUISANCES):
        if name in known and known[name].nunique() > 1:
            found["against"][name] = scores.agreement(_words(known[name]), assignment)
    if "label" in found["against"]:
        labels = _words(known["label"])
        shuffled = scores.shuffled_ami(labels, assignment, seed)
        interval = scores.ami_interval(labels, assignment, seed)
        found["shuffled_ami"] = {"mean": shuffled.mean, "sd": shuffled.sd}
        found["ami_interval"] = [interval.low, interval.high]
        if "true_phenotype" in found["against"]:
            found["ceiling_ami"] = ceiling(known)
    finite: dict[str, Any] = _finite(found)
    return finite


def ceiling(cells: pd.DataFrame) -> float:
    """AMI between true phenotype and label: what perfect eyes could reach, as many treated cells look untreated."""
    from cellssl.profiling import scores

    both = cells[cells["true_phenotype"].notna() & cells["label"].notna()]
    _, phenotype = np.unique(both["true_phenotype"].to_numpy(str), return_inverse=True)
    return scores.agreement(_words(both["label"]), phenotype)["ami"]


def _with_density(cells: pd.DataFrame) -> pd.DataFrame:
    if "neighbours" not in cells:
        return cells
    crowded = cells["neighbours"] > cells["neighbours"].median()
    return cells.assign(density=crowded.map({True: "dense", False: "sparse"}))


def _words(column: pd.Series[Any]) -> list[str | None]:
    return [None if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value


def _write_wells(job: Job, cells: pd.DataFrame, normal: np.ndarray, clustering: Clustering) -> None:
    from cellssl.profiling.wells import well_table

    control = cells["control"].to_numpy(bool)
    table = well_table(cells, normal, clustering.assignment, len(clustering.centroids), control)
    table.to_csv(job.draft.file("wells.csv"), index=False, lineterminator="\n")


def _write_montage(job: Job, cells: pd.DataFrame, normal: np.ndarray, clustering: Clustering) -> None:
    """The cells nearest each centroid, as a picture and as a list."""
    import pandas as pd

    from cellssl.imaging.colour import named_colours, to_rgb
    from cellssl.profiling.cluster import nearest
    from cellssl.reporting import figures, style

    rows = nearest(normal, clustering, job.settings.montage_cells)
    chosen = pd.DataFrame(
        [(cluster, cells["cell_id"].iloc[row]) for cluster, members in enumerate(rows) for row in members],
        columns=["cluster", "cell_id"],
    )
    chosen.to_csv(job.draft.file("nearest.csv"), index=False, lineterminator="\n")
    crops = _crops_of(job, chosen)
    tiles = to_rgb(crops.read(np.arange(len(crops))), named_colours(crops.channels))
    groups = {
        f"cluster {cluster}: {int((clustering.assignment == cluster).sum()):,} cells": tiles[
            chosen["cluster"] == cluster
        ]
        for cluster in range(len(rows))
    }
    pixel_um = cells["pixel_um"].iloc[0]
    figure = figures.montage(groups, None if pd.isna(pixel_um) else float(pixel_um))
    job.draft.file("montage.png").write_bytes(style.png(figure))


def _crops_of(job: Job, chosen: pd.DataFrame) -> Any:
    embed = job.inputs["embed"]
    store = job.bench.store.beside(embed)
    kind = embed.card.section["cells"]
    segment = segment_below(store.get(kind, embed.card.inputs[kind]), store)
    cells = chosen.merge(read_cells(segment), on="cell_id", how="left", validate="one_to_one")
    if cells["crop_row"].isna().any():
        raise DataError(f"{segment.path} lacks cells of {embed.path}", hint="make both again")
    return scaled_crops(segment, store, cells)
