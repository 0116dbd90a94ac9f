"""detection_scores: found and true label images in -> matched nuclei, F1 at chosen overlaps and error counts out.

A found and a true nucleus match where their intersection over union is above `overlap`. From 0.5 up every nucleus
matches at most one other, so no assignment has to be searched for. F1 = 2 matches / (found + true), as in the 2018 Data
Science Bowl (Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64, Int, Int64


@dataclass(frozen=True)
class Overlaps:
    """Pairs of a found and a true nucleus that share pixels, with their intersection over union; and both numbers."""

    found: Int64[np.ndarray, "pair"]
    true: Int64[np.ndarray, "pair"]
    overlap: Float64[np.ndarray, "pair"]
    n_found: int
    n_true: int

    def matches(self, overlap: float = 0.5) -> int:
        """Return the number of matches; ValueError below an overlap of 0.5."""
        if overlap < 0.5:
            raise ValueError(f"overlap must be 0.5 or more: below it a nucleus may match two others; got {overlap}")
        return int((self.overlap > overlap).sum())

    def f1(self, overlap: float = 0.5) -> float:
        """Return F1; 1 for a field without nuclei in which none is found."""
        total = self.n_found + self.n_true
        return 2 * self.matches(overlap) / total if total else 1.0


@dataclass(frozen=True)
class ErrorCounts:
    """Numbers of nuclei by kind of error; "lies in" means by more than half of its area."""

    merged: int
    """True nuclei that lie in a found one in which another true nucleus lies too."""
    split: int
    """True nuclei in which two or more found ones lie."""
    missed: int
    """True nuclei of which less than a tenth of the area was found."""
    debris: int
    """Found nuclei of which less than a tenth of the area is true nucleus."""


def overlaps(found: Int[np.ndarray, "y x"], truth: Int[np.ndarray, "y x"]) -> Overlaps:
    """Return the intersection over union of all pairs that share a pixel; labels may have gaps, 0 is background."""
    below = int(truth.max(initial=0)) + 1
    codes, both = np.unique(found.astype(np.int64) * below + truth, return_counts=True)
    one, other = np.divmod(codes, below)
    found_area, true_area = np.bincount(one, both), np.bincount(other, both)
    paired = (one > 0) & (other > 0)
    one, other, both = one[paired], other[paired], both[paired]
    either = found_area[one] + true_area[other] - both
    return Overlaps(one, other, both / either, int((found_area[1:] > 0).sum()), int((true_area[1:] > 0).sum()))


def count_errors(found: Int[np.ndarray, "y x"], truth: Int[np.ndarray, "y x"]) -> ErrorCounts:
    """Count merged, split and missed nuclei, and debris."""
    table = _shared_areas(found, truth)
    found_area, true_area = _areas(found), _areas(truth)
    of_true, of_found = table / np.maximum(true_area, 1), table / np.maximum(found_area, 1)[:, None]
    swallowed = of_true > 0.5
    covered = 1 - (true_area - table.sum(axis=0)) / np.maximum(true_area, 1)
    real = table.sum(axis=1) / np.maximum(found_area, 1)
    return ErrorCounts(
        merged=int(swallowed[swallowed.sum(axis=1) > 1].any(axis=0).sum()),
        split=int(((of_found > 0.5).sum(axis=0) > 1).sum()),
        missed=int(((covered < 0.1) & (true_area > 0)).sum()),
        debris=int(((real < 0.1) & (found_area > 0)).sum()),
    )


def _shared_areas(found: Int[np.ndarray, "y x"], truth: Int[np.ndarray, "y x"]) -> Int64[np.ndarray, "found true"]:
    shape = (int(found.max(initial=0)) + 1, int(truth.max(initial=0)) + 1)
    table = np.bincount(found.ravel().astype(np.int64) * shape[1] + truth.ravel(), minlength=shape[0] * shape[1])
    return np.asarray(table.reshape(shape)[1:, 1:])


def _areas(labels: Int[np.ndarray, "y x"]) -> Int64[np.ndarray, "n"]:
    return np.bincount(labels.ravel(), minlength=1)[1:]
