"""treatment_table: the numbers of treatments in; hits.parquet, one row per treatment with the best first, out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.tables import written_flags
from cellssl.counting import counted
from cellssl.stages.hits.numbers_of_treatments import Numbers
from cellssl.stages.hits.study import Study

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 4
"""Digits of results in CSV tables for people; parquet files have all."""
AS_GIVEN = ("dose_micromolar", "cell_count")
"""Columns, by the end of their names, that are not results, and keep their digits."""
TEXTS = ("compound", "moa", "control_type", "nearest_treatment", "nearest_moa", "remark")
NUMBERS = ("nearest_similarity", "ec50_micromolar", "ec50_low", "ec50_high", "dose_trend_p_value")
"""Columns that may be empty in all rows, and keep their types."""
FEW_CELLS, FEWER = 50, 1 / 3
"""A treatment whose wells have fewer cells than the first, and than this share of its controls, gets a remark."""


def treatment_table(study: Study, numbers: Numbers, nearest: pd.DataFrame, doses: pd.DataFrame) -> pd.DataFrame:
    """Return one row per treatment: active ones first, then by q-value and effect.

    `nearest` has one row per treatment, in the order of the study; `doses` one row per compound with enough doses.
    """
    import pandas as pd

    treatments, effects, found = study.treatments, numbers.treatment_effects, numbers.activity
    known = [name for name in ("compound", "dose_micromolar", "moa", "control_type") if name in treatments.table]
    table = treatments.table[known].assign(**_counts(study)).astype({"profiled_cells": "Int64"})
    table["active"] = pd.array(numbers.q_value < study.settings.alpha, "boolean")
    table.loc[np.isnan(numbers.q_value), "active"] = pd.NA
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
    is_inactive = ~table["active"].fillna(True).to_numpy(bool)
    nearest = nearest.mask(pd.DataFrame(dict.fromkeys(nearest, is_inactive), index=nearest.index))
    table = table.join(nearest).merge(_of_compounds(doses), on="compound", how="left")
    table["remark"] = ["; ".join(_remarks(study, numbers, row)) for row in range(len(table))]
    types = {**dict.fromkeys(set(TEXTS) & set(table), "string"), **dict.fromkeys(NUMBERS, "float64")}
    return _best_first(table.astype({**types, "effect_rank": "Int64"}))


def _best_first(table: pd.DataFrame) -> pd.DataFrame:
    is_active = table["active"].fillna(False).to_numpy(bool)
    order = np.lexsort((-table["effect"].fillna(-1), table["q_value"].fillna(2), ~is_active))
    found: pd.DataFrame = table.iloc[order].reset_index(drop=True)
    return found


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with results of a few digits, and flags as TRUE and FALSE, for people."""
    results = [name for name in table.select_dtypes("float").columns if not name.endswith(AS_GIVEN)]
    digits = {name: table[name].map(_rounded) for name in results}
    return written_flags(table.assign(**digits))


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def _counts(study: Study) -> dict[str, np.ndarray]:
    """Return the wells, plates and cells of every treatment that are compared; no cells where rows are wells."""
    of_profiles, count = study.treatments.of_well[study.rows], len(study.treatments.table)
    wells = study.profiles.wells.assign(treatment=of_profiles)[of_profiles >= 0]
    by_treatment = wells.groupby("treatment")
    every = range(count)
    cells = by_treatment["rows"].sum().reindex(every, fill_value=0).to_numpy(float)
    return {
        "wells": by_treatment.size().reindex(every, fill_value=0).to_numpy(int),
        "plates": by_treatment["plate"].nunique().reindex(every, fill_value=0).to_numpy(int),
        "profiled_cells": cells if study.screen.rows_are_cells else np.full(count, np.nan),
    }


def _of_compounds(doses: pd.DataFrame) -> pd.DataFrame:
    columns = ["compound", "ec50_micromolar", "ec50_low", "ec50_high", "trend_p_value"]
    return doses[columns].rename(columns={"trend_p_value": "dose_trend_p_value"})


def _remarks(study: Study, numbers: Numbers, row: int) -> Iterator[str]:
    """Yield what a reader of one row should know."""
    here = np.flatnonzero(study.treatments.of_well == row)
    with_profile = int(np.isin(here, study.rows).sum())
    yield from _left_out(study, here)
    name = study.treatments.names[row]
    if not dict(zip(numbers.activity.treatments, numbers.activity.wells, strict=True)).get(name, 0):
        yield _why_not_tested(with_profile)
        return
    smallest = numbers.smallest_p_value[row]
    if smallest > study.settings.alpha:
        yield f"too few wells for a q-value: the smallest possible p-value is {smallest:.2g}"
    elif numbers.p_value[row] <= smallest and not numbers.q_value[row] < study.settings.alpha:
        yield f"as sure as this design allows: a smaller p-value than {smallest:.2g} is not possible"
    if numbers.q_value[row] < study.settings.alpha:
        yield from _doubts(study, numbers, row, here)


def _left_out(study: Study, here: np.ndarray) -> Iterator[str]:
    """Yield how many wells of a treatment are left out, and why."""
    wells = study.wells.iloc[here]
    missing = wells["plate"].map(study.left_out)
    for reason, times in missing.value_counts().items():
        yield f"{counted(int(times), 'well')} left out: {reason} on the plate"
    if few := int((~np.isin(here, study.rows) & missing.isna().to_numpy(bool)).sum()):
        yield f"{counted(few, 'well')} left out: fewer than {counted(study.settings.min_cells, 'cell')}"


def _doubts(study: Study, numbers: Numbers, row: int, here: np.ndarray) -> Iterator[str]:
    """Yield what could explain that a treatment is active, other than what it did to cells."""
    if numbers.count_q_value is not None and numbers.count_q_value[row] < study.settings.alpha:
        yield "the number of cells alone shows it, too"
    plates = study.wells["plate"].iloc[here]
    profiles = study.profiles.wells
    if study.screen.rows_are_cells:
        of_plates = profiles["plate"].isin(plates).to_numpy(bool) & study.profiles.is_control
        cells = profiles["rows"][np.isin(study.rows, here)].median()
        of_controls = profiles["rows"][of_plates].median()
        if cells < FEW_CELLS and cells < FEWER * of_controls:
            yield f"few cells: {cells:.0f} in a well, {of_controls:.0f} in a control well, which biases profiles"
    edge, on_plates = study.positions.edge, study.wells["plate"].isin(plates).to_numpy(bool)
    controls = study.wells["control"].to_numpy(bool) & on_plates
    if edge[here].all() and controls.any() and not edge[controls].any():
        yield "all wells at the edge of the plate, no control there"


def _why_not_tested(with_profile: int) -> str:
    if with_profile == 0:
        return "no well to compare"
    if with_profile == 1:
        return "one well: effect and rank only, no q-value"
    return "too few control wells on its plates: effect and rank only, no q-value"
