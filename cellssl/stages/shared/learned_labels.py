"""learned_labels: a training, or vectors of a model, in; the columns it learned from, and what follows for scores, out.

A model that was trained with a column, as a label or as positives, has seen the answer to every score that follows from
that column. The score is then not that of a model without labels. It still counts where the scored treatments were not
among the training cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from cellssl.artifacts.contents import metrics_of
from cellssl.artifacts.store import Artifact
from cellssl.counting import counted
from cellssl.stages.shared.card_shapes import CardShape

if TYPE_CHECKING:
    import pandas as pd

KEY = "learned_labels"
"""Key of the metrics of pretrain and embed cards; models without labels lack it."""
MOST_VALUES = 20_000
"""A card with more values of a column would take too long to read; then it is not known which there were."""
TREATMENT = ("compound", "dose_micromolar")
"""What names a treatment, whose replicates are searched for."""


class LearnedLabels(CardShape):
    """The columns that one branch of a training learned from, together one label."""

    by: str
    """What learned from them, in words."""
    columns: list[str]
    seen_column: str
    """The column of which it is known which values the training cells had: the compound, where it is one of them."""
    seen: list[str] | None = None
    """These values, without those of controls; None where there are too many."""
    with_controls: bool = False
    """Whether controls were among the training cells."""

    def words(self) -> str:
        """Return what was learned from, in words."""
        return f"{' and '.join(_word(column) for column in self.columns)} ({self.by})"


class WithLearnedLabels(CardShape):
    """What is read of the metrics of a card."""

    learned_labels: list[LearnedLabels] = Field(default_factory=list)


@dataclass(frozen=True)
class Leak:
    """A score that labels of the training determine."""

    sentence: str
    were_seen: bool
    """Whether the training had seen some of the scored treatments, or that is not known."""


def of_branch(by: str, columns: Sequence[str], training: pd.DataFrame) -> LearnedLabels:
    """Return what a branch learns from these columns of its training cells."""
    seen_column = next((column for column in TREATMENT if column in columns), columns[0])
    seen = _treated_values(training, seen_column)
    return LearnedLabels(
        by=by,
        columns=list(columns),
        seen_column=seen_column,
        seen=seen if len(seen) <= MOST_VALUES else None,
        with_controls=bool(training["control"].any()),
    )


def on_card(learned: Iterable[LearnedLabels]) -> dict[str, Any]:
    """Return the entry of the metrics of a card; none for a model without labels."""
    entries = [each.model_dump() for each in learned]
    return {KEY: entries} if entries else {}


def of_inputs(inputs: Mapping[str, Artifact]) -> list[LearnedLabels]:
    """Return what the models behind the inputs of a stage learned from: an earlier model, or other vectors."""
    found: list[LearnedLabels] = []
    for artifact in inputs.values():
        found += [each for each in of_artifact(artifact) if each not in found]
    return found


def of_artifact(artifact: Artifact) -> list[LearnedLabels]:
    """Return what a model, or the model of vectors, learned from."""
    return metrics_of(artifact, WithLearnedLabels).learned_labels if KEY in artifact.card.metrics else []


def leaks(learned: Sequence[LearnedLabels], scored: pd.DataFrame, columns: Sequence[str], score: str) -> list[Leak]:
    """Return what is to be said of a score for the label that `columns` make, over the `scored` cells.

    A label is concerned where one determines the other: each compound has one mechanism, each label one compound.
    """
    return [_leak(each, scored, score) for each in learned if _is_concerned(each, scored, columns)]


def _leak(learned: LearnedLabels, scored: pd.DataFrame, score: str) -> Leak:
    start = f"the model learned from {learned.words()}, so its score for {score} is not that of a model without labels"
    if learned.seen is None or learned.seen_column not in scored:
        return Leak(f"{start}; which values it has seen is not known", True)
    values = _treated_values(scored, learned.seen_column)
    seen = len(set(values) & set(learned.seen))
    number = f"{seen:,}" if seen else "none"
    what = counted(len(values), f"scored {_word(learned.seen_column)}")
    controls = "; controls were" if learned.with_controls and not seen and scored["control"].any() else ""
    sentence = f"{start}; {number} of {what} {'were' if seen > 1 else 'was'} in its training"
    return Leak(sentence + controls, seen > 0)


def _is_concerned(learned: LearnedLabels, scored: pd.DataFrame, columns: Sequence[str]) -> bool:
    theirs, ours = [one for one in learned.columns if one in scored], [one for one in columns if one in scored]
    if not theirs or not ours:
        return False
    known = scored.dropna(subset=ours)
    return bool(set(theirs) & set(ours)) or _determines(known, theirs, ours) or _determines(known, ours, theirs)


def _determines(rows: pd.DataFrame, one: list[str], other: list[str]) -> bool:
    """Return whether rows with the same values in `one` have the same in `other`; False where `one` does not vary."""
    pairs = rows[[*one, *other]].drop_duplicates()
    return 1 < len(pairs) == len(pairs[one].drop_duplicates())


def _treated_values(cells: pd.DataFrame, column: str) -> list[str]:
    treated = cells.loc[~cells["control"].to_numpy(bool), column].dropna()
    return sorted({str(value) for value in treated.unique()})


def _word(column: str) -> str:
    return {"dose_micromolar": "dose", "moa": "mechanism of action"}.get(column, column)
