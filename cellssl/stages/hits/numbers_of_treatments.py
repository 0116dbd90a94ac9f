"""numbers_of_treatments: a study in; activity, effects, changed cells and counts of its treatments and wells out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.stages.hits.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.activity import Activity
    from cellssl.profiling.effects import WellEffects


@dataclass(frozen=True)
class Numbers:
    """What is computed of every treatment and well of a study."""

    activity: Activity
    p_value: np.ndarray
    """One per treatment of the table, as are the other arrays; NaN where it is not tested."""
    smallest_p_value: np.ndarray
    """What the design allows; 1 where it is not tested."""
    q_value: np.ndarray
    """NaN also where the smallest possible p-value is above alpha."""
    effects: WellEffects
    treatment_effects: pd.DataFrame
    """Columns effect, low, high, rank and wells; one row per treatment of the table."""
    changed: pd.DataFrame | None
    """Columns share, low and high; None where the table has one row per well."""
    count_q_value: np.ndarray | None
    """The q-value of the test on the mean number of cells; None where that is not known of any well."""
    count_ratio: np.ndarray
    """One per well of the screen; NaN where it is not known."""
    count_ratios: pd.DataFrame
    """Columns ratio, low and high; one row per treatment of the table."""


def compute(study: Study) -> Numbers:
    """Compute the numbers of a study."""
    from cellssl.profiling.activity import q_values
    from cellssl.profiling.effects import treatment_effects, well_effects

    settings, profiles = study.settings, study.profiles
    found = _activity(study)
    p_value, smallest = _p_values(study, found), _smallest(study, found)
    plates, control = profiles.wells["plate"], profiles.is_control
    effects = well_effects(profiles.x, plates, control, study.labels, reference=settings.reference)
    of_treatments = _in_order(study, treatment_effects(effects, draws=settings.bootstrap_draws))
    count_ratio, count_ratios = _count_ratios(study)
    return Numbers(
        activity=found,
        p_value=p_value,
        smallest_p_value=smallest,
        # what the design does not allow to be active makes the q-values of others no larger
        q_value=q_values(np.where(smallest <= settings.alpha, p_value, np.nan)),
        effects=effects,
        treatment_effects=of_treatments,
        changed=_changed(study),
        count_q_value=_count_q_value(study),
        count_ratio=count_ratio,
        count_ratios=count_ratios,
    )


def _activity(study: Study) -> Activity:
    """Return how well replicates find each other among the controls."""
    from cellssl.profiling.activity import activity

    settings, profiles = study.settings, study.profiles
    return activity(
        profiles.x,
        study.labels,
        profiles.is_control,
        profiles.wells["plate"],
        blocks=[study.blocks[row] for row in study.rows.tolist()],
        similarity=settings.similarity,
        controls=settings.controls,
        null=settings.null,
        null_size=settings.null_size,
        reference=settings.reference,
        scaled=not study.screen.rows_are_cells,
    )


def _p_values(study: Study, found: Activity) -> np.ndarray:
    """Return the p-values in the order of the table."""
    return study.treatments.in_order(found.treatments, np.minimum(study.settings.p_value_factor() * found.p_value, 1))


def _smallest(study: Study, found: Activity) -> np.ndarray:
    smallest = np.minimum(study.settings.p_value_factor() * found.smallest_p_value, 1)
    in_order = study.treatments.in_order(found.treatments, smallest)
    return np.where(np.isnan(in_order), 1.0, in_order)


def _count_q_value(study: Study) -> np.ndarray | None:
    """Return the q-values of the test on the mean number of cells of every treatment."""
    from cellssl.profiling.activity import q_values
    from cellssl.profiling.cell_counts import count_p_values

    rows, settings = study.counted, study.settings
    if not len(rows):
        return None
    wells = study.wells.iloc[rows]
    found = count_p_values(
        wells["cell_count"].to_numpy(float),
        wells["plate"],
        wells["control"].to_numpy(bool),
        study.treatments.labels(rows),
        blocks=[study.blocks[row] for row in rows.tolist()],
        reference=settings.reference,
        null_size=settings.null_size,
    )
    return q_values(study.treatments.in_order(list(found), list(found.values())))


def _count_ratios(study: Study) -> tuple[np.ndarray, pd.DataFrame]:
    from cellssl.profiling.cell_counts import treatment_count_ratios, well_count_ratios

    rows, settings = study.counted, study.settings
    wells = study.wells.iloc[rows]
    by = wells["cell_count"].to_numpy(float), wells["plate"], wells["control"].to_numpy(bool)
    of_wells = np.full(len(study.wells), np.nan)
    of_wells[rows] = well_count_ratios(*by, reference=settings.reference)
    of_treatments = treatment_count_ratios(
        *by, study.treatments.labels(rows), reference=settings.reference, draws=settings.bootstrap_draws
    )
    return of_wells, _in_order(study, of_treatments)


def _changed(study: Study) -> pd.DataFrame | None:
    """Return the share of changed cells, of the vectors before the chain: the direction that is fitted is the same."""
    from cellssl.profiling.changed_cells import changed_share

    screen, settings = study.screen, study.settings
    if not screen.rows_are_cells:
        return None
    row = study.rows_of(screen.cells)
    found = changed_share(
        screen.vectors.astype(np.float32, copy=False),
        screen.cells["plate"],
        row,
        study.treatments.labels(row),
        screen.cells["control"].to_numpy(bool),
        reference=settings.reference,
        draws=settings.bootstrap_draws,
    )
    return _in_order(study, found)


def _in_order(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table with the column `treatment` as the treatments of the study are ordered."""
    return table.set_index("treatment").reindex(study.treatments.names).reset_index(drop=True)
