"""labels: a label image of nuclei in, relabelled images, measurements and matches out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int, Int32, Int64


@dataclass(frozen=True)
class Nuclei:
    """One value a nucleus, in the order of the labels: row i describes label i + 1."""

    row_px: Float64[np.ndarray, "n"]
    column_px: Float64[np.ndarray, "n"]
    area_px: Int64[np.ndarray, "n"]
    eccentricity: Float64[np.ndarray, "n"]

    @property
    def centres(self) -> Float64[np.ndarray, "n 2"]:
        """Row and column of every nucleus, as `cutting.cut` wants them."""
        return np.stack([self.row_px, self.column_px], axis=1)


def area_px(area_um2: float, pixel_um: float) -> float:
    """An area in square micrometres as a number of pixels."""
    return area_um2 / pixel_um**2


def drop_border(labels: Int[np.ndarray, "y x"]) -> Int32[np.ndarray, "y x"]:
    """The nuclei that do not touch the edge of the field, numbered anew from 1."""
    labels = relabel(labels)
    return select_labels(labels, ~touches_edge(labels))


def touches_edge(labels: Int[np.ndarray, "y x"]) -> Bool[np.ndarray, "n"]:
    """For labels 1..n: does any pixel lie in the first or last row or column?"""
    touched = np.zeros(_highest(labels) + 1, bool)
    for side in (labels[:1], labels[-1:], labels[:, :1], labels[:, -1:]):
        touched[side.ravel()] = True
    return touched[1:]


def relabel(labels: Int[np.ndarray, "y x"]) -> Int32[np.ndarray, "y x"]:
    """The same nuclei numbered 1..n without gaps, in the same order."""
    if _highest(labels) > labels.size:  # as some tools number them: a table over all numbers would be huge
        numbers, which = np.unique(labels, return_inverse=True)
        return np.asarray(which.reshape(labels.shape) + (numbers[0] > 0), np.int32)
    return select_labels(labels, label_areas(labels) > 0)


def largest_components(labels: Int[np.ndarray, "y x"]) -> Int[np.ndarray, "y x"]:
    """Of every label only the largest connected piece."""
    from skimage.measure import label

    pieces, n = label(labels, connectivity=1, return_num=True)
    area = np.bincount(pieces.ravel(), minlength=n + 1)
    owner = np.zeros(n + 1, np.int64)
    owner[pieces.ravel()] = labels.ravel()
    largest = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    order = np.lexsort((-np.arange(n + 1), area, owner))
    largest[owner[order]] = order  # the last written, the largest, stays
    kept = np.isin(np.arange(n + 1), largest[1:])
    return np.asarray(np.where(kept[pieces], labels, 0))


def fill_holes(labels: Int[np.ndarray, "y x"]) -> Int[np.ndarray, "y x"]:
    """The same with holes that one label alone encloses given to it."""
    from scipy import ndimage

    gaps, n = ndimage.label(labels == 0)
    lowest, highest = np.full(n + 1, np.iinfo(np.int64).max), np.zeros(n + 1, np.int64)
    for here, there in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        for gap, label in ((gaps[here], labels[there]), (gaps[there], labels[here])):
            beside = (gap > 0) & (label > 0)
            np.minimum.at(lowest, gap[beside], label[beside])
            np.maximum.at(highest, gap[beside], label[beside])
    owner = np.where(lowest == highest, highest, 0)
    for side in (gaps[:1], gaps[-1:], gaps[:, :1], gaps[:, -1:]):
        owner[side] = 0
    owner[0] = 0
    return np.asarray(np.where(labels > 0, labels, owner[gaps]), labels.dtype)


def select_labels(labels: Int[np.ndarray, "y x"], left: Bool[np.ndarray, "n"]) -> Int32[np.ndarray, "y x"]:
    """The labels for which `left` is true, numbered anew from 1 in the same order."""
    new = np.zeros(len(left) + 1, np.int32)
    new[1:][left] = np.arange(1, left.sum() + 1)
    return np.asarray(new[labels])


def label_areas(labels: Int[np.ndarray, "y x"]) -> Int64[np.ndarray, "n"]:
    """Number of pixels of labels 1..n, n the highest label; 0 for a number that does not occur."""
    return np.bincount(labels.ravel(), minlength=1)[1:].astype(np.int64)


def measure(labels: Int[np.ndarray, "y x"]) -> Nuclei:
    """Centre of mass, area, and eccentricity (0 a disc, towards 1 a rod) of the nuclei 1..n, from their moments.

    Eccentricity is that of the ellipse with the same second moments, as scikit-image's regionprops defines it.
    A number that does not occur has area 0 and no centre (nan).
    """
    rows, columns = np.nonzero(labels)
    which = labels[rows, columns].astype(np.int64) - 1
    n = _highest(labels)
    area = np.bincount(which, minlength=n).astype(np.int64)

    def mean(values: Float64[np.ndarray, "pixel"]) -> Float64[np.ndarray, "n"]:
        with np.errstate(invalid="ignore"):
            return np.asarray(np.bincount(which, weights=values, minlength=n) / area)

    row, column = mean(rows.astype(np.float64)), mean(columns.astype(np.float64))
    down, right = rows - row[which], columns - column[which]
    eccentricity = _eccentricity(mean(down**2), mean(right**2), mean(down * right))
    return Nuclei(row, column, area, eccentricity)


def match_labels(labels: Int[np.ndarray, "y x"], truth: Int[np.ndarray, "y x"]) -> Int64[np.ndarray, "n"]:
    """For labels 1..n: the true label under most of its pixels; 0 where that is background.

    Of true labels with equally many pixels the lowest is taken, so background before a nucleus.
    """
    found = labels > 0
    below = _highest(truth) + 1
    pairs, pixels = np.unique(labels[found].astype(np.int64) * below + truth[found], return_counts=True)
    detected, true = np.divmod(pairs, below)
    order = np.lexsort((-true, pixels, detected))  # the last of every detected label is the winner
    winners = np.zeros(_highest(labels) + 1, np.int64)
    winners[detected[order]] = true[order]
    return winners[1:]


def _eccentricity(
    down: Float64[np.ndarray, "n"], right: Float64[np.ndarray, "n"], both: Float64[np.ndarray, "n"]
) -> Float64[np.ndarray, "n"]:
    """sqrt(1 - minor / major) of the eigenvalues of the 2 x 2 matrices of second moments; 0 for a single pixel."""
    half_sum = (down + right) / 2
    half_difference = np.sqrt(((down - right) / 2) ** 2 + both**2)
    major = half_sum + half_difference
    return np.asarray(np.sqrt(2 * half_difference / np.where(major > 0, major, 1)))


def _highest(labels: Int[np.ndarray, "y x"]) -> int:
    return int(labels.max(initial=0))
