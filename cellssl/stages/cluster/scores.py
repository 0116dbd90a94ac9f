"""scores: cluster assignments and the cell table in, their agreement with every column out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.config.plugins import did_you_mean
from cellssl.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd


ANSWERS = ("label", "treatment", "compound", "dose_micromolar", "moa", "true_phenotype")
"""Columns that the clusters are asked for, where the cells have them; `treatment` is a compound at a dose."""


NUISANCES = ("plate", "well", "control_well", "density")
"""Columns that they should not follow; `density` is whether a cell has more neighbours than the median cell."""


def check_columns(against: tuple[str, ...] | None, cells: pd.DataFrame) -> None:
    """Raise UsageError where the clusters are to be compared with a column that the cells have not."""
    known = tuple(_with_derived(cells.head(0)).columns)
    for name in against or ():
        if name not in known:
            raise UsageError(f"cluster.against: the cells have no column {name!r}", hint=did_you_mean(name, known))


def score_columns(
    cells: pd.DataFrame, normal: np.ndarray, assignment: np.ndarray, seed: int, against: tuple[str, ...] | None
) -> dict[str, Any]:
    """Agreement with every column: what chance gives, and how sure it is; at the top once more for the label."""
    from cellssl.profiling import cluster_scores

    known = _with_derived(cells)
    found: dict[str, Any] = {"silhouette": cluster_scores.silhouette(normal, assignment, seed), "against": {}}
    if against is None:
        against = tuple(name for name in (*ANSWERS, *NUISANCES) if name in known and known[name].nunique() > 1)
    for name in against:
        compared = cluster_scores.compare(_words(known[name]), assignment, seed)
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
    from cellssl.profiling import cluster_scores

    both = cells[cells["true_phenotype"].notna() & cells["label"].notna()]
    _, phenotype = np.unique(both["true_phenotype"].to_numpy(str), return_inverse=True)
    return cluster_scores.agreement(_words(both["label"]), phenotype)["ami"]


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


def finite(value: Any) -> Any:
    match value:
        case dict():
            return {key: finite(item) for key, item in value.items()}
        case list():
            return [finite(item) for item in value]
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value
