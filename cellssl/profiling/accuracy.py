"""accuracy: the label of each cell and what was told of it -> shares told rightly, and how sure these are."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from cellssl.errors import UsageError
from cellssl.profiling.cluster_scores import Interval
from cellssl.profiling.labels import Labels, codes
from cellssl.randomness import generator


@dataclass(frozen=True)
class Accuracy:
    """How often the label was told; cells without a label do not count."""

    plain: float
    """Share of cells told rightly."""
    balanced: float
    """The mean over the classes that the cells have, so that a rare one counts as much as a frequent one."""
    per_class: dict[str, float]
    """Share told rightly, of each class that the cells have."""
    classes: tuple[str, ...]
    """Names along both axes of `confusion`."""
    confusion: Int[np.ndarray, "c c"]
    """Cells by their label (rows) and the label told (columns)."""


@dataclass(frozen=True)
class Intervals:
    """Bootstrap intervals of an accuracy; None where a class lies in one group only, so that nothing can be said."""

    plain: Interval | None
    balanced: Interval | None
    per_class: dict[str, Interval | None]


def accuracy(truth: Labels, told: Labels) -> Accuracy:
    """Compare the labels of cells with what was told of them.

    Raises UsageError where no cell has a label.
    """
    classes, asked, said = _labelled(truth, told)
    count = len(classes)
    confusion = np.bincount(asked * count + said, minlength=count * count).reshape(count, count)
    there = confusion.sum(axis=1) > 0
    recall = confusion.diagonal()[there] / confusion.sum(axis=1)[there]
    names = [name for name, some in zip(classes, there, strict=True) if some]
    return Accuracy(
        plain=float((asked == said).mean()),
        balanced=float(recall.mean()),
        per_class={name: float(share) for name, share in zip(names, recall, strict=True)},
        classes=tuple(classes),
        confusion=confusion,
    )


def intervals(
    truth: Labels, told: Labels, groups: Labels, *, draws: int = 1000, level: float = 0.95, seed: int = 0
) -> Intervals:
    """Percentile intervals of a bootstrap that draws whole groups, such as wells, with what was told held fixed.

    Cells of one well are alike for reasons of the well, so drawing cells would make an interval too narrow (a cluster
    bootstrap: Davison and Hinkley 1997, section 3.8). Groups are drawn among those of the same classes, so that every
    draw has as many groups of a class as the plates have. A missing group is a group of its own.
    """
    classes, asked, said = _labelled(truth, told)
    asked_of, right_of = _counts(asked, said == asked, _numbered(groups, truth), len(classes))
    single = _in_one_group(asked_of)
    asked_draws, right_draws = _draws(asked_of, right_of, draws, seed)
    there = asked_of.sum(axis=0) > 0
    recalls = right_draws[:, there] / np.maximum(asked_draws[:, there], 1)
    edges = [(1 - level) / 2, (1 + level) / 2]

    def between(values: Float[np.ndarray, "draws"], known: bool) -> Interval | None:
        low, high = np.quantile(values, edges)
        return Interval(float(low), float(high)) if known else None

    known = not single[there].any()
    names = [name for name, some in zip(classes, there, strict=True) if some]
    return Intervals(
        plain=between(right_draws.sum(axis=1) / asked_draws.sum(axis=1), known),
        balanced=between(recalls.mean(axis=1), known),
        per_class={name: between(recalls[:, place], not single[there][place]) for place, name in enumerate(names)},
    )


def _labelled(truth: Labels, told: Labels) -> tuple[list[str], Int[np.ndarray, "m"], Int[np.ndarray, "m"]]:
    """One numbering of the classes for both, of the cells that have a label."""
    truth, told = list(truth), list(told)
    assert len(truth) == len(told), f"{len(truth)} labels, but {len(told)} were told"
    classes, numbers = codes([*truth, *told])
    asked, said = numbers[: len(truth)], numbers[len(truth) :]
    if not (asked >= 0).any():
        raise UsageError("no cell that is asked about has a label", hint="name the label column in evaluate.label")
    return classes, asked[asked >= 0], said[asked >= 0]


def _numbered(groups: Labels, truth: Labels) -> Int[np.ndarray, "m"]:
    """A number for the group of each labelled cell."""
    _, numbers = codes(groups)
    alone = numbers < 0
    numbers[alone] = numbers.max(initial=-1) + 1 + np.arange(alone.sum())
    _, labelled = codes(truth)
    return np.asarray(np.unique(numbers[labelled >= 0], return_inverse=True)[1])


def _counts(
    asked: Int[np.ndarray, "m"], right: Bool[np.ndarray, "m"], group: Int[np.ndarray, "m"], classes: int
) -> tuple[Int[np.ndarray, "g c"], Int[np.ndarray, "g c"]]:
    """Cells of each group and class, and those of them told rightly."""
    count = int(group.max()) + 1
    place = group * classes + asked
    cells = np.bincount(place, minlength=count * classes).reshape(count, classes)
    hits = np.bincount(place[right], minlength=count * classes).reshape(count, classes)
    return cells, hits


def _in_one_group(asked_of: Int[np.ndarray, "g c"]) -> Bool[np.ndarray, "c"]:
    only: np.ndarray = (asked_of > 0).sum(axis=0) == 1
    return only


def _draws(
    asked_of: Int[np.ndarray, "g c"], right_of: Int[np.ndarray, "g c"], draws: int, seed: int
) -> tuple[Int[np.ndarray, "draws c"], Int[np.ndarray, "draws c"]]:
    """Cells asked and told rightly in every draw; groups that count the same are drawn together, as one multinomial."""
    chance = generator("bootstrap of groups", seed)
    classes = asked_of.shape[1]
    asked, right = np.zeros((2, draws, classes), dtype=np.int64)
    of_classes = np.unique(asked_of > 0, axis=0, return_inverse=True)[1].ravel()
    for stratum in range(of_classes.max() + 1):
        here = of_classes == stratum
        kinds, times = np.unique(np.hstack([asked_of[here], right_of[here]]), axis=0, return_counts=True)
        drawn = chance.multinomial(times.sum(), times / times.sum(), size=draws) @ kinds
        asked += drawn[:, :classes]
        right += drawn[:, classes:]
    return asked, right
