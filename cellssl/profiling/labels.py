"""labels: a column of labels as it comes, gaps and all -> which are known, and a whole number for each."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

Labels = Iterable[object]
"""One label a cell: a list, an array or a table's column; None, NaN and pandas' NA are missing."""


def known(labels: Labels) -> Bool[np.ndarray, "n"]:
    """True where a label is given."""
    mask: np.ndarray = ~pd.isna(_objects(labels))
    return mask


def codes(labels: Labels) -> tuple[list[str], Int[np.ndarray, "n"]]:
    """The names of the classes, sorted as text, and each label's place among them; -1 where it is missing."""
    values = _objects(labels)
    there = ~pd.isna(values)
    # hashed, not sorted: a million labels have few names
    places, names = pd.factorize(values[there].astype(str).astype(object), sort=True)
    numbers = np.full(len(values), -1, dtype=np.int64)
    numbers[there] = places
    return [str(name) for name in names], numbers


def _objects(labels: Labels) -> np.ndarray:
    values = list(labels)
    cells = np.empty(len(values), dtype=object)  # np.array(values) would turn tuples into a second axis
    cells[:] = values
    return cells
