"""copies: embeddings -> which of them are exactly equal to another one, as those of one cell that is there twice."""

import hashlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int


def distinct(x: Float[np.ndarray, "n d"]) -> int:
    """Return the number of different rows."""
    return int(row_numbers(x).max(initial=-1)) + 1


def row_numbers(x: Float[np.ndarray, "n d"]) -> Int[np.ndarray, "n"]:
    """Return a number per row; equal rows have the same one, different rows have different ones."""
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(row, len(numbers)) for row in _digests(x)], dtype=np.int64)


def _digests(x: np.ndarray) -> Iterator[bytes]:
    """Yield a hash per row, because a set of a million rows would take as much memory as the embeddings."""
    for row in x:
        values = row + x.dtype.type(0)  # -0.0 + 0 is 0.0, which is an equal number
        yield hashlib.blake2b(values.tobytes(), digest_size=16).digest()
