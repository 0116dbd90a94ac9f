"""moments: vectors in; their mean, standard deviation and principal axes out, in float64 and a chunk of rows at a time.

A feature that differs by rounding errors only does not vary: dividing by its spread would make noise of them.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

CHUNK_ROWS = 16_384
"""Number of rows processed at a time, so that copies stay small compared with a million embeddings."""
FEATURE_NUMBERS = 4_000_000
"""Numbers of some features that are looked at at a time: a median makes copies."""
NORMAL_MAD = 1.4826
"""For normally distributed numbers, the median absolute deviation times this factor is the standard deviation."""

Rows = Int[np.ndarray, "m"] | None
"""The rows to take; None for all."""


def chunks(x: Float[np.ndarray, "n d"], rows: Rows = None) -> Iterator[np.ndarray]:
    """Yield the rows in float64, some at a time."""
    for start in range(0, len(x) if rows is None else len(rows), CHUNK_ROWS):
        here = slice(start, start + CHUNK_ROWS)
        yield np.asarray(x[here] if rows is None else x[rows[here]], dtype=np.float64)


def features(x: Float[np.ndarray, "n d"], rows: Rows = None) -> Iterator[np.ndarray]:
    """Yield all features of the rows in float64, one row per feature, some features at a time."""
    at_once = max(1, FEATURE_NUMBERS // max(1, len(x)))
    for start in range(0, x.shape[1], at_once):
        part = x[:, start : start + at_once]
        yield np.ascontiguousarray((part if rows is None else part[rows]).T, dtype=np.float64)


def mean(x: Float[np.ndarray, "n d"], rows: Rows = None) -> Float[np.ndarray, "d"]:
    """Return the mean of every feature; of equal numbers it is exactly that number."""
    count = len(x) if rows is None else len(rows)
    first = x[0 if rows is None else rows[0]].astype(np.float64)
    total = np.zeros(x.shape[1])
    for part in chunks(x, rows):
        total += (part - first).sum(axis=0)
    found: np.ndarray = first + total / count
    return found


def std(x: Float[np.ndarray, "n d"], centre: Float[np.ndarray, "d"], rows: Rows = None) -> Float[np.ndarray, "d"]:
    """Return the standard deviation from the mean `centre`, 0 where it is only a rounding error."""
    count = len(x) if rows is None else len(rows)
    total = np.zeros(x.shape[1])
    for part in chunks(x, rows):
        total += np.square(part - centre).sum(axis=0)
    found = np.sqrt(total / count)
    return np.where(found <= rounding(centre, x.dtype), 0.0, found)


def rounding(magnitude: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the largest difference of numbers of this magnitude that may be a rounding error."""
    return np.asarray(10 * np.finfo(dtype).eps * np.abs(magnitude))


def centred(x: Float[np.ndarray, "n d"], centre: Float[np.ndarray, "d"]) -> Float[np.ndarray, "n d"]:
    """Return the differences from `centre` in float64, exactly 0 where they are only rounding errors."""
    found = np.subtract(x, centre, dtype=np.float64)
    found[np.abs(found) <= rounding(centre, x.dtype)] = 0.0
    return found


def zero_to_infinity(scale: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Replace 0 by infinity: then every value becomes 0, also a new one that differs from the fitted ones."""
    return np.where(scale > 0, scale, np.inf)
