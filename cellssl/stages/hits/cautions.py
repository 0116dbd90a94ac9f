"""cautions: a study in; sentences on what makes its hits doubtful out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cellssl.counting import counted
from cellssl.profiling.profiles import TREATMENT
from cellssl.stages.hits.study import Study
from cellssl.stages.shared.block_words import empty_blocks_words
from cellssl.stages.shared.learned_labels import Leak, LearnedLabels, leaks

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.profiling.effects import WellEffects

FIXED = 0.5
"""A layout is fixed where more than this share of treatments is in the same wells on all plates."""
MOSTLY = 0.6
"""Controls and treated wells lie apart where the shares of them at the edge differ by more than this."""


def cautions(study: Study, learned: list[LearnedLabels]) -> list[str]:
    """Return what a reader must know before believing a hit."""
    return [
        *_collapse(study),
        *_left_out(study),
        *_positions(study),
        *empty_blocks_words(study.profiles.empty_blocks),
        *(leak.sentence for leak in _leaks(study.profiles.wells, learned)),
    ]


def cautions_of_effects(effects: WellEffects) -> list[str]:
    """Return that the effects are in another unit than usual, where that is so."""
    if effects.unit_wells or np.isnan(effects.effect).all():
        return []
    return [
        "no plate has two control wells, so how far control wells lie from each other is not known: an effect of 1 is "
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


def _positions(study: Study) -> Iterator[str]:
    """Yield that controls and treated wells lie apart, or treatments in the same wells of all plates."""
    wells, edge = study.wells, study.positions.edge
    treated, control = study.treatments.of_well >= 0, wells["control"].to_numpy(bool)
    known = study.positions.known
    if (known & control).any() and (known & treated).any() and study.settings.reference == "controls":
        of_controls, of_treated = edge[known & control].mean(), edge[known & treated].mean()
        if abs(of_controls - of_treated) > MOSTLY:
            zones = ("at the edge", "inside") if of_controls > of_treated else ("inside", "at the edge")
            yield (
                f"{of_controls if zones[0] == 'at the edge' else 1 - of_controls:.0%} of control wells lie {zones[0]} "
                f"of the plate and {of_treated if zones[1] == 'at the edge' else 1 - of_treated:.0%} of treated wells "
                f"{zones[1]}: what differs between the two looks like an effect of every treatment"
            )
    if _is_fixed(study):
        yield (
            "most treatments lie in the same wells on all plates, so what these share may be their position; where "
            'controls lie at the edge, too, hits.permute_within = ["plate", "edge"] compares like with like'
        )


def _is_fixed(study: Study) -> bool:
    """Return whether most treatments on several plates lie in the same wells on all of them."""
    of_well = study.treatments.of_well
    treated = of_well >= 0
    wells = study.wells[treated].assign(treatment=of_well[treated])
    on_plate = wells.groupby(["treatment", "plate"])["well"].agg(lambda names: " ".join(sorted(names)))
    by_treatment = on_plate.groupby("treatment")
    several = by_treatment.size() > 1
    return bool(several.any() and (by_treatment.nunique()[several] == 1).mean() > FIXED)
