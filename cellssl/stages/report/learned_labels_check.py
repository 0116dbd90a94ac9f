"""learned_labels_check: runs in; which arms learned from labels, and which of their scores have seen them, out."""

from __future__ import annotations

from cellssl.stages.report.check import Check
from cellssl.stages.report.runs import Run, scored_assignments
from cellssl.stages.shared.cell_tables import chosen_cells
from cellssl.stages.shared.learned_labels import Leak, LearnedLabels, leaks, of_artifact


def learned_by(run: Run) -> list[LearnedLabels]:
    """Return the labels that the model of a run learned from; none for most models."""
    return of_artifact(run.embed) or (of_artifact(run.model) if run.model is not None else [])


def arms_with_labels(runs: list[Run]) -> list[str]:
    """Return a sentence on each arm whose model learned from labels: its scores are not those of the other arms."""
    first = {run.arm: run for run in reversed(runs)}
    found = {arm: " and ".join(each.words() for each in learned_by(run)) for arm, run in sorted(first.items())}
    return [
        f"“{arm}” learned from {words}. Its scores for what follows from them are not those of a model without labels, "
        f"unless the scored treatments were not among its training cells: {_seen(first[arm])}."
        for arm, words in found.items()
        if words
    ]


def labels_learned(run: Run) -> Check | None:
    """Say whether the model has seen what it is scored for; None for a model without labels."""
    if not learned_by(run):
        return None
    question, found = "Are the scores those of a model without labels?", _leaks(run)
    numbers = "; ".join(dict.fromkeys(leak.sentence for leak in found))
    if not found:
        words = "; ".join(each.words() for each in learned_by(run))
        return Check(question, "yes", f"the model learned from {words}, and nothing scored follows from it", "passed")
    if any(leak.were_seen for leak in found):
        return Check(question, "no", numbers, "against", "the model learned from labels that it is scored for")
    return Check(question, "no, but of treatments it had not seen", numbers, "passed")


def _seen(run: Run) -> str:
    found = _leaks(run)
    if not found:
        return "nothing that is scored here follows from them"
    return "; ".join(dict.fromkeys(leak.sentence.partition("; ")[2] for leak in found))


def _leaks(run: Run) -> list[Leak]:
    """Return what is to be said of the clusters' agreement with the label, and of the evaluation."""
    cells = chosen_cells(run.cells, run.segment)
    found = list(run.evaluation.label_leaks) if run.evaluation is not None else []
    if "label" in cells and cells["label"].notna().any():
        scored = cells[cells["cell_id"].isin(scored_assignments(run.cluster)["cell_id"])]
        found = leaks(learned_by(run), scored, ("label",), "the label (clusters)") + found
    return found
