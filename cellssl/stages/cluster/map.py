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
SHARE_OF = "share_of_cluster_"
"""How the columns of wells.csv begin that have the share of a cluster."""
AXES = {"tsne": ("t-SNE 1", "t-SNE 2"), "umap": ("UMAP 1", "UMAP 2")}


def write(
    job: Job, cells: pd.DataFrame, normal: np.ndarray, assignment: np.ndarray, *, whitened: bool
) -> tuple[str, str]:
    """Write map.parquet, a row per cell with coordinates, cluster and metadata, and map.png; return the axes' names.

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
    return axes


def write_doses(job: Job, wells: pd.DataFrame) -> None:
    """Write doses.png, the share of every cluster against dose from wells.csv, for compounds with two doses or more."""
    from cellssl.reporting import theme

    shown = wells_with_doses(wells)
    if not shown.empty:
        job.draft.file("doses.png").write_bytes(theme.png(doses_figure(shown)))


def wells_with_doses(wells: pd.DataFrame) -> pd.DataFrame:
    """Return the controls and the wells of compounds with two doses or more; nothing where there is no such compound.

    `wells` has the columns of wells.csv.
    """
    if "dose_micromolar" not in wells or "compound" not in wells:
        return wells[:0]
    wells = wells[wells["n_drawn"] > 0]
    control = wells["control"].to_numpy(bool)
    treated = wells[~control & (wells["dose_micromolar"].to_numpy(float) > 0)]
    doses_of = treated.groupby("compound")["dose_micromolar"].nunique()
    shown = control | wells["compound"].isin(doses_of.index[doses_of >= 2]).to_numpy(bool)
    return wells[:0] if shown.sum() == control.sum() else wells[shown]


def doses_figure(shown: pd.DataFrame) -> Any:
    """Return the figure of the share of every cluster against dose, of wells of `wells_with_doses`."""
    import pandas as pd

    from cellssl.reporting.figures import dose_response

    shares = shown[[name for name in shown.columns if name.startswith(SHARE_OF)]].to_numpy(float)
    compound = [None if pd.isna(name) else str(name) for name in shown["compound"]]
    dose, control = shown["dose_micromolar"].to_numpy(float), shown["control"].to_numpy(bool)
    return dose_response.dose_curves(dose, shares, compound, control)


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


def colour_columns(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return column -> all columns that its panel stands for, of those that colour the map.

    A column with one value has no panel, and neither has one that groups the cells as another does under other names:
    control and treated, and DMSO and the only drug, would be the same picture.
    """
    import pandas as pd

    shown: dict[str, list[str]] = {}
    groups: dict[bytes, str] = {}
    for name in COLOUR_COLUMNS:
        if name in table and table[name].nunique() > 1:
            first = groups.setdefault(pd.factorize(table[name])[0].tobytes(), name)
            shown.setdefault(first, []).append(name)
    return shown


def map_figure(table: pd.DataFrame, axes: tuple[str, str]) -> Any:
    """Return the figure of the map, one panel per colouring."""
    import pandas as pd

    from cellssl.profiling.clusterer import NOISE
    from cellssl.reporting.figures import scatter

    colourings: dict[str, Any] = {"cluster": ["noise" if number == NOISE else number for number in table["cluster"]]}
    for name, same in colour_columns(table).items():
        title = ", and ".join(each.replace("_", " ") for each in same)
        colourings[title] = [None if pd.isna(value) else value for value in table[name]]
    doses = table.get("dose_micromolar")
    amounts = {"dose (µM)": doses.to_numpy(float)} if doses is not None and (doses > 0).any() else {}
    return scatter.scatter(table[["map_x", "map_y"]].to_numpy(), colourings, axes, amounts, clusters=("cluster",))
