"""moments: vectors in; their mean, standard deviation and principal axes out, in float64, a chunk of rows at a time.

A feature that differs by rounding errors only does not vary: dividing by its spread would make noise of them.
"""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float, Int

CHUNK_ROWS = 4_096
"""Number of rows processed at a time, so that copies stay small compared with a million embeddings."""
FEATURE_NUMBERS = 500_000
"""Numbers of some features that are looked at at a time: a median makes copies."""
NORMAL_MAD = 1.4826
"""For normally distributed numbers, the median absolute deviation times this factor is the standard deviation."""

Rows = Int[np.ndarray, "m"] | None
"""The rows to take; None for all."""


def chunks(x: Float[np.ndarray, "n d"], rows: Rows = None) -> Iterator[np.ndarray]:
    """Yield the rows, some at a time."""
    for start in range(0, len(x) if rows is None else len(rows), CHUNK_ROWS):
        here = slice(start, start + CHUNK_ROWS)
        yield x[here] if rows is None else x[rows[here]]


def features(x: Float[np.ndarray, "n d"], rows: Rows = None, columns: Rows = None) -> Iterator[np.ndarray]:
    """Yield all features or those of `columns` in float64, one row per feature, some at a time, each as a copy."""
    columns = np.arange(x.shape[1]) if columns is None else columns
    at_once = max(1, FEATURE_NUMBERS // max(1, len(x) if rows is None else len(rows)))
    for start in range(0, len(columns), at_once):
        some = columns[start : start + at_once]
        part = x[:, some] if rows is None else x[rows[:, None], some]
        yield np.array(part.T, dtype=np.float64, order="C")


def mean(x: Float[np.ndarray, "n d"], rows: Rows = None) -> Float[np.ndarray, "d"]:
    """Return the mean of every feature; of equal numbers it is exactly that number."""
    first = x[0 if rows is None else rows[0]].astype(np.float64)
    total = np.zeros(x.shape[1])
    for part in chunks(x, rows):
        total += (part - first).sum(axis=0)
    found: np.ndarray = first + total / (len(x) if rows is None else len(rows))
    return found


def std(x: Float[np.ndarray, "n d"], centre: Float[np.ndarray, "d"], rows: Rows = None) -> Float[np.ndarray, "d"]:
    """Return the standard deviation around the mean `centre`; 0 where it is only a rounding error."""
    total = np.zeros(x.shape[1])
    for part in chunks(x, rows):
        total += np.square(part - centre).sum(axis=0)
    found = np.sqrt(total / (len(x) if rows is None else len(rows)))
    return np.where(found <= rounding(centre, x.dtype), 0.0, found)


def covariance(x: Float[np.ndarray, "n d"], centre: Float[np.ndarray, "d"]) -> Float[np.ndarray, "d d"]:
    """Return the covariance: an SVD of a million rows would need ten times their memory."""
    products = np.zeros((x.shape[1], x.shape[1]))
    for part in chunks(x):
        difference = part - centre
        products += difference.T @ difference
    return np.asarray(products / max(1, len(x) - 1))


def singular_values(
    x: Float[np.ndarray, "n _"], transformed: Callable[[np.ndarray], np.ndarray], rows: Rows = None
) -> tuple[Float[np.ndarray, "r"], Float[np.ndarray, "d d"], int]:
    """Return the singular values of the transformed rows, all right singular vectors, and the rank.

    From the triangular factor of a QR decomposition, which a chunk of rows at a time extends: a covariance would lose
    half of the digits, and with them the small values by which whitening divides.
    """
    factors: list[np.ndarray] = []
    for part in chunks(x, rows):
        factors = [np.asarray(np.linalg.qr(np.vstack([*factors, transformed(part)]), mode="r"))]
    (factor,) = factors
    _, values, vectors = np.linalg.svd(factor, full_matrices=True)
    count = len(x) if rows is None else len(rows)
    least = float(values.max(initial=0)) * max(count, len(vectors)) * float(np.finfo(np.float64).eps)
    rank = int((values > least).sum())  # as numpy.linalg.matrix_rank
    return values, with_signs(vectors), rank


def with_signs(axes: Float[np.ndarray, "k d"]) -> Float[np.ndarray, "k d"]:
    """Return axes whose largest number is positive, as those of scikit-learn."""
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    return np.asarray(axes * np.where(signs == 0, 1, signs)[:, None])


def axes_kept(variances: Float[np.ndarray, "k"], share: float) -> int:
    """Return how many axes contain a share of the variance; `variances` are in descending order."""
    summed = np.cumsum(variances) / variances.sum()
    return min(int(np.searchsorted(summed, share, side="right")) + 1, len(variances))


def rounding(magnitude: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return the largest difference of numbers of this magnitude that may be a rounding error."""
    return np.asarray(10 * float(np.finfo(dtype).eps) * np.abs(magnitude))


def zero_to_infinity(scale: np.ndarray) -> np.ndarray:
    """Replace 0 by infinity: then every value becomes 0, also a new one that differs from the fitted ones."""
    return np.where(scale > 0, scale, np.inf)
