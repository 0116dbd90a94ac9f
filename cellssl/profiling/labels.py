"""labels: a column of labels, some of them missing -> which are known, and an integer code for each."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

Labels = Iterable[object]
"""One label per cell: a list, an array or a column of a table; None, NaN and pandas' NA are missing labels."""


def known(labels: Labels) -> Bool[np.ndarray, "n"]:
    """Return True for every label that is not missing."""
    mask: np.ndarray = ~pd.isna(_objects(labels))
    return mask


def codes(labels: Labels) -> tuple[list[str], Int[np.ndarray, "n"]]:
    """Return the class names, sorted as text, and the index of each label among them; -1 for a missing label."""
    values = _objects(labels)
    is_known = ~pd.isna(values)
    # factorize hashes instead of sorting, which is faster: a million labels have few distinct names
    indices, names = pd.factorize(values[is_known].astype(str).astype(object), sort=True)
    all_indices = np.full(len(values), -1, dtype=np.int64)
    all_indices[is_known] = indices
    return [str(name) for name in names], all_indices


def _objects(labels: Labels) -> np.ndarray:
    values = list(labels)
    cells = np.empty(len(values), dtype=object)  # np.array(values) would turn tuples into a second axis
    cells[:] = values
    return cells
