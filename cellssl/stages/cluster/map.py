"""map: clustered cells and wells in; coordinates in two dimensions per cell, and figures of cells and doses, out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.artifacts.tables import write_table

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.engine.build import Job

MAP_CELLS = 10_000
"""Number of cells on the map; where there are more, a random sample of this size."""
COLOUR_COLUMNS = ("label", "compound", "plate", "true_phenotype", "moa")
"""Columns that colour the map, besides cluster and dose, where they have more than one value."""
TABLE_COLUMNS = ("cell_id", "plate", "well", "compound", "dose_micromolar", "moa", "label", "true_phenotype")
WHITENED_AXES = ("component 1, whitened", "component 2, whitened")
AXES = {"tsne": ("t-SNE 1", "t-SNE 2"), "umap": ("UMAP 1", "UMAP 2")}


def write(job: Job, cells: pd.DataFrame, normal: np.ndarray, assignment: np.ndarray, *, whitened: bool) -> None:
    """Write map.parquet, one row per cell with coordinates, cluster and metadata, and map.png.

    After whitening all components have equal variance, so the first two components of the whitened vectors are used.
    """
    from cellssl.reporting import theme

    rows = sample_rows(len(cells), job.seed or 0)
    if whitened and job.settings.map == "pca" and normal.shape[1] > 1:
        points, axes = normal[rows, :2].astype(np.float64), WHITENED_AXES
    else:
        points, axes = coordinates(job.settings.map, normal[rows], job.seed or 0)
    table = cells.loc[rows, [name for name in TABLE_COLUMNS if name in cells]].reset_index(drop=True)
    table = table.assign(cluster=assignment[rows].astype(np.int32), map_x=points[:, 0], map_y=points[:, 1])
    write_table(table, job.draft.file("map.parquet"))
    job.draft.file("map.png").write_bytes(theme.png(map_figure(table, axes)))


def write_doses(job: Job, wells: pd.DataFrame) -> None:
    """Write doses.png, the share of every cluster against dose from wells.csv, for compounds with two doses or more."""
    import pandas as pd

    from cellssl.reporting import theme
    from cellssl.reporting.figures import dose_response

    if "dose_micromolar" not in wells or "compound" not in wells:
        return
    wells = wells[wells["n_drawn"] > 0]
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


def sample_rows(cells: int, seed: int) -> np.ndarray:
    """Return the rows of the cells on the map, in ascending order."""
    from cellssl.randomness import generator

    return np.sort(generator("map", seed).permutation(cells)[:MAP_CELLS])


def coordinates(kind: str, x: np.ndarray, seed: int) -> tuple[np.ndarray, tuple[str, str]]:
    """Return two coordinates per cell, and the names of the axes."""
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


def _is_duplicate(table: pd.DataFrame, name: str) -> bool:
    """Return whether the label is a copy of another column, which is shown under its own name."""
    others = [other for other in COLOUR_COLUMNS if other != name and other in table]
    return name == "label" and any(table[name].equals(table[other].astype(table[name].dtype)) for other in others)


def map_figure(table: pd.DataFrame, axes: tuple[str, str]) -> Any:
    """Return the figure of the map, one panel per colouring."""
    import pandas as pd

    from cellssl.profiling.clusterer import NOISE
    from cellssl.reporting.figures import scatter

    colourings: dict[str, Any] = {"cluster": ["noise" if number == NOISE else number for number in table["cluster"]]}
    for name in COLOUR_COLUMNS:
        if name in table and table[name].nunique() > 1 and not _is_duplicate(table, name):
            colourings[name.replace("_", " ")] = [None if pd.isna(value) else value for value in table[name]]
    doses = table.get("dose_micromolar")
    amounts = {"dose (µM)": doses.to_numpy(float)} if doses is not None and (doses > 0).any() else {}
    return scatter.scatter(table[["map_x", "map_y"]].to_numpy(), colourings, axes, amounts, clusters=("cluster",))
