"""anndata_cells: vectors or clusters of cells in, cells.h5ad as scanpy, squidpy and pycytominer open it out.

X has the vectors, obs what is known of a cell, obsm its position in the field and on the map, uns the colours.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts import anndata_file, embeddings
from cellssl.artifacts.contents import input_of, section_of
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import ID, Column, read_assignments, read_table
from cellssl.bounded import read_arrays
from cellssl.counting import counted
from cellssl.disk import faults_explained
from cellssl.errors import UsageError
from cellssl.events import Event, Note, Progress, Started
from cellssl.sharing.cluster_colours import cluster_colour, repeats
from cellssl.sharing.request import Export
from cellssl.stages.cluster.normalised import normalised_as_before
from cellssl.stages.shared.card_shapes import ClusterSection, embed_blocks
from cellssl.stages.shared.cell_tables import check_cells_known, read_all_embeddings

if TYPE_CHECKING:
    import pandas as pd
    from jaxtyping import Bool, Float64

FILE = "cells.h5ad"
PREFIX = embeddings.METADATA_PREFIX
POSITION = ("Nuclei_Location_Center_X", "Nuclei_Location_Center_Y")
"""Columns of embeddings that pycytominer takes for measurements, so that they get its prefix of metadata here."""


MAP_KEYS = {"tsne": "X_tsne", "umap": "X_umap", "pca": "X_map"}
"""The map of the report -> its key in obsm; scanpy would look for neighbours in two components called X_pca."""
SAME_DISTANCE = 1e-3
"""Greatest difference of a repeated distance to a centroid from the one in the table: the last bits of a float32."""


@dataclass(frozen=True)
class Cells:
    """What an h5ad file holds of the cells, besides the vectors."""

    obs: pd.DataFrame
    obsm: dict[str, np.ndarray]
    uns: dict[str, Any]
    kept: Bool[np.ndarray, "n"]
    """Which rows of the embeddings these are."""


def export(job: Export) -> Iterator[Event]:
    """Write cells.h5ad: of vectors all cells, of clusters the cells that have one.

    Raises UsageError where h5py is missing, or a file of that name was not written by cellssl.
    """
    anndata_file.check_h5py("an h5ad file")
    target = job.folder / FILE
    if (target.exists() or target.is_symlink()) and anndata_file.maker_of(target) is None:
        raise UsageError(
            f"{target} was not written by cellssl export, or another program has saved it since",
            hint="move it away, or give another folder",
        )
    clusters = job.artifact if job.artifact.card.kind == "cluster" else None
    embed = job.artifact if clusters is None else _vectors_below(job, clusters)
    cells = _all_cells(embed)
    yield Started(0, len(cells.obs), "cells")
    if clusters is not None:
        cells = yield from _clustered(cells, clusters, embed)
    cells.uns["cellssl"] = _provenance(job.artifact, embed, cells)
    with faults_explained(target, "give another folder"):
        job.folder.mkdir(parents=True, exist_ok=True)
        _write(target, cells, embed, f"{job.artifact.card.kind}/{job.artifact.fingerprint}")
    yield Progress(len(cells.kept), len(cells.kept), "cells")


def _write(target: Path, cells: Cells, embed: Artifact, maker: str) -> None:
    """Write the file; of the vectors no more than some rows are in memory."""
    table = embed.file("embeddings.parquet")
    variables = _variables(embed, embeddings.read_names(table))
    with anndata_file.h5ad(target, maker) as file:
        # numbers as names: pycytominer 1.7 reads them as whole numbers, and fails at other names
        anndata_file.write_frame(file, "obs", cells.obs.set_axis([str(row) for row in range(len(cells.obs))]))
        anndata_file.write_frame(file, "var", variables)
        for name, values in cells.obsm.items():
            anndata_file.write_rows(file["obsm"], name, [values], values.shape)
        anndata_file.write_mapping(file, "uns", cells.uns)
        rows = _kept_rows(embeddings.iter_vectors(table), cells.kept)
        anndata_file.write_rows(file, "X", rows, (len(cells.obs), len(variables)))


def _kept_rows(blocks: Iterable[np.ndarray], kept: np.ndarray) -> Iterator[np.ndarray]:
    start = 0
    for block in blocks:
        yield block[kept[start : start + len(block)]]
        start += len(block)


def _vectors_below(job: Export, clusters: Artifact) -> Artifact:
    """Return the embeddings that were clustered."""
    return job.store.with_store_of(clusters).get("embed", input_of(clusters, "embed"))


def _all_cells(embed: Artifact) -> Cells:
    """Return what is known of all embedded cells: metadata, and the position of each in its field."""
    metadata = embeddings.read_metadata(embed.file("embeddings.parquet"))
    obs, obsm = metadata.rename(columns={name: f"{PREFIX}{name}" for name in POSITION}), {}
    if set(POSITION) <= set(metadata):
        pixel_um = _pixel_um(metadata)
        obsm["spatial"] = metadata[list(POSITION)].to_numpy(np.float64) * (1.0 if pixel_um is None else pixel_um)
        obs["library_id"] = metadata[f"{PREFIX}field_id"].astype(object).astype("category")
    return Cells(obs, obsm, {}, np.ones(len(obs), bool))


def _pixel_um(metadata: pd.DataFrame) -> np.ndarray | None:
    """Return the side of a pixel of the field of every cell, as a column; None where it is not known of all."""
    name = f"{PREFIX}pixel_um"
    if name not in metadata or metadata[name].isna().any():
        return None
    column: np.ndarray = metadata[[name]].to_numpy(np.float64)
    return column


def _clustered(cells: Cells, clusters: Artifact, embed: Artifact) -> Generator[Event, None, Cells]:
    """Return the cells that have a cluster, with it, their place on the map and the vectors that were clustered."""
    assigned, names = read_assignments(clusters), cells.obs[f"{PREFIX}cell_id"]
    check_cells_known(assigned["cell_id"], names, clusters, embed)
    kept = names.isin(assigned["cell_id"]).to_numpy(bool)
    assigned = assigned.set_index("cell_id").loc[names[kept]].reset_index()
    obs = cells.obs[kept].reset_index(drop=True)
    for name in assigned.columns.difference(["cell_id"], sort=False):
        obs[f"{PREFIX}{name}"] = assigned[name]
    obs["cluster"] = _as_categories(assigned["cluster"])
    points = _map_points(clusters, obs[f"{PREFIX}cell_id"])
    key = MAP_KEYS[section_of(clusters, ClusterSection).map]
    obsm = {**{name: values[kept] for name, values in cells.obsm.items()}, key: points}
    if unmapped := int(np.isnan(points[:, 0]).sum()):
        yield Note(
            f"{key} is empty for {counted(unmapped, 'cell')}, which {'is' if unmapped == 1 else 'are'} not on the map"
        )
    normal = _normalised(clusters, embed, kept, assigned)
    if normal is None:
        yield Note("X_normalised is left out: the normalisation of the clusters cannot be repeated on these cells")
    else:
        obsm["X_normalised"] = normal
    if sentence := repeats(assigned["cluster"]):
        yield Note(sentence)
    colours = [cluster_colour(int(number)) for number in obs["cluster"].cat.categories]
    return Cells(obs, obsm, {"cluster_colors": colours}, kept)


def _as_categories(numbers: pd.Series[Any]) -> pd.Series[Any]:
    """Return the numbers of clusters as categories in their order, as scanpy names clusters: "0", "1", ..."""
    import pandas as pd

    found = sorted(numbers.unique())
    return pd.Series(pd.Categorical(numbers.astype(str), [str(number) for number in found]))


def _map_points(clusters: Artifact, names: pd.Series[Any]) -> Float64[np.ndarray, "n 2"]:
    """Return the place of every cell on the map; NaN for a cell that is not on it."""
    needed = Column("number", needed=True, gaps=False)
    table = read_table(clusters.file("map.parquet"), {"cell_id": ID, "map_x": needed, "map_y": needed}, only=True)
    points: np.ndarray = table.set_index("cell_id").reindex(names)[["map_x", "map_y"]].to_numpy(np.float64)
    return points


def _normalised(clusters: Artifact, embed: Artifact, kept: np.ndarray, assigned: pd.DataFrame) -> np.ndarray | None:
    """Return the vectors in which the clusters were found; None where they do not give the distances in the table.

    Plates are centred by controls that the method may not have assigned, so further embedded cells are tried, too.
    """
    from cellssl.profiling.kmeans import clustering_of, distances_to_centroids

    cells, vectors = read_all_embeddings(embed)
    centroids = read_arrays(clusters.file("centroids.npz"))["centroids"]
    numbers, distances = assigned["cluster"].to_numpy(), assigned["distance"].to_numpy(float)
    for rows in (kept,) if kept.all() else (kept, np.ones(len(kept), bool)):
        try:
            before = normalised_as_before(clusters, embed, cells[rows].reset_index(drop=True), vectors[rows])
        except UsageError:  # a plate without drawn controls among these cells
            continue
        normal: np.ndarray = before.x[kept[rows]]
        repeated = distances_to_centroids(normal, clustering_of(normal, numbers, centroids, {}))
        if np.allclose(repeated, distances, atol=SAME_DISTANCE, equal_nan=True):
            return normal
    return None


def _variables(embed: Artifact, names: Sequence[str]) -> pd.DataFrame:
    """Return one row per column of the vectors, with its block where several models were joined."""
    import pandas as pd

    variables = pd.DataFrame(index=list(names))
    if blocks := embed_blocks(embed):
        variables["block"] = [block.name for block in blocks for _ in range(block.dim)]
        variables["feature"] = [name.partition(":")[2] for name in names]
    return variables


def _provenance(artifact: Artifact, embed: Artifact, cells: Cells) -> dict[str, Any]:
    """Return where the file comes from; no path, and no name of a machine."""
    card = artifact.card
    found = {
        "kind": card.kind,
        "fingerprint": card.fingerprint,
        "embed": embed.fingerprint,
        "version": str(card.run.get("cellssl", "")),
        "section": anndata_file.as_json(card.section),
    }
    if "spatial" in cells.obsm:
        found["spatial_unit"] = "pixel" if _pixel_um(cells.obs) is None else "micrometre"
    return found
