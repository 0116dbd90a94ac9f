"""design_warnings: labels of wells in; what so many wells do not allow a search for hits to find, in sentences, out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
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


def _too_large(smallest: np.ndarray, settings: Settings) -> Iterator[str]:
    """Yield what the smallest possible p-values, in order, mean for q-values (Benjamini and Hochberg)."""
    from cellssl.profiling.activity import q_values

    alpha = settings.alpha
    number = int((smallest <= alpha).sum())  # others have no q-value, and do not make those of these larger
    never = ~(q_values(np.where(smallest <= alpha, smallest, np.nan)) < alpha)
    together = ~never & (number * smallest >= alpha)
    if together.any():
        best = float(smallest[together][0])
        who = "" if together.all() else f"for {together.sum():,} of {counted(number, 'treatment')}, "
        yield (
            f"{who}the smallest possible p-value is {best:.2g}, so a q-value below {alpha:g} needs at least "
            f"{counted(at_once(best, number, alpha), 'treatment')} of {number:,} that are as extreme at once; "
            f"{_cure(best, settings)} would allow smaller ones"
        )
    if never.any():
        best = float(smallest[never][0])
        who = "no treatment" if never.all() else f"{never.sum():,} of {counted(len(smallest), 'treatment')}"
        can = "can" if never.all() else "cannot"
        among = f", for {counted(number, 'treatment')}" if best < alpha else ""
        yield (
            f"{who} {can} have a q-value below {alpha:g}: the smallest possible p-value is {best:.2g}{among}; "
            f"{_cure(best, settings)} would allow smaller ones"
        )


def at_once(p_value: float, treatments: int, alpha: float) -> int:
    """Return how many of all treatments must have this p-value for a q-value below alpha: q is n * p / k for k of n."""
    below = p_value * (treatments / np.arange(1, treatments + 1)) < alpha  # in the order of false_discovery_control
    return int(below.argmax()) + 1


def _cure(best: float, settings: Settings) -> str:
    """Return what limits the smallest p-value: the number of draws, or of wells whose labels can change."""
    if best <= settings.p_value_factor() / (settings.null_size + 1):
        return "a larger hits.null_size"
    wells = f"more wells per treatment, or more {_others(settings)} wells per plate,"
    if settings.permute_within == ("plate",):
        return wells
    return f"{wells} or labels that change within whole plates (hits.permute_within)"
