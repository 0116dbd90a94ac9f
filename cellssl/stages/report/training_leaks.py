"""training_leaks: a run in; how many fields, wells and plates trained a network and are tested here, out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellssl.artifacts.store import Artifact
from cellssl.stages.report.runs import Run
from cellssl.stages.shared.card_shapes import Leaks, split_metrics
from cellssl.stages.shared.cell_tables import chosen_cells

if TYPE_CHECKING:
    import pandas as pd

KEYS = {"fields": ["field_id"], "wells": ["plate", "well"], "plates": ["plate"]}


def training_leaks(run: Run) -> Leaks:
    """Return what the training cells of all networks of a run share with its test cells.

    The run must have a split. What networks of other splits share is counted in the tables of these.
    """
    assert run.split is not None
    known = [part.trained_on for part in run.parts if part.is_learned and part.trained_on is not None]
    if all(split.fingerprint == run.split.fingerprint for split, _ in known):
        return split_metrics(run.split).leaks
    import pandas as pd

    tested = _cells_of(run.split, run.segment, "test")
    training = pd.concat([_cells_of(*trained_on, "train") for trained_on in known])
    counts = {
        f"{name}_in_train_and_test": len(tested[keys].drop_duplicates().merge(training[keys].drop_duplicates()))
        for name, keys in KEYS.items()
    }
    return Leaks(**counts)


def unknown_trainings(run: Run) -> list[str]:
    """Return the blocks of which it is not known whether these cells trained them."""
    return [part.block for part in run.parts if part.is_learned and part.trained_on is None]


def _cells_of(split: Artifact, segment: Artifact, part: str) -> pd.DataFrame:
    cells = chosen_cells(split, segment)
    return cells[cells["split"] == part]
