"""scores: cluster assignments and the cell table in, their agreement with every column out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.config.plugins import did_you_mean
from cellssl.errors import UsageError
from cellssl.stages.cluster.metrics import ClusterScores, ColumnAgreement

if TYPE_CHECKING:
    import pandas as pd


BIOLOGICAL_COLUMNS = ("label", "treatment", "compound", "dose_micromolar", "moa", "true_phenotype")
"""Columns that clusters should follow, scored where the cells have them; `treatment` is a compound at a dose."""


NUISANCE_COLUMNS = ("plate", "well", "control_well", "density", "nucleus_size", "field_position")
"""Columns that clusters should not follow; `density` is whether a cell has more neighbours than the median cell,
`nucleus_size` whether its nucleus is larger than the median, `field_position` in which ninth of the field it lies."""


POSITION = ("Nuclei_Location_Center_X", "Nuclei_Location_Center_Y")
"""Columns with the position of the nucleus in its field, in pixels."""


def check_columns(against: tuple[str, ...] | None, cells: pd.DataFrame) -> None:
    """Raise UsageError where the clusters are to be compared with a column that the cell table does not have."""
    known = tuple(_with_derived_columns(cells.head(0)).columns)
    for name in against or ():
        if name not in known:
            raise UsageError(f"cluster.against: the cells have no column {name!r}", hint=did_you_mean(name, known))


def score_clusters(
    cells: pd.DataFrame,
    normal: np.ndarray,
    assignment: np.ndarray,
    seed: int,
    against: tuple[str, ...] | None,
    silhouette_of_k: Mapping[str, float] | None,
) -> ClusterScores:
    """Return the silhouette and the agreement with every column, with shuffled labels and an interval.

    `against` names the columns; None takes all known ones that have more than one value.
    """
    from cellssl.profiling import cluster_scores

    known = _with_derived_columns(cells)
    silhouette = cluster_scores.silhouette(normal, assignment, seed)
    if against is None:
        candidates = (*BIOLOGICAL_COLUMNS, *NUISANCE_COLUMNS)
        against = tuple(name for name in candidates if name in known and known[name].nunique() > 1)
    agreements = {
        name: ColumnAgreement.of(cluster_scores.compare(_as_text(known[name]), assignment, seed)) for name in against
    }
    has_phenotypes = "true_phenotype" in known and known["true_phenotype"].nunique() > 1
    ceiling_ami = upper_bound(known) if "label" in agreements and has_phenotypes else None
    return ClusterScores(silhouette, agreements, ceiling_ami, silhouette_of_k)


def upper_bound(cells: pd.DataFrame) -> float:
    """Return the AMI between true phenotype and label: the upper bound for clusters that find every phenotype.

    It is below 1 because many treated cells look untreated.
    """
    from cellssl.profiling import cluster_scores

    both = cells[cells["true_phenotype"].notna() & cells["label"].notna()]
    _, phenotype = np.unique(both["true_phenotype"].to_numpy(str), return_inverse=True)
    return cluster_scores.agreement(_as_text(both["label"]), phenotype)["ami"]


def _with_derived_columns(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells with density, size, position, treatment, plate and well, and the well of controls, where these
    are known.
    """
    if "neighbours" in cells:
        crowded = cells["neighbours"] > cells["neighbours"].median()
        cells = cells.assign(density=crowded.map({True: "dense", False: "sparse"}))
    if "area_px" in cells:
        large = cells["area_px"] > cells["area_px"].median()
        cells = cells.assign(nucleus_size=large.map({True: "large", False: "small"}))
    if set(POSITION) <= set(cells.columns):
        row, column = (_third(cells[name]) for name in reversed(POSITION))
        cells = cells.assign(field_position=row.str.cat(column, sep=" "))
    if {"compound", "dose_micromolar"} <= set(cells.columns):
        known = cells["dose_micromolar"].notna()
        dose = cells["dose_micromolar"].map(" {:g} uM".format).where(known, " ")
        cells = cells.assign(treatment=cells["compound"].astype("string") + dose.astype("string"))
    if {"plate", "well"} <= set(cells.columns):
        well = cells["plate"].astype("string") + " " + cells["well"].astype("string")
        cells = cells.assign(well=well, control_well=well.where(cells["control"].astype(bool)))
    return cells


def _third(position_px: pd.Series[float]) -> pd.Series[Any]:
    """Return in which third of the field a cell lies, "1" to "3"; the cells of a part reach nearly to every edge."""
    low, high = position_px.min(), position_px.max()
    thirds = ((position_px - low) / max(high - low, 1.0) * 3).clip(0, 2.99)
    return (thirds // 1 + 1).astype("Int64").astype("string")


def _as_text(column: pd.Series[Any]) -> list[str | None]:
    return [None if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]
