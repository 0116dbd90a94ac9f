"""cluster: embeddings in, a cluster for every cell, scores against every label, pictures and a table of wells out."""

from __future__ import annotations

import json
import math
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, field_validator

from cellssl import rooms
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import read_cells, write_table
from cellssl.errors import DataError, UsageError
from cellssl.events import Event, Note, Progress
from cellssl.profiling.clusterer import ClustererSettings, Clustering
from cellssl.rooms import did_you_mean
from cellssl.settings import OfRoom, Part, Strict, plain
from cellssl.stages import _maps
from cellssl.stages._cells import common_pixel_um, scaled_crops, segment_below
from cellssl.stages._make import Job, Metrics
from cellssl.stages.embed import read_embeddings

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.normalise import Normaliser

ALGORITHM = 2
"""2: every column has its shuffled labels and interval, there is a map, and pca_whiten takes less memory."""
ANSWERS = ("label", "treatment", "compound", "dose_micromolar", "moa", "true_phenotype")
"""Columns that the clusters are asked for, where the cells have them; `treatment` is a compound at a dose."""
NUISANCES = ("plate", "well", "control_well", "density")
"""Columns that they should not follow; `density` is whether a cell has more neighbours than the median cell."""
CHOOSING_CELLS = 20_000
"""Cells on which the number of clusters is chosen; of more, so many are drawn."""
CLUSTERERS = "cellssl.profiling.clusterers"


class Settings(Strict):
    """Find groups of alike cells, and compare them with what is known. With `assign_to` nothing is fitted, so `method`,
    `k`, `starts` and `normalise` are those of the earlier clustering."""

    method: Annotated[Part, OfRoom(CLUSTERERS)] = Field(
        default_factory=lambda: rooms.load(CLUSTERERS, "kmeans").Settings()
    )
    """How: a name, or a table with a name and its knobs; see `cellssl explain clusterers`."""
    k: int | tuple[int, int] = 2
    """Number of clusters; or the lowest and highest of a range such as [2, 8], of which the one with the highest
    silhouette is taken. Methods that find their own number take no notice."""
    starts: int = Field(20, ge=1)
    """The method is begun so often, and the best is kept."""
    part: Literal["train", "val", "test", "all"] | None = None
    """Which cells; test where there is a split, else all."""
    normalise: Literal["none", "zscore", "l2", "pca_whiten"] = "none"
    """What is done to the embeddings before."""
    assign_to: str | None = None
    """An earlier cluster artifact: its normaliser and clusters are used, and nothing is fitted."""
    against: tuple[str, ...] | None = None
    """Columns that the clusters are compared with; where nothing is given, all of label, treatment, compound,
    dose_micromolar, moa, true_phenotype, plate, well and density that have more than one value."""
    montage_cells: int = Field(32, ge=1)
    """Cells nearest each centroid that are kept as pictures."""
    map: Literal["pca", "tsne", "umap"] = "pca"
    """Where a cell is drawn: on the principal components, by t-SNE, or by UMAP (needs cellssl[umap])."""

    @field_validator("k", mode="before")
    @classmethod
    def _number_or_range(cls, k: Any) -> Any:
        ends = k if isinstance(k, tuple) and len(k) == 2 else (k, k)
        if not all(type(end) is int for end in ends) or not 2 <= ends[0] <= ends[1]:
            raise ValueError("must be a whole number of 2 or more, or a range such as [2, 8]")
        return k

    def changed(self) -> dict[str, Any]:
        """An earlier clustering counts by its fingerprint, not by its name; what says nothing does not count."""
        counted = super().changed()
        silent = ["assign_to"]
        if self.assign_to:
            silent += ["method", "k", "starts", "normalise"]
        elif not self.clusterer().takes_k:
            silent += ["k", "starts"]
        return {name: value for name, value in counted.items() if name not in silent}

    def clusterer(self) -> ClustererSettings:
        """The method."""
        assert isinstance(self.method, ClustererSettings)
        return self.method


def inputs(settings: Settings) -> tuple[str, ...]:
    """Embeddings."""
    return ("embed",)


