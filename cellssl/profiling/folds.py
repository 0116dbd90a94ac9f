"""folds: groups of cells, such as plates or wells -> train/test folds; labels -> shuffled labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Shaped

from cellssl.errors import UsageError
from cellssl.profiling.labels import Labels, codes
from cellssl.randomness import generator


@dataclass(frozen=True)
class Fold:
    """The training and the test cells of one fold."""

    train: Bool[np.ndarray, "n"]
    test: Bool[np.ndarray, "n"]


def leave_one_group_out(groups: Labels, max_folds: int) -> Int[np.ndarray, "n"]:
    """Return the fold that tests each cell: one whole group, or several if there are more than `max_folds` groups.

    Raises UsageError where there are fewer than two groups.
    """
    names, numbers = codes(groups)
    assert (numbers >= 0).all(), "every cell has a group"
    if len(names) < 2:
        found = f"there is only one group, {names[0]}" if names else "there is no group"
        raise UsageError(found, hint="leave-one-out needs two or more")
    fold_of = generator("folds").permutation(len(names)) % max_folds
    return np.asarray(np.unique(fold_of[numbers], return_inverse=True)[1])


def iter_folds(fold: Int[np.ndarray, "n"]) -> Iterator[Fold]:
    """Yield every fold once as test cells, with all other cells as training cells; fold -1 is never tested."""
    for number in range(int(fold.max()) + 1):
        yield Fold(fold != number, fold == number)


def sample_rows(rows: Int[np.ndarray, "n"], max_rows: int, *names: str) -> Int[np.ndarray, "_"]:
    """Return the rows, or `max_rows` of them drawn at random if there are more, in their order."""
    if len(rows) <= max_rows:
        return rows
    return np.sort(generator("cells to look at", *names).choice(rows, max_rows, replace=False))


def shuffle_labels(labels: Shaped[np.ndarray, "n"], *names: str | int) -> Shaped[np.ndarray, "n"]:
    """Return the same labels in random order; `names` select the random numbers."""
    return labels[generator("shuffled labels", *names).permutation(len(labels))]
