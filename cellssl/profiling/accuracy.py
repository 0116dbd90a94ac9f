"""accuracy: true and predicted labels of cells -> accuracies, and their bootstrap confidence intervals."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from cellssl.errors import UsageError
from cellssl.profiling.cluster_scores import Interval
from cellssl.profiling.group_bootstrap import class_strata, counts_of_groups, drawn_sums
from cellssl.profiling.labels import Labels, codes


@dataclass(frozen=True)
class Accuracy:
    """How often the prediction is correct; cells without a true label do not count."""

    plain: float
    """Share of cells predicted correctly."""
    balanced: float
    """Mean recall over the classes that the cells have, so that a rare class counts as much as a frequent one."""
    per_class: dict[str, float]
    """Recall of each class that the cells have: the share of its cells predicted correctly."""
    classes: tuple[str, ...]
    """Names of the classes along both axes of `confusion`."""
    confusion: Int[np.ndarray, "c c"]
    """Number of cells by true label (rows) and predicted label (columns)."""


@dataclass(frozen=True)
class Intervals:
    """Bootstrap intervals of an accuracy; None where a class has only one group, which shows no variation."""

    plain: Interval | None
    balanced: Interval | None
    per_class: dict[str, Interval | None]


def accuracy(truth: Labels, predicted: Labels) -> Accuracy:
    """Compare the true labels of cells with the predicted ones.

    Raises UsageError where no cell has a true label.
    """
    classes, true, prediction = _labelled(truth, predicted)
    count = len(classes)
    confusion = np.bincount(true * count + prediction, minlength=count * count).reshape(count, count)
    occurs = confusion.sum(axis=1) > 0
    recall = confusion.diagonal()[occurs] / confusion.sum(axis=1)[occurs]
    names = [name for name, some in zip(classes, occurs, strict=True) if some]
    return Accuracy(
        plain=float((true == prediction).mean()),
        balanced=float(recall.mean()),
        per_class={name: float(share) for name, share in zip(names, recall, strict=True)},
        classes=tuple(classes),
        confusion=confusion,
    )


def intervals(
    truth: Labels, predicted: Labels, groups: Labels, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> Intervals:
    """Return percentile intervals of a bootstrap that draws whole groups, such as wells; the predictions stay fixed.

    Cells of one well are similar because they share the well, so drawing single cells would make an interval too
    narrow (a cluster bootstrap: Davison and Hinkley 1997, section 3.8). Groups are drawn among groups that have the
    same classes, so that every draw has as many groups of a class as the plates have. A cell whose group is missing is
    a group of its own.
    """
    classes, true, prediction = _labelled(truth, predicted)
    cells_of, correct_of = _counts(true, prediction == true, _group_numbers(groups, truth), len(classes))
    single = _in_one_group(cells_of)
    cells_drawn, correct_drawn = _draws(cells_of, correct_of, draws, seed)
    occurs = cells_of.sum(axis=0) > 0
    recalls = correct_drawn[:, occurs] / np.maximum(cells_drawn[:, occurs], 1)
    edges = [(1 - level) / 2, (1 + level) / 2]

    def between(values: Float[np.ndarray, "draws"], known: bool) -> Interval | None:
        low, high = np.quantile(values, edges)
        return Interval(float(low), float(high)) if known else None

    known = not single[occurs].any()
    names = [name for name, some in zip(classes, occurs, strict=True) if some]
    return Intervals(
        plain=between(correct_drawn.sum(axis=1) / cells_drawn.sum(axis=1), known),
        balanced=between(recalls.mean(axis=1), known),
        per_class={name: between(recalls[:, place], not single[occurs][place]) for place, name in enumerate(names)},
    )


def difference_interval(
    truth: Labels,
    predicted: Labels,
    other: Labels,
    groups: Labels,
    *,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Return the percentile interval of the balanced accuracy of `predicted` less that of the `other` predictions.

    The two are paired: every draw of whole groups counts the same cells for both. Where every group has one class, as
    wells have, a group is replaced by one of its class, and None is returned where a class has one group only. Groups
    of several classes, such as plates, are drawn among all groups, and a class that a draw lacks does not count in it;
    None where there is one group.
    """
    truth = list(truth)
    group = _group_numbers(groups, truth)
    (cells_of, correct_of), (_, other_of) = (_true_counts(truth, each, group) for each in (predicted, other))
    stratum = class_strata(cells_of)
    if stratum is None:
        return None
    counts = drawn_sums(np.hstack([cells_of, correct_of, other_of]), stratum, draws, seed)
    cells, correct, other_correct = np.split(counts, 3, axis=1)
    difference = ((correct - other_correct) / np.maximum(cells, 1)).sum(axis=1) / (cells > 0).sum(axis=1)
    low, high = np.quantile(difference, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _labelled(truth: Labels, predicted: Labels) -> tuple[list[str], Int[np.ndarray, "m"], Int[np.ndarray, "m"]]:
    """Return the classes, and the numbers of true and predicted class of every cell that has a true label."""
    truth, predicted = list(truth), list(predicted)
    assert len(truth) == len(predicted), f"{len(truth)} labels, but {len(predicted)} predictions"
    classes, numbers = codes([*truth, *predicted])
    true, prediction = numbers[: len(truth)], numbers[len(truth) :]
    if not (true >= 0).any():
        raise UsageError("no test cell has a label", hint="name the label column in evaluate.label")
    return classes, true[true >= 0], prediction[true >= 0]


def _group_numbers(groups: Labels, truth: Labels) -> Int[np.ndarray, "m"]:
    """Return the number of the group of each labelled cell."""
    _, numbers = codes(groups)
    alone = numbers < 0
    numbers[alone] = numbers.max(initial=-1) + 1 + np.arange(alone.sum())
    _, labelled = codes(truth)
    return np.asarray(np.unique(numbers[labelled >= 0], return_inverse=True)[1])


def _counts(
    true: Int[np.ndarray, "m"], correct: Bool[np.ndarray, "m"], group: Int[np.ndarray, "m"], classes: int
) -> tuple[Int[np.ndarray, "g c"], Int[np.ndarray, "g c"]]:
    """Return the number of cells of each group and class, and how many of them are predicted correctly."""
    cells = counts_of_groups(group, true, classes)
    of_both = counts_of_groups(group, true + classes * correct, 2 * classes)
    return cells, of_both[:, classes:]


def _true_counts(
    truth: Labels, predicted: Labels, group: Int[np.ndarray, "m"]
) -> tuple[Int[np.ndarray, "g c"], Int[np.ndarray, "g c"]]:
    """Return the same as `_counts`, of the classes that the cells have: those that are only predicted are left out."""
    classes, true, prediction = _labelled(truth, predicted)
    cells, hits = _counts(true, prediction == true, group, len(classes))
    occurs = cells.any(axis=0)
    return cells[:, occurs], hits[:, occurs]


def _in_one_group(cells_of: Int[np.ndarray, "g c"]) -> Bool[np.ndarray, "c"]:
    only: np.ndarray = (cells_of > 0).sum(axis=0) == 1
    return only


def _draws(
    cells_of: Int[np.ndarray, "g c"], correct_of: Int[np.ndarray, "g c"], draws: int, seed: int
) -> tuple[Int[np.ndarray, "draws c"], Int[np.ndarray, "draws c"]]:
    """Return all and correctly predicted cells of every draw; groups with equal counts share one multinomial draw."""
    of_classes = np.unique(cells_of > 0, axis=0, return_inverse=True)[1].ravel()
    cells, correct = np.split(drawn_sums(np.hstack([cells_of, correct_of]), of_classes, draws, seed), 2, axis=1)
    return cells, correct