def references(settings: Settings) -> dict[str, tuple[str, tuple[str, ...]]]:
    """The earlier clustering, where one is named."""
    return {"assign_to": (settings.assign_to, ("cluster",))} if settings.assign_to else {}


def seeded(settings: Settings) -> bool:
    """Most methods begin somewhere; an assignment does not."""
    return settings.assign_to is None and settings.clusterer().takes_seed


def outside(settings: Settings) -> list[Path]:
    """No files of the user."""
    return []


def check(settings: Settings) -> None:
    """Raise UsageError where a library is asked for that is not there."""
    if not settings.assign_to:
        settings.clusterer().check_installed()
    if settings.map == "umap" and find_spec("umap") is None:
        raise UsageError('cluster.map = "umap" needs the library umap-learn', hint='pip install "cellssl[umap]"')


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
    scores = {**chosen, **_scores(cells, normal, clustering.assignment, job.seed or 0, job.settings.against)}
    scores = _finite(scores)
    job.draft.file("scores.json").write_text(json.dumps(scores, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _write_wells(job, cells, normal, clustering)
    yield Progress(2, 4, "parts of the work", "map")
    _maps.write(job, cells, normal, clustering.assignment, whitened=normaliser.name == "pca_whiten")
    yield Progress(3, 4, "parts of the work", "montage")
    _write_montage(job, cells, normal, clustering)
    return {
        "cells": len(cells),
        "k": len(clustering.centroids),
        "method": plain(method, full=True),
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


def check_columns(against: tuple[str, ...] | None, cells: pd.DataFrame) -> None:
    """Raise UsageError where the clusters are to be compared with a column that the cells have not."""
    known = tuple(_with_derived(cells.head(0)).columns)
    for name in against or ():
        if name not in known:
            raise UsageError(f"cluster.against: the cells have no column {name!r}", hint=did_you_mean(name, known))


def _clustering(job: Job, vectors: np.ndarray) -> tuple[ClustererSettings, Normaliser, Clustering, dict[str, Any]]:
    """The method, the normaliser, the clusters, and how their number was chosen."""
    from cellssl.profiling import normalise

    if "assign_to" in job.inputs:
        return (*_assigned(job, vectors), {})
    settings, method, seed = job.settings, job.settings.clusterer(), job.seed or 0
    normaliser = normalise.fit(settings.normalise, vectors)
    normal = normaliser.apply(vectors)
    k, silhouettes = _number(settings, normal, seed)
    clustering = method.fit(normal, k, settings.starts, seed)
    return method, normaliser, clustering, {"silhouette_of_k": silhouettes} if silhouettes else {}


def _number(settings: Settings, normal: np.ndarray, seed: int) -> tuple[int, dict[str, float]]:
    """The number of clusters, and the silhouette of every number that was tried."""
    from cellssl.profiling import scores
    from cellssl.randomness import generator

    if isinstance(settings.k, int) or not settings.clusterer().takes_k:
        return (settings.k if isinstance(settings.k, int) else settings.k[0]), {}
    if len(normal) > CHOOSING_CELLS:
        normal = normal[np.sort(generator("choosing k", seed).permutation(len(normal))[:CHOOSING_CELLS])]
    low, high = settings.k
    silhouettes = {}
    for k in range(low, high + 1):
        assignment = settings.clusterer().fit(normal, k, settings.starts, seed).assignment
        silhouettes[k] = scores.silhouette(normal, assignment, seed)
    best = max(silhouettes, key=lambda k: (np.nan_to_num(silhouettes[k], nan=-2.0), -k))
    return best, {str(k): value for k, value in silhouettes.items()}


def _assigned(job: Job, vectors: np.ndarray) -> tuple[ClustererSettings, Normaliser, Clustering]:
    from cellssl.profiling import cluster, normalise

    earlier = job.inputs["assign_to"]
    _check_same_model(earlier, job)
    # not the method of its section, which says nothing where the earlier clustering was an assignment too
    method = Settings.model_validate({"method": earlier.card.metrics.get("method", "kmeans")}).clusterer()
    with np.load(earlier.file("centroids.npz"), allow_pickle=False) as arrays:
        normaliser = normalise.Normaliser.from_arrays(arrays)
        normal = normaliser.apply(vectors)
        assignment = method.assign(normal, arrays)
        centroids = arrays["centroids"]
        model = {name: arrays[name] for name in arrays if name.startswith(method.part_name())}
    return method, normaliser, cluster.clustering_of(normal, assignment, centroids, model)


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

    from cellssl.profiling.cluster import distances

    far = distances(normal, clustering)
    table = pd.DataFrame(
        {"cell_id": cells["cell_id"], "cluster": clustering.assignment.astype(np.int32), "distance": far}
    )
    write_table(table, job.draft.file("assignments.parquet"))
    arrays: dict[str, Any] = {"centroids": clustering.centroids, **clustering.model, **normaliser.arrays()}
    np.savez(job.draft.file("centroids.npz"), **arrays)


def _scores(
    cells: pd.DataFrame, normal: np.ndarray, assignment: np.ndarray, seed: int, against: tuple[str, ...] | None
) -> dict[str, Any]:
    """Agreement with every column: what chance gives, and how sure it is; at the top once more for the label."""
    from cellssl.profiling import scores

    known = _with_derived(cells)
    found: dict[str, Any] = {"silhouette": scores.silhouette(normal, assignment, seed), "against": {}}
    if against is None:
        against = tuple(name for name in (*ANSWERS, *NUISANCES) if name in known and known[name].nunique() > 1)
    for name in against:
        compared = scores.compared(_words(known[name]), assignment, seed)
        found["against"][name] = {
            **compared.agreement,
            "shuffled_ami": {"mean": compared.shuffled.mean, "sd": compared.shuffled.sd},
            "ami_interval": [compared.interval.low, compared.interval.high],
            "cells": compared.cells,
            "classes": compared.classes,
        }
    if "label" in found["against"]:
        label = found["against"]["label"]
        found |= {name: label[name] for name in ("shuffled_ami", "ami_interval")}
        if "true_phenotype" in known and known["true_phenotype"].nunique() > 1:
            found["ceiling_ami"] = ceiling(known)
    return found


def ceiling(cells: pd.DataFrame) -> float:
    """AMI between true phenotype and label: what perfect eyes could reach, as many treated cells look untreated."""
    from cellssl.profiling import scores

    both = cells[cells["true_phenotype"].notna() & cells["label"].notna()]
    _, phenotype = np.unique(both["true_phenotype"].to_numpy(str), return_inverse=True)
    return scores.agreement(_words(both["label"]), phenotype)["ami"]


def _with_derived(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with their density, treatment, well of a plate and, of controls, well, where these are known."""
    if "neighbours" in cells:
        crowded = cells["neighbours"] > cells["neighbours"].median()
        cells = cells.assign(density=crowded.map({True: "dense", False: "sparse"}))
    if {"compound", "dose_micromolar"} <= set(cells.columns):
        known = cells["dose_micromolar"].notna()
        dose = cells["dose_micromolar"].map(" {:g} uM".format).where(known, " ")
        cells = cells.assign(treatment=cells["compound"].astype("string") + dose.astype("string"))
    if {"plate", "well"} <= set(cells.columns):
        well = cells["plate"].astype("string") + " " + cells["well"].astype("string")
        cells = cells.assign(well=well, control_well=well.where(cells["control"].astype(bool)))
    return cells


def _words(column: pd.Series[Any]) -> list[str | None]:
    return [None if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]


def _finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list():
            return [_finite(item) for item in value]
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value


def _write_wells(job: Job, cells: pd.DataFrame, normal: np.ndarray, clustering: Clustering) -> None:
    from cellssl.profiling.wells import well_table

    control = cells["control"].to_numpy(bool)
    table = well_table(cells, normal, clustering.assignment, len(clustering.centroids), control)
    table.to_csv(job.draft.file("wells.csv"), index=False, lineterminator="\n")
    _maps.write_doses(job, table)


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
    figure = figures.montage(groups, common_pixel_um(cells))
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
