"""label_leaks: evaluated cells and the labels that their model learned from in; which scores have seen them, out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from cellssl.stages.evaluate.evaluated_cells import FITS_ONLY
from cellssl.stages.shared.learned_labels import TREATMENT, Leak, LearnedLabels, leaks

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.stages.evaluate.settings import Settings

OF_MECHANISMS = ("nsc", "nscb", "map_mechanism")


def label_leaks(
    learned: Sequence[LearnedLabels], cells: pd.DataFrame, parts: Collection[str], settings: Settings
) -> tuple[Leak, ...]:
    """Return what is to be said of the parts that were computed; nothing for a model without labels."""
    if not learned:
        return ()
    scored = cells[~cells[FITS_ONLY].to_numpy(bool)]
    scored = scored if "control" in scored else scored.assign(control=False)
    return tuple(leak for each in _scores(scored, parts, settings) for leak in leaks(learned, *each))


def _scores(
    cells: pd.DataFrame, parts: Collection[str], settings: Settings
) -> Iterator[tuple[pd.DataFrame, tuple[str, ...], str]]:
    """Yield for groups of parts their scored cells, the columns of their label, and what to call them."""
    label = settings.label
    if "split" in parts:
        yield cells[cells["split"] == settings.part], (label,), f"{label} (split)"
    if left_out := [name.replace("_", " ") for name in parts if name.startswith("leave_one_")]:
        yield cells, (label,), f"{label} ({', '.join(left_out)})"
    if mechanisms := [name.replace("_", " ") for name in OF_MECHANISMS if name in parts]:
        yield cells, ("moa",), f"mechanisms ({', '.join(mechanisms)})"
    if "map_replicates" in parts:
        yield cells, TREATMENT, "replicates of treatments (map replicates)"
