"""detection_scores: found and true label images in -> which found nucleus is which true one, and F1 at chosen overlaps, out.

A found and a true nucleus are the same where intersection over union is above `overlap`; from 0.5 up that pairs every
nucleus with at most one other, so no assignment has to be searched for. F1 = 2 pairs / (found + true), as in the 2018
Data Science Bowl (Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float64, Int, Int64


@dataclass(frozen=True)
class Overlaps:
    """Every found and true nucleus that share a pixel, with their overlap, and how many there are of both."""

    found: Int64[np.ndarray, "pair"]
    true: Int64[np.ndarray, "pair"]
    overlap: Float64[np.ndarray, "pair"]
    n_found: int
    n_true: int

    def pairs(self, overlap: float = 0.5) -> int:
        """Nuclei that are in both."""
        if overlap < 0.5:
            raise ValueError(f"below 0.5 a nucleus may have two partners, got {overlap}")
        return int((self.overlap > overlap).sum())

    def f1(self, overlap: float = 0.5) -> float:
        """1 for a field without nuclei in which none is found."""
        either = self.n_found + self.n_true
        return 2 * self.pairs(overlap) / either if either else 1.0


@dataclass(frozen=True)
class Errors:
    """What became of the true nuclei, and which of those found are none."""

    merged: int
    """True nuclei that lie, by more than half, in a found one that covers another by more than half too."""
    split: int
    """True nuclei of which two or more found ones lie in them by more than half."""
    missed: int
    """True nuclei of which less than a tenth was found."""
    debris: int
    """Found ones of which less than a tenth is a true nucleus."""


def overlaps(found: Int[np.ndarray, "y x"], truth: Int[np.ndarray, "y x"]) -> Overlaps:
    """Intersection over union of all that share a pixel; labels may have gaps, 0 is background."""
    below = int(truth.max(initial=0)) + 1
    codes, both = np.unique(found.astype(np.int64) * below + truth, return_counts=True)
    one, other = np.divmod(codes, below)
    found_area, true_area = np.bincount(one, both), np.bincount(other, both)
    paired = (one > 0) & (other > 0)
    one, other, both = one[paired], other[paired], both[paired]
    either = found_area[one] + true_area[other] - both
    return Overlaps(one, other, both / either, int((found_area[1:] > 0).sum()), int((true_area[1:] > 0).sum()))


def errors(found: Int[np.ndarray, "y x"], truth: Int[np.ndarray, "y x"]) -> Errors:
    """Merges, splits, misses and debris, counted."""
    table = _shared(found, truth)
    found_area, true_area = _areas(found), _areas(truth)
    of_true, of_found = table / np.maximum(true_area, 1), table / np.maximum(found_area, 1)[:, None]
    swallowed = of_true > 0.5
    covered = 1 - (true_area - table.sum(axis=0)) / np.maximum(true_area, 1)
    real = table.sum(axis=1) / np.maximum(found_area, 1)
    return Errors(
        merged=int(swallowed[swallowed.sum(axis=1) > 1].any(axis=0).sum()),
        split=int(((of_found > 0.5).sum(axis=0) > 1).sum()),
        missed=int(((covered < 0.1) & (true_area > 0)).sum()),
        debris=int(((real < 0.1) & (found_area > 0)).sum()),
    )


def _shared(found: Int[np.ndarray, "y x"], truth: Int[np.ndarray, "y x"]) -> Int64[np.ndarray, "found true"]:
    shape = (int(found.max(initial=0)) + 1, int(truth.max(initial=0)) + 1)
    table = np.bincount(found.ravel().astype(np.int64) * shape[1] + truth.ravel(), minlength=shape[0] * shape[1])
    return np.asarray(table.reshape(shape)[1:, 1:])


def _areas(labels: Int[np.ndarray, "y x"]) -> Int64[np.ndarray, "n"]:
    return np.bincount(labels.ravel(), minlength=1)[1:]
