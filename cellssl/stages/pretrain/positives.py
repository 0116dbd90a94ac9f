"""positives: the cells of a split and the branches of a training in; the other cells that can be positives out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cellssl.artifacts.tables import SHAPE
from cellssl.config.plugins import did_you_mean
from cellssl.engine.build import Job
from cellssl.errors import UsageError
from cellssl.randomness import cell_keys, hash64
from cellssl.stages.pretrain.settings import SHORT_NAMES, BranchSettings, column_of, on_all_plates
from cellssl.stages.shared import learned_labels
from cellssl.stages.shared.cell_tables import chosen_cells
from cellssl.stages.shared.scaled_crops import upstream_segment

if TYPE_CHECKING:
    import pandas as pd

    from cellssl.learning.training.positives import Positives
    from cellssl.stages.pretrain.settings import Settings
    from cellssl.stages.shared.learned_labels import LearnedLabels

OF_TREATMENT = ("dose_micromolar", "moa")
"""Columns that control wells do not have, or have 0: all wells of one control compound are one treatment."""
MISSING = -1
NOT_TO_NAME = {"cell_id", "crop_row", "part", "row_px", "column_px", "nucleus_label", "split", *SHAPE}


def load_positives(job: Job, part: Literal["train", "val"]) -> dict[str, Positives]:
    """Return for every branch with positives the partners of the cells of one part of the split, in its order.

    Raises UsageError where a column is not known, or no training cell has a partner.
    """
    branches = with_positives(job.settings)
    if not branches:
        return {}
    split = job.inputs["split"]
    cells = chosen_cells(split, upstream_segment(split, job.context.store))
    cells = cells[cells["split"] == part].reset_index(drop=True)
    return {name: positives_of(name, branch, cells, is_training=part == "train") for name, branch in branches.items()}


def learned_labels_of(job: Job) -> list[LearnedLabels]:
    """Return the columns that this training learned from, branch by branch, and those of the model it started from."""
    found = learned_labels.of_inputs(job.inputs)
    labels = {
        name: (f"{'positives' if branch.positives else branch.objective.plugin_name()} of the branch {name}", columns)
        for name, branch in job.settings.active().items()
        if (columns := branch.learned_columns())
    }
    if not labels or job.settings.epochs == 0:
        return found
    split = job.inputs["split"]
    cells = chosen_cells(split, upstream_segment(split, job.context.store))
    training = cells[cells["split"] == "train"]
    return found + [learned_labels.of_branch(by, columns, training) for by, columns in labels.values()]


def with_positives(settings: Settings) -> dict[str, BranchSettings]:
    """Return the branches that take positives from the metadata."""
    active = settings.active() if settings.epochs > 0 else {}
    return {name: branch for name, branch in active.items() if branch.positives is not None}


def positives_of(name: str, branch: BranchSettings, cells: pd.DataFrame, *, is_training: bool = True) -> Positives:
    """Return the partners of some cells for one branch; the columns of training cells are checked."""
    from cellssl.learning.training.positives import Partners, Positives

    wanted = branch.positives
    assert wanted is not None
    for setting in ("same", "other") if is_training else ():
        for column in getattr(wanted, setting):
            _check_column(column, cells, f"branch {name}: positives.{setting}")
    treatments = treatments_of(cells, [column_of(column) for column in wanted.same])
    wells = np.stack([_codes(cells, column_of(column)) for column in wanted.other], axis=1)
    partners = Partners.of(treatments, wells)
    if is_training:
        _check_some(name, branch, partners)
    return Positives(partners, wanted.share, wanted.mask_same)


def _check_column(column: str, cells: pd.DataFrame, where: str) -> None:
    known = tuple(dict.fromkeys([*SHORT_NAMES, *(str(each) for each in cells if each not in NOT_TO_NAME)]))
    if column_of(column) not in cells:
        raise UsageError(f"{where} names the column {column!r}, which the cells lack", did_you_mean(column, known))
    treated = ~cells["control"].to_numpy(bool)
    if treated.any() and cells.loc[treated, column_of(column)].isna().all():
        raise UsageError(
            f"{where} names the column {column!r}, in which no treated cell has a value",
            hint="leave it out, or put its values into the field table of [fetch]",
        )


def _check_some(name: str, branch: BranchSettings, partners: Any) -> None:
    """Raise UsageError where no cell has a partner, or none has a negative."""
    wanted = branch.positives
    assert wanted is not None
    if not partners.has_partner.any():
        raise UsageError(
            f"branch {name}: no training cell has another one of {_in_words(branch)}",
            hint="each treatment needs two wells among the training cells: name fewer columns in positives, such as "
            'same = ["compound"], train on more plates, or leave positives out',
        )
    if wanted.mask_same and branch.objective.HAS_NEGATIVES and len(np.unique(partners.treatments.numpy())) == 1:
        raise UsageError(
            f"branch {name}: all training cells have the same {' and '.join(wanted.same)}, so none has a negative",
            hint="set positives.mask_same = false, or name another column in positives.same",
        )


def treatments_of(cells: pd.DataFrame, columns: list[str]) -> np.ndarray:
    """Return one number per cell, the same for cells with the same values; a cell without a value has its own key.

    All control cells count as having the same dose and mechanism.
    """
    values = cells[list(on_all_plates(columns))].astype(object)
    for column in OF_TREATMENT:
        if column in values:
            values[column] = values[column].where(~cells["control"].to_numpy(bool), "control")
    numbers = cell_keys(cells["cell_id"])
    groups = values.groupby(list(values), sort=False, dropna=True).indices  # a missing value is in no group
    for treatment, rows in groups.items():
        named = treatment if isinstance(treatment, tuple) else (treatment,)
        numbers[rows] = hash64("treatment", *map(str, named))
    return numbers


def _codes(cells: pd.DataFrame, column: str) -> np.ndarray:
    """Return the number of the value of every cell, MISSING where it has none."""
    values = cells[list(on_all_plates([column]))]
    codes: np.ndarray = values.groupby(list(values), sort=True, dropna=True).ngroup().fillna(MISSING).to_numpy(np.int64)
    return codes


def _in_words(branch: BranchSettings) -> str:
    wanted = branch.positives
    assert wanted is not None
    return f"the same {' and '.join(wanted.same)} in another {' and another '.join(wanted.other)}"


def positives_in_words(positives: Mapping[str, Positives], settings: Settings) -> Iterator[str]:
    """Yield for every branch how many cells have a partner."""
    for name, each in positives.items():
        has = each.partners.has_partner
        yield (
            f"branch {name}: {has.sum():,} of {len(has):,} training cells ({has.mean():.0%}) have another one of "
            f"{_in_words(settings.branches[name])}; the others keep their own views"
        )


def positives_in_numbers(positives: Mapping[str, Positives]) -> dict[str, dict[str, float]]:
    """Return for every branch how many cells have a partner, for the card."""
    has = {name: each.partners.has_partner for name, each in positives.items()}
    return {
        name: {"cells_with_partner": int(each.sum()), "share_with_partner": round(float(each.mean()), 4)}
        for name, each in has.items()
    }
