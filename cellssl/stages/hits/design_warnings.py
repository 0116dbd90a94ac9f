"""design_warnings: labels of wells in; what so many wells do not allow a search for hits to find, in sentences, out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cellssl.counting import counted

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.hits.settings import Settings
    from cellssl.stages.hits.study import Study


def warnings_of(study: Study) -> list[str]:
    """Return what the wells of a study that have a profile do not allow."""
    wells = study.profiles.wells
    blocks = [study.blocks[row] for row in study.rows.tolist()]
    return design_warnings(study.labels, study.profiles.is_control, wells["plate"], blocks, study.settings)


def design_warnings(
    treatments: Sequence[str | None],
    is_control: np.ndarray,
    plates: pd.Series[str],
    blocks: Sequence[str],
    settings: Settings,
) -> list[str]:
    """Return what these wells do not allow, with the cure; nothing where every treatment alone can be active.

    `treatments` has None for controls, and for wells without a treatment.
    """
    from cellssl.profiling.activity_design import ActivityDesign, smallest_p_value

    design = ActivityDesign.of(treatments, is_control, plates, blocks, settings.reference)
    tested = [number for number, wells in enumerate(design.tested) if len(wells)]
    if not design.names:
        return []
    if not tested:
        return [_no_test(max(Counter(filter(None, treatments)).values()) > 1, settings)]
    smallest = [_of_a_test(smallest_p_value(design, number, settings.null_size), settings) for number in tested]
    untested = len(design.names) - len(tested)
    return [*_untested(untested, len(design.names), settings), *_too_large(np.sort(smallest), settings)]


def _of_a_test(relabelled: float, settings: Settings) -> float:
    """Return the smallest p-value of a treatment, from the smallest share of relabelings.

    Random ranks have no smallest p-value but that of their number: how well they can rank is not known beforehand.
    """
    if settings.null == "random_ranks":
        return 1 / (settings.null_size + 1)
    return min(1.0, settings.p_value_factor() * relabelled)


def _no_test(has_replicates: bool, settings: Settings) -> str:
    """Return why no treatment can be tested."""
    others = _others(settings)
    if has_replicates:
        why, cure = f"no treatment has two wells on plates with two {others} wells", f"more {others} wells per plate"
    else:
        why, cure = "no treatment has two wells", "replicates"
    return f"{why}, so there are effects and ranks, but no q-values; {cure} would give them"


def _untested(untested: int, treatments: int, settings: Settings) -> list[str]:
    if not untested:
        return []
    return [
        f"{untested:,} of {counted(treatments, 'treatment')} cannot be tested, and have effects and ranks only: a test "
        f"needs two wells of a treatment on plates with two {_others(settings)} wells"
    ]


def _others(settings: Settings) -> str:
    """Return which wells treated ones are compared with."""
    return "control" if settings.reference == "controls" else "other"


def _too_large(smallest: np.ndarray, settings: Settings) -> list[str]:
    """Return what the smallest possible p-values, in order, mean for q-values (Benjamini and Hochberg)."""
    together = at_once(smallest, settings.alpha)
    if together == 1:
        return _some_too_large(smallest, settings)
    best = f"the smallest possible p-value is {smallest[0]:.2g}"
    cure = f"{_cure(float(smallest[0]), settings)} would allow smaller ones"
    if together is None:
        among = f", for {len(smallest):,} treatments" if smallest[0] < settings.alpha else ""
        return [f"no treatment can have a q-value below {settings.alpha:g}: {best}{among}; {cure}"]
    return [
        f"{best}, so a q-value below {settings.alpha:g} needs at least {counted(together, 'treatment')} of "
        f"{len(smallest):,} that are as extreme at once; {cure}"
    ]


def _some_too_large(smallest: np.ndarray, settings: Settings) -> list[str]:
    """Return how many treatments have no q-value below alpha even where all have their smallest p-values."""
    from scipy.stats import false_discovery_control

    out_of_reach = int((false_discovery_control(smallest) >= settings.alpha).sum())
    if not out_of_reach:
        return []
    return [
        f"{out_of_reach:,} of {len(smallest):,} treatments cannot have a q-value below {settings.alpha:g}: their smallest "
        f"possible p-value is up to {smallest[-1]:.2g}; {_cure(float(smallest[-1]), settings)} would allow smaller ones"
    ]


def at_once(smallest: np.ndarray, alpha: float) -> int | None:
    """Return how many treatments must have their smallest p-values for any q-value below alpha; None where all do not.

    `smallest` is sorted. The q-value of the k smallest of n p-values is n * p / k.
    """
    q_values = smallest * (len(smallest) / np.arange(1, len(smallest) + 1))
    below = np.flatnonzero(q_values < alpha)
    return int(below[0]) + 1 if len(below) else None


def _cure(best: float, settings: Settings) -> str:
    """Return what limits the smallest p-value: the number of draws, or of wells whose labels can change."""
    if best <= settings.p_value_factor() / (settings.null_size + 1):
        return "a larger hits.null_size"
    wells = f"more wells per treatment, or more {_others(settings)} wells per plate,"
    if settings.permute_within == ("plate",):
        return wells
    return f"{wells} or labels that change within whole plates (hits.permute_within)"
