"""hit_tables: hits artifacts of runs in; tables of treatments and of wells, checked, and the rows of hits.csv, out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from cellssl.artifacts.contents import section_of
from cellssl.artifacts.store import Artifact
from cellssl.artifacts.tables import Column, explained, read_csv, read_table
from cellssl.reporting.figures.dose_response import FittedCurve
from cellssl.stages.hits.caution_words import is_of_unit
from cellssl.stages.hits.design import treatment_name
from cellssl.stages.shared.card_shapes import HitsSection

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.report.runs import Run

NUMBER, TEXT = Column("number"), Column("text")
TREATMENTS = {
    "compound": Column("text", needed=True),
    "dose_micromolar": NUMBER,
    "moa": TEXT,
    "control_type": TEXT,
    "wells": Column("number", needed=True),
    "active": Column("any", needed=True),
    "q_value": Column("number", needed=True),
    "mean_average_precision": NUMBER,
    "effect": Column("number", needed=True),
    **dict.fromkeys(("effect_low", "effect_high", "changed_share", "changed_share_low", "changed_share_high"), NUMBER),
    **dict.fromkeys(("cell_count_ratio", "cell_count_ratio_low", "cell_count_ratio_high"), NUMBER),
    "cell_count_q_value": NUMBER,
    "nearest_treatment": TEXT,
    "nearest_similarity": NUMBER,
    "nearest_moa": TEXT,
    "remark": TEXT,
}
"""Columns of hits.parquet that the page shows."""
SPELLED_FLAGS = {True: True, False: False, "True": True, "False": False, "TRUE": True, "FALSE": False}
OF_WELLS = ("dose_micromolar", "distance_from_controls", "compound", "control")
"""Columns of wells.csv that dose curves need, those that hold numbers first."""
OF_CURVES = ("ec50_micromolar", "ec50_low", "ec50_high", "slope", "bottom", "top")
"""Columns of dose_response.csv that hold the curve of a compound, in the order of the fields of FittedCurve."""


def compared_with(hits: Artifact) -> str:
    """Return what treated wells were compared with, as sentences call one of them."""
    return "other well" if section_of(hits, HitsSection).reference == "all" else "control well"


def unit_of(run: Run) -> str:
    """Return how far an effect of 1 is, as captions say it; of a run with hits."""
    if run.hits is not None and any(map(is_of_unit, run.hits.cautions)):
        return "1: as far as the median of all wells, since no plate has two control wells to show how far these vary"
    return f"1: as far as a typical {compared_with(run.found_hits)} lies from the others"


def treatments_of(hits: Artifact) -> pd.DataFrame:
    """Return hits.parquet, whose `active` is True, False, or None where a treatment was not tested.

    `nearest_treatment` has the names of the page.
    """
    path = hits.file("hits.parquet")
    table = read_table(path, TREATMENTS)
    with explained(path):
        missing = {name: None for name in TREATMENTS if name not in table}
        table = table.assign(**missing)
        shown = _shown_names(table)
        nearest = [shown.get(name, name) for name in table["nearest_treatment"]]
        return table.assign(active=_flags(table["active"]), nearest_treatment=nearest)


def wells_of(hits: Artifact) -> pd.DataFrame:
    """Return those columns of wells.csv that dose curves need; `control` is a flag."""
    path = hits.file("wells.csv")
    with explained(path):
        wells = read_csv(path, OF_WELLS[:2])[list(OF_WELLS)]
        return wells.assign(control=[SPELLED_FLAGS[text] for text in wells["control"]])


def curves_of(hits: Artifact) -> dict[str, FittedCurve]:
    """Return compound -> the curve through its effects, of the compounds in dose_response.csv that a curve fits."""
    path = hits.file("dose_response.csv")
    with explained(path):
        table = read_csv(path, OF_CURVES)[["compound", *OF_CURVES]].dropna()
        rows = table[list(OF_CURVES)].to_numpy(float).tolist()
        return {str(name): FittedCurve(*row) for name, row in zip(table["compound"], rows, strict=True)}


def _flags(column: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    values = [None if pd.isna(value) else SPELLED_FLAGS[value] for value in column]
    return pd.Series(values, index=column.index, dtype=object)


def names_of(table: pd.DataFrame) -> list[str]:
    """Return what each treatment is called: its compound, and its dose where it has one."""
    import pandas as pd

    rows = zip(table["compound"], table["dose_micromolar"], strict=True)
    return [_name(compound, dose) if pd.notna(compound) else "unknown" for compound, dose in rows]


def _shown_names(table: pd.DataFrame) -> dict[str, str]:
    """Return name of a treatment in tables -> what the page calls it, which has a unit."""
    doses = table["dose_micromolar"].to_numpy(float, na_value=math.nan)
    written = [treatment_name(*each) for each in zip(table["compound"], doses, strict=True)]
    return dict(zip(written, names_of(table), strict=True))


def _name(compound: object, dose: float | None) -> str:
    import pandas as pd

    return str(compound) if pd.isna(dose) else f"{compound} {dose:.4g}\N{NO-BREAK SPACE}µM"


def all_treatments(found: Iterable[tuple[str, int, Artifact]]) -> pd.DataFrame | None:
    """Return the treatments of all arms and seeds in one table, `arm` and `seed` first; None where there are none."""
    import pandas as pd

    tables = []
    for arm, seed, hits in found:
        table = read_table(hits.file("hits.parquet"), TREATMENTS)
        table.insert(0, "arm", arm)
        table.insert(1, "seed", seed)
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else None
