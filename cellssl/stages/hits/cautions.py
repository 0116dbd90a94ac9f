"""cautions: a study in; sentences on what makes its hits doubtful out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cellssl.counting import counted
from cellssl.datasets.tables.controls import near_control
from cellssl.datasets.tables.usual_names import usual_columns
from cellssl.profiling.profiles import TREATMENT
from cellssl.stages.hits.caution_words import APART, FIXED_LAYOUT, NO_UNIT, ZONE
from cellssl.stages.hits.study import Study
from cellssl.stages.shared.block_words import empty_blocks_words
from cellssl.stages.shared.learned_labels import Leak, LearnedLabels, leaks

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.effects import WellEffects

FEWEST, MORE = 6, 1.5
"""Treatments and control wells from which their spreads are compared, and the ratio of these from which it is said."""
MANY = 0.1
"""With more active treatments than this share, all wells of a plate are no reference."""
FIXED = 0.5
"""A layout is fixed where more than this share of treatments is in the same wells on all plates."""
SHARED = 0.25
"""Controls lie apart where fewer than this share of them lie in columns, or rows, with treated wells."""
MOSTLY = 0.6
"""Controls and treated wells lie apart where the shares of them at the edge differ by more than this."""


def cautions(study: Study, learned: list[LearnedLabels]) -> list[str]:
    """Return what a reader must know before believing a hit."""
    return [
        *_collapse(study),
        *_left_out(study),
        *_rows_combined(study),
        *_names(study),
        *_positions(study),
        *empty_blocks_words(study.profiles.empty_blocks),
        *(leak.sentence for leak in _leaks(study.profiles.wells, learned)),
    ]


def many_active(study: Study, active: int, tested: int) -> list[str]:
    """Return that without controls, treatments that do nothing can stand out where many of the others do something."""
    if study.settings.reference == "controls" or active <= MANY * tested:
        return []
    return [
        f"{active:,} of {tested:,} treatments are active among all wells of their plates: where so many are, wells on "
        "which nothing happened resemble each other, too; name control wells to tell them apart"
    ]


def cautions_of_effects(effects: WellEffects) -> list[str]:
    """Return that the effects are in another unit than usual, where that is so."""
    if effects.unit_wells or np.isnan(effects.effect).all():
        return []
    return [
        f"{NO_UNIT}, so how far control wells lie from each other is not known: an effect of 1 is "
        "as far as the median of all wells, not as far as a typical control well"
    ]


def _collapse(study: Study) -> Iterator[str]:
    if not np.ptp(study.screen.vectors, axis=0).any():
        yield "all vectors are the same: the encoder has collapsed, and the numbers mean nothing"


def _leaks(wells: pd.DataFrame, learned: list[LearnedLabels]) -> list[Leak]:
    return leaks(learned, wells, TREATMENT, "replicates of treatments") if learned else []


def _left_out(study: Study) -> Iterator[str]:
    treated = study.treatments.of_well >= 0
    plates = study.wells["plate"]
    for reason in dict.fromkeys(study.left_out.values()):
        names = [plate for plate, why in study.left_out.items() if why == reason]
        lost = int((plates.isin(names).to_numpy(bool) & treated).sum())
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        yield f"{counted(len(names), 'plate')} with {counted(lost, 'treated well')} left out, for {reason}: {shown}"


def _names(study: Study) -> Iterator[str]:
    """Yield names that are probably not read as they are meant: of controls, doses, and wells without a dose."""
    treated = study.wells[study.treatments.of_well >= 0]
    if study.settings.table is not None:
        controls = study.settings.table.controls
        near = {name: near_control(str(name), controls) for name in treated["compound"].unique()}
        if "dose_micromolar" not in treated and (
            named := usual_columns(list(map(str, study.screen.cells.columns))).get("dose")
        ):
            yield (
                f"the column {named[0]} looks like a dose, but is not read as one, so that all doses of a compound are "
                f"replicates: name it, hits.table.columns.dose_micromolar = {named[0]!r}"
            )
        for name, control in near.items():
            if control is not None:
                yield f"{name} is tested as a treatment, though it looks like {control}: see hits.table.controls"
    if "dose_micromolar" in treated:
        known = treated["dose_micromolar"].notna().groupby(treated["compound"])
        mixed = known.any() & ~known.all()
        for name in mixed.index[mixed][:3]:
            yield f"{name} has wells with a dose and wells without one: they are two treatments"


def cautions_of_spread(study: Study, active: np.ndarray) -> list[str]:
    """Return that replicates vary more than control wells, along the direction in which both vary most.

    Then labels are not exchangeable: along one direction, replicates that are far from the centre agree by chance.
    Treatments that are `active` are left out: what they do to one well, they may do less to another.
    """
    x, of_treatment = study.profiles.x, study.treatments.of_well[study.rows]
    control, numbers = study.profiles.is_control, np.flatnonzero(~active)
    replicates = [rows for number in numbers if len(rows := np.flatnonzero(of_treatment == number)) > 1]
    if len(replicates) < FEWEST or control.sum() < FEWEST:
        return []
    own = [(x[rows] - x[rows].mean(axis=0)) * np.sqrt(len(rows) / (len(rows) - 1)) for rows in replicates]
    everywhere = np.concatenate([x[control], *own])
    direction = np.linalg.svd(everywhere, full_matrices=False)[2][0]
    of_controls = float((x[control] @ direction).std())
    ratio = float(np.median([(part @ direction).std() for part in own])) / (of_controls or np.inf)
    if ratio <= MORE:
        return []
    return [
        f"replicates vary {ratio:.1f} times as much as control wells in the direction in which wells vary most, so "
        "that some agree by chance and p-values may be too small: look at density and position in wells.csv"
    ]


def _rows_combined(study: Study) -> Iterator[str]:
    """Yield that a well has several rows that are too few to be its cells."""
    rows = study.profiles.wells["rows"]
    if not study.screen.rows_are_cells and (most := int(rows.max())) > 1:
        yield (
            f"up to {most:,} rows of one plate and well are combined: they are taken for fields of the well. If they "
            "are of several plates with one name, give the plates different names"
        )


def _positions(study: Study) -> Iterator[str]:
    """Yield that controls and treated wells lie apart, or treatments in the same wells of all plates."""
    if study.settings.reference == "controls":
        yield from list(_zones(study))[:1]
    if _is_fixed(study):
        yield (
            f"{FIXED_LAYOUT}, so what these share may be their position; where controls lie at the edge, too, compare "
            'like with like (hits.permute_within = ["plate", "edge"])'
        )


def _zones(study: Study) -> Iterator[str]:
    """Yield in which columns, rows or zones of the plate controls lie where treated wells do not."""
    known = study.positions.known
    treated = known & (study.treatments.of_well >= 0)
    control = known & study.wells["control"].to_numpy(bool)
    if not treated.any() or not control.any():
        return
    for name, numbers in (("column", study.positions.column), ("row", study.positions.row)):
        if np.isin(numbers[control], numbers[treated]).mean() < SHARED:
            count = len(np.unique(numbers[control]))
            yield f"{counted(count, name)} with controls {'has' if count == 1 else 'have'} {APART}"
    at_edge = study.positions.edge
    of_controls, of_treated = at_edge[control].mean(), at_edge[treated].mean()
    if abs(of_controls - of_treated) > MOSTLY:
        yield f"{of_controls:.0%} of control wells and {of_treated:.0%} of treated wells lie at the edge of {ZONE}"


def _is_fixed(study: Study) -> bool:
    """Return whether most treatments on several plates lie in the same wells on all of them."""
    of_well = study.treatments.of_well
    treated = of_well >= 0
    wells = study.wells[treated].assign(treatment=of_well[treated])
    on_plate = wells.groupby(["treatment", "plate"])["well"].agg(lambda names: " ".join(sorted(names)))
    by_treatment = on_plate.groupby("treatment")
    several = by_treatment.size() > 1
    return bool(several.any() and (by_treatment.nunique()[several] == 1).mean() > FIXED)
