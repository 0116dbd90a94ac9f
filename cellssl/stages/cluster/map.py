"""map: clustered cells and wells in; a place in two dimensions for each cell, and figures of cells and doses, out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.tables import write_table

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.engine.build import Job

MAP_CELLS = 10_000
"""Cells on the map; of more, so many are drawn by lot."""
SHOWN = ("label", "compound", "plate", "true_phenotype", "moa")
"""Columns that colour the map, besides cluster and dose, where they have more than one value."""
KEPT = ("cell_id", "plate", "well", "compound", "dose_micromolar", "moa", "label", "true_phenotype")
WHITENED = ("component 1, whitened", "component 2, whitened")
AXES = {"tsne": ("t-SNE 1", "t-SNE 2"), "umap": ("UMAP 1", "UMAP 2")}


def write(job: Job, cells: pd.DataFrame, normal: np.ndarray, assignment: np.ndarray, *, whitened: bool) -> None:
    """map.parquet, a row a drawn cell: its place, its cluster, and what is known of it; and map.png.

    After whitening all components vary alike, so the first two are those of the vectors before.
    """
    from cellssl.reporting import theme

    rows = drawn(len(cells), job.seed or 0)
    if whitened and job.settings.map == "pca" and normal.shape[1] > 1:
        points, axes = normal[rows, :2].astype(np.float64), WHITENED
    else:
        points, axes = places(job.settings.map, normal[rows], job.seed or 0)
    table = cells.loc[rows, [name for name in KEPT if name in cells]].reset_index(drop=True)
    table = table.assign(cluster=assignment[rows].astype(np.int32), map_x=points[:, 0], map_y=points[:, 1])
    write_table(table, job.draft.file("map.parquet"))
    job.draft.file("map.png").write_bytes(theme.png(map_figure(table, axes)))


def write_doses(job: Job, wells: pd.DataFrame) -> None:
    """doses.png, the share of every cluster against dose as wells.csv has it, for compounds at two doses or more."""
    import pandas as pd

    from cellssl.reporting import theme
    from cellssl.reporting.figures import dose_response

    if "dose_micromolar" not in wells or "compound" not in wells:
        return
    dose = wells["dose_micromolar"].to_numpy(float)
    control = wells["control"].to_numpy(bool)
    treated = wells[~control & (dose > 0)]
    doses_of = treated.groupby("compound")["dose_micromolar"].nunique()
    shown = control | wells["compound"].isin(doses_of.index[doses_of >= 2]).to_numpy(bool)
    if shown.sum() == control.sum():
        return
    shares = wells[[name for name in wells.columns if name.startswith("share_of_cluster_")]].to_numpy(float)
    compound = [None if pd.isna(name) else str(name) for name in wells["compound"][shown]]
    figure = dose_response.dose_curves(dose[shown], shares[shown], compound, control[shown])
    job.draft.file("doses.png").write_bytes(theme.png(figure))


def drawn(cells: int, seed: int) -> np.ndarray:
    """The rows that are on the map, in their order."""
    from cellssl.randomness import generator

    return np.sort(generator("map", seed).permutation(cells)[:MAP_CELLS])


def places(kind: str, x: np.ndarray, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    """Where every cell is drawn, and what the axes are called."""
    from cellssl.profiling import projection

    match kind:
        case "tsne":
            return projection.tsne_projection(x, seed), AXES[kind]
        case "umap":
            return projection.umap_projection(x, seed), AXES[kind]
        case _:
            found = projection.pca_projection(x)
            first, second = (
                f"component {i + 1} ({share:.0%})" for i, share in enumerate(found.explained_variance_ratio)
            )
            return found.points, (first, second)


def _again(table: pd.DataFrame, name: str) -> bool:
    """Whether the label is but another column, which is shown by its own name."""
    others = [other for other in SHOWN if other != name and other in table]
    return name == "label" and any(table[name].equals(table[other].astype(table[name].dtype)) for other in others)


def map_figure(table: pd.DataFrame, axes: tuple[str, str]) -> Any:
    """The map, once for every colouring."""
    import pandas as pd

    from cellssl.profiling.clusterer import NOISE
    from cellssl.reporting.figures import scatter

    colourings: dict[str, Any] = {"cluster": ["noise" if number == NOISE else number for number in table["cluster"]]}
    for name in SHOWN:
        if name in table and table[name].nunique() > 1 and not _again(table, name):
            colourings[name.replace("_", " ")] = [None if pd.isna(value) else value for value in table[name]]
    doses = table.get("dose_micromolar")
    amounts = {"dose (µM)": doses.to_numpy(float)} if doses is not None and (doses > 0).any() else {}
    return scatter.scatter(table[["map_x", "map_y"]].to_numpy(), colourings, axes, amounts, named=("cluster",))
