"""treatment_table: the numbers of treatments in; hits.parquet, one row per treatment with the best first, out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cellssl.counting import counted
from cellssl.stages.hits.numbers_of_treatments import Numbers
from cellssl.stages.hits.study import Study

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 4
"""Digits of numbers in CSV tables for people; parquet files have all."""


def treatment_table(study: Study, numbers: Numbers, nearest: pd.DataFrame, doses: pd.DataFrame) -> pd.DataFrame:
    """Return one row per treatment: active ones first, then by q-value and effect.

    `nearest` has one row per treatment, in the order of the study; `doses` one row per compound with enough doses.
    """
    import pandas as pd

    treatments, effects, found = study.treatments, numbers.treatment_effects, numbers.activity
    known = [name for name in ("compound", "dose_micromolar", "moa", "control_type") if name in treatments.table]
    table = treatments.table[known].assign(**_counts(study)).astype({"cells": "Int64"})
    tested = ~np.isnan(numbers.p_value)
    table["active"] = pd.array(numbers.q_value < study.settings.alpha, "boolean")
    table.loc[~tested, "active"] = pd.NA
    table["q_value"], table["p_value"] = numbers.q_value, numbers.p_value
    table["mean_average_precision"] = treatments.in_order(found.treatments, found.mean_average_precision)
    table["effect"], table["effect_low"], table["effect_high"] = (effects[one] for one in ("effect", "low", "high"))
    table["effect_rank"] = effects["rank"]
    for name, source, value in (
        ("changed_share", numbers.changed, "share"),
        ("cell_count_ratio", numbers.count_ratios, "ratio"),
    ):
        for ending, column in (("", value), ("_low", "low"), ("_high", "high")):
            table[name + ending] = np.nan if source is None else source[column].to_numpy(float)
    table["cell_count_q_value"] = np.nan if numbers.count_q_value is None else numbers.count_q_value
    table = table.join(nearest).merge(_of_compounds(doses), on="compound", how="left")
    table["remark"] = ["; ".join(_remarks(study, numbers, row)) for row in range(len(table))]
    return _best_first(table)


def _best_first(table: pd.DataFrame) -> pd.DataFrame:
    is_active = table["active"].fillna(False).to_numpy(bool)
    order = np.lexsort((-table["effect"].fillna(-1), table["q_value"].fillna(2), ~is_active))
    found: pd.DataFrame = table.iloc[order].reset_index(drop=True)
    return found


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with numbers of a few digits, for people."""
    digits = {name: table[name].map(_rounded) for name in table.select_dtypes("float").columns}
    return table.assign(**digits)


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def _counts(study: Study) -> dict[str, np.ndarray]:
    """Return the number of wells, plates and cells of every treatment; no cells where rows are wells."""
    treatments = study.treatments
    of_well, count = treatments.of_well, len(treatments.table)
    treated = of_well >= 0
    plates = study.wells["plate"][treated].groupby(of_well[treated]).nunique()
    of_profiles = of_well[study.rows]
    is_treated = of_profiles >= 0
    vectors = np.bincount(
        of_profiles[is_treated], study.profiles.wells["rows"].to_numpy(float)[is_treated], minlength=count
    )
    return {
        "wells": np.bincount(of_well[treated], minlength=count),
        "plates": plates.reindex(range(count)).to_numpy(int),
        "cells": vectors if study.screen.rows_are_cells else np.full(count, np.nan),
    }


def _of_compounds(doses: pd.DataFrame) -> pd.DataFrame:
    columns = ["compound", "ec50_micromolar", "ec50_low", "ec50_high", "trend_p_value"]
    return doses[columns].rename(columns={"trend_p_value": "dose_trend_p_value"})


def _remarks(study: Study, numbers: Numbers, row: int) -> Iterator[str]:
    """Yield what a reader of one row should know."""
    here = np.flatnonzero(study.treatments.of_well == row)
    wells = study.wells.iloc[here]
    missing = wells["plate"].map(study.left_out)
    for reason, times in missing.value_counts().items():
        yield f"{counted(int(times), 'well')} left out: {reason} on the plate"
    without_cells = int((~np.isin(here, study.rows) & missing.isna().to_numpy(bool)).sum())
    if without_cells:
        yield f"{counted(without_cells, 'well')} without a cell"
    name = study.treatments.names[row]
    tested = int(dict(zip(numbers.activity.treatments, numbers.activity.wells, strict=True)).get(name, 0))
    if not tested:
        with_profile = int(np.isin(here, study.rows).sum())
        yield _why_not_tested(with_profile)
        return
    smallest = numbers.smallest_p_value[row]
    if smallest > study.settings.alpha:
        yield f"too few wells: the smallest possible p-value is {smallest:.2g}"
    is_active = numbers.q_value[row] < study.settings.alpha
    if is_active and numbers.count_q_value is not None and numbers.count_q_value[row] < study.settings.alpha:
        yield "the number of cells alone shows it, too"
    edge = study.positions.edge
    controls = study.wells["control"].to_numpy(bool) & study.wells["plate"].isin(wells["plate"]).to_numpy(bool)
    if is_active and edge[here].all() and not edge[controls].any():
        yield "all wells at the edge of the plate, no control there"


def _why_not_tested(with_profile: int) -> str:
    if with_profile == 0:
        return "no cell to compare"
    if with_profile == 1:
        return "one well: effect and rank only, no q-value"
    return "too few control wells beside its wells: effect and rank only, no q-value"
