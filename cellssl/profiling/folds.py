"""folds: cells with the group that each belongs to -> who teaches and who is told, and labels dealt out at random."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Shaped

from cellssl.errors import UsageError
from cellssl.profiling.labels import Labels, codes
from cellssl.randomness import generator


@dataclass(frozen=True)
class Fold:
    """Who teaches and who is told."""

    train: Bool[np.ndarray, "n"]
    test: Bool[np.ndarray, "n"]


def leave_one_out(groups: Labels, most: int) -> Int[np.ndarray, "n"]:
    """The fold of each cell: a whole group, or several whole ones where there are more than `most` groups.

    Raises UsageError where there are fewer than two groups.
    """
    names, numbers = codes(groups)
    assert (numbers >= 0).all(), "every cell has a group"
    if len(names) < 2:
        raise UsageError(f"there is only {', '.join(names) or 'nothing'}", hint="to leave one out takes two or more")
    dealt = generator("folds").permutation(len(names)) % most
    return np.asarray(np.unique(dealt[numbers], return_inverse=True)[1])


def iter_folds(fold: Int[np.ndarray, "n"]) -> Iterator[Fold]:
    """Every fold once as the cells that are told, by all others; cells of fold -1 are never told."""
    for number in range(int(fold.max()) + 1):
        yield Fold(fold != number, fold == number)


def at_most(rows: Int[np.ndarray, "n"], most: int, *names: str) -> Int[np.ndarray, "_"]:
    """The rows, or as many as `most` of them drawn at random, in their order."""
    if len(rows) <= most:
        return rows
    return np.sort(generator("cells to look at", *names).choice(rows, most, replace=False))


def shuffled(labels: Shaped[np.ndarray, "n"], *names: str | int) -> Shaped[np.ndarray, "n"]:
    """The same labels dealt out at random; every sequence of names deals anew."""
    return labels[generator("shuffled labels", *names).permutation(len(labels))]
