"""side_tables: a study and its numbers in; tables of doses, neighbours, wells, plates and profiles out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellssl.artifacts.store import Draft
from cellssl.artifacts.tables import write_table
from cellssl.stages.hits.numbers_of_treatments import Numbers
from cellssl.stages.hits.screen import OF_WELL, has_type
from cellssl.stages.hits.study import Study
from cellssl.stages.shared.cell_tables import metadata

if TYPE_CHECKING:
    import pandas as pd

POSITIVE = "positive"
"""The control_type of a positive control."""
NEIGHBOUR_COLUMNS = ("compound", "dose_micromolar", "moa")


def dose_table(study: Study, numbers: Numbers) -> pd.DataFrame:
    """Return one row per compound with three or more doses: its EC50 where a curve fits, and the trend over doses.

    The response is the effect of single wells.
    """
    from cellssl.profiling.dose_response import dose_response

    wells = study.profiles.wells
    unknown = np.full(len(wells), np.nan)
    doses = wells["dose_micromolar"].to_numpy(float) if "dose_micromolar" in wells else unknown
    compounds = [
        None if label is None else compound for label, compound in zip(study.labels, wells["compound"], strict=True)
    ]
    return dose_response(numbers.effects.effect, compounds, doses, study.profiles.is_control, wells["plate"])


def neighbour_tables(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the nearest treatments of other compounds, best first, and for every treatment the nearest one alone.

    A treatment lies where the mean, or the median, of its wells is, as wells are that of their cells.
    """
    from cellssl.profiling.nearest import nearest_treatments

    treatments = study.treatments
    table = nearest_treatments(treatments.table, _treatment_profiles(study))
    first = table[table["rank"] == 1].set_index("row").reindex(range(len(treatments.names)))
    nearest = first[[]].assign(
        nearest_treatment=first["neighbour"].map(dict(enumerate(treatments.names))),
        nearest_similarity=first["similarity"],
        nearest_moa=first["neighbour"].map(_mechanisms(study)),
    )
    known = [name for name in NEIGHBOUR_COLUMNS if name in treatments.table]
    own = treatments.table[[name for name in known if name != "moa"]].iloc[table["row"]].reset_index(drop=True)
    theirs = treatments.table[known].iloc[table["neighbour"]].reset_index(drop=True).add_prefix("neighbour_")
    return own.assign(rank=table["rank"]).join(theirs).assign(similarity=table["similarity"]), nearest


def _mechanisms(study: Study) -> dict[int, str]:
    """Return the mechanism of every treatment that has a known one, by its row."""
    table = study.treatments.table
    if "moa" not in table:
        return {}
    return {row: moa for row, moa in enumerate(table["moa"].astype(object)) if isinstance(moa, str)}


def _treatment_profiles(study: Study) -> np.ndarray:
    """Return one profile per treatment; NaN for one without a well that has a profile."""
    middle = np.mean if study.settings.aggregate == "mean" else np.median
    of_profiles = study.treatments.of_well[study.rows]
    found = np.full((len(study.treatments.table), study.profiles.x.shape[1]), np.nan)
    for row in np.unique(of_profiles[of_profiles >= 0]):
        found[row] = middle(study.profiles.x[of_profiles == row], axis=0)
    return found


def well_table(study: Study, numbers: Numbers) -> pd.DataFrame:
    """Return one row per well: its place, its treatment, its cells, and how far it lies from the controls."""
    import pandas as pd

    known = [name for name in OF_WELL if name in study.wells]
    effect, precision, profiled = np.full((3, len(study.wells)), np.nan)
    if study.screen.rows_are_cells:
        profiled[:] = 0
        profiled[study.rows] = study.profiles.wells["rows"]
    effect[study.rows] = numbers.effects.effect
    precision[study.rows] = numbers.activity.ranked.average_precision
    positions = study.positions
    return study.wells[["plate", "well"]].assign(
        row=pd.array(positions.row, "Int64"),
        column=pd.array(positions.column, "Int64"),
        edge=pd.Series(positions.edge, dtype="boolean").where(positions.known),
        **{name: study.wells[name] for name in known},
        profiled_cells=pd.array(profiled, "Int64"),
        cell_count=study.wells["cell_count"],
        cell_count_ratio=numbers.count_ratio,
        distance_from_controls=effect,
        average_precision=precision,
    )


def plate_table(study: Study) -> pd.DataFrame:
    """Return one row per plate: its control wells, and how well positive and negative controls are separated."""
    import pandas as pd

    from cellssl.profiling.control_quality import control_quality

    wells = study.profiles.wells
    positive = has_type(wells, POSITIVE)
    compared = control_quality(study.profiles.x, wells["plate"], positive, study.profiles.is_control)
    left_out = pd.DataFrame([(plate, f"left out: {why}") for plate, why in study.left_out.items()])
    table = pd.concat([compared, left_out.set_axis(["plate", "remark"], axis=1)]) if len(left_out) else compared
    counts = {"negative_controls": "Int64", "positive_controls": "Int64"}
    return table.astype(counts).sort_values("plate", kind="stable", ignore_index=True)


def write_profiles(study: Study, draft: Draft) -> None:
    """Write profiles.parquet: Metadata_* columns, then the features that the activity is computed from."""
    import pandas as pd

    profiles = study.profiles
    numbers = pd.DataFrame(profiles.x, columns=profiles.names)
    write_table(pd.concat([metadata(profiles.wells), numbers], axis=1), draft.file("profiles.parquet"))
