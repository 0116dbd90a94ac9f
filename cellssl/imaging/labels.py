"""labels: label images of nuclei in, arrays out: other label images, measurements per nucleus, matched labels.

A label image holds 0 for background and 1..n for nuclei. Row and column positions count from the middle of the first
pixel, so that a single pixel at the top left has its centre at (0.0, 0.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int, Int32, Int64, Real


@dataclass(frozen=True)
class Runs:
    """The pixels of nuclei as runs: the stretches of one nucleus in one row, from the top left, row by row.

    They are a hundred times fewer than the pixels of a field, and what is summed over pixels has a closed form in them.
    """

    nucleus: Int64[np.ndarray, "run"]
    """The nucleus, from 0."""
    row: Int64[np.ndarray, "run"]
    first: Int64[np.ndarray, "run"]
    """Its first column."""
    pixels: Int64[np.ndarray, "run"]
    """Its number of pixels."""
    n: int
    """Number of nuclei."""

    @classmethod
    def of(cls, labels: Int[np.ndarray, "y x"]) -> Runs:
        """Collect the runs of pixels whose label is not 0."""
        flat, columns = labels.ravel(), labels.shape[1]
        begins = np.ones(flat.size, bool)
        np.not_equal(flat[1:], flat[:-1], out=begins[1:])
        begins[::columns] = True
        starts = np.flatnonzero(begins)
        label = flat[starts].astype(np.int64)
        pixels = np.diff(starts, append=flat.size)[label > 0]
        row, first = np.divmod(starts[label > 0], columns)
        return cls(label[label > 0] - 1, row, first, pixels, int(label.max(initial=0)))

    def where(self, columns: int) -> Int64[np.ndarray, "pixel"]:
        """Return the flat index of every pixel in a field with so many columns."""
        before = np.cumsum(self.pixels) - self.pixels
        return np.repeat(self.row * columns + self.first - before, self.pixels) + np.arange(self.pixels.sum())

    def total(self, values: Real[np.ndarray, "run"]) -> Float64[np.ndarray, "n"]:
        """Return the sum over the runs of every nucleus."""
        return np.bincount(self.nucleus, weights=values, minlength=self.n)


@dataclass(frozen=True)
class Nuclei:
    """Position and shape, one value per nucleus in the order of the labels: row i describes label i + 1."""

    row_px: Float64[np.ndarray, "n"]
    column_px: Float64[np.ndarray, "n"]
    area_px: Int64[np.ndarray, "n"]
    eccentricity: Float64[np.ndarray, "n"]

    @property
    def centres(self) -> Float64[np.ndarray, "n 2"]:
        """Return row and column of every nucleus, as `cropping.crop` takes them."""
        return np.stack([self.row_px, self.column_px], axis=1)


def touches_edge(labels: Int[np.ndarray, "y x"]) -> Bool[np.ndarray, "n"]:
    """Return for labels 1..n whether any pixel lies in the first or last row or column."""
    touched = np.zeros(_highest(labels) + 1, bool)
    for side in (labels[:1], labels[-1:], labels[:, :1], labels[:, -1:]):
        touched[side.ravel()] = True
    return touched[1:]


def relabel(labels: Int[np.ndarray, "y x"]) -> Int32[np.ndarray, "y x"]:
    """Number the nuclei 1..n without gaps, in the same order."""
    if _highest(labels) > labels.size:  # some tools number like this; a table over all numbers would be huge
        numbers, number_of = np.unique(labels, return_inverse=True)
        return np.asarray(number_of.reshape(labels.shape) + (numbers[0] > 0), np.int32)
    return select_labels(labels, label_areas(labels) > 0)


def largest_components(labels: Int[np.ndarray, "y x"]) -> Int[np.ndarray, "y x"]:
    """Keep only the largest connected piece of every label."""
    from skimage.measure import label

    pieces, n = label(labels, connectivity=1, return_num=True)
    area = np.bincount(pieces.ravel(), minlength=n + 1)
    owner = np.zeros(n + 1, np.int64)
    owner[pieces.ravel()] = labels.ravel()
    largest = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    order = np.lexsort((-np.arange(n + 1), area, owner))
    largest[owner[order]] = order  # of every label the last one written, the largest, stays
    kept = np.isin(np.arange(n + 1), largest[1:])
    return np.asarray(np.where(kept[pieces], labels, 0))


def fill_holes(labels: Int[np.ndarray, "y x"]) -> Int[np.ndarray, "y x"]:
    """Give every hole that a single label encloses to that label."""
    from scipy import ndimage

    gaps, n = ndimage.label(labels == 0)
    open_gaps = np.zeros(n + 1, bool)
    for side in (gaps[:1], gaps[-1:], gaps[:, :1], gaps[:, -1:]):
        open_gaps[side.ravel()] = True
    if open_gaps[1:].all():
        return labels
    gaps[open_gaps[gaps]] = 0
    lowest, highest = np.full(n + 1, np.iinfo(np.int64).max), np.zeros(n + 1, np.int64)
    for here, there in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        for gap, label in ((gaps[here], labels[there]), (gaps[there], labels[here])):
            beside = (gap > 0) & (label > 0)
            np.minimum.at(lowest, gap[beside], label[beside])
            np.maximum.at(highest, gap[beside], label[beside])
    owner = np.where(lowest == highest, highest, 0)
    owner[0] = 0
    return np.asarray(np.where(labels > 0, labels, owner[gaps]), labels.dtype)


def select_labels(labels: Int[np.ndarray, "y x"], selected: Bool[np.ndarray, "n"]) -> Int32[np.ndarray, "y x"]:
    """Keep the labels for which `selected` is true, and number them from 1 in the same order."""
    new = np.zeros(len(selected) + 1, np.int32)
    new[1:][selected] = np.arange(1, selected.sum() + 1)
    return np.asarray(new[labels])


def label_areas(labels: Int[np.ndarray, "y x"]) -> Int64[np.ndarray, "n"]:
    """Return the number of pixels of labels 1..n, n the highest label; 0 for a number that does not occur."""
    return np.bincount(labels.ravel(), minlength=1)[1:].astype(np.int64)


def typical_diameter_px(labels: Int[np.ndarray, "y x"]) -> float:
    """Return the diameter of the disc with the median area of the nuclei that occur; 0 without nuclei."""
    area = label_areas(labels)
    area = area[area > 0]
    return float(2 * np.sqrt(np.median(area) / np.pi)) if len(area) else 0.0


def border(labels: Int[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """Return the pixels of nuclei with another label, or background, above, below, left or right of them.

    The edge of the image is no border, because what lies beyond it is not known.
    """
    differs = np.zeros(labels.shape, bool)
    down, across = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    differs[1:] |= down
    differs[:-1] |= down
    differs[:, 1:] |= across
    differs[:, :-1] |= across
    return differs & (labels > 0)


def measure(labels: Int[np.ndarray, "y x"]) -> Nuclei:
    """Measure centre of mass, area and eccentricity (0 a disc, towards 1 a rod) of the nuclei 1..n from their moments.

    Eccentricity is that of the ellipse with the same second moments, as in scikit-image's regionprops.
    A number that does not occur has area 0 and a centre of nan.
    """
    runs = Runs.of(labels)
    area = runs.total(runs.pixels)
    middle = runs.first + (runs.pixels - 1) / 2

    def mean(values: Float64[np.ndarray, "run"]) -> Float64[np.ndarray, "n"]:
        with np.errstate(invalid="ignore"):
            return np.asarray(runs.total(runs.pixels * values) / area)

    row, column = mean(runs.row.astype(np.float64)), mean(middle)
    down, right = runs.row - row[runs.nucleus], middle - column[runs.nucleus]
    within = (runs.pixels**2 - 1) / 12  # the variance of the columns of a run
    eccentricity = _eccentricity(mean(down**2), mean(right**2 + within), mean(down * right))
    return Nuclei(row, column, area.astype(np.int64), eccentricity)


def match_labels(labels: Int[np.ndarray, "y x"], truth: Int[np.ndarray, "y x"]) -> Int64[np.ndarray, "n"]:
    """Return for labels 1..n the true label under most of its pixels; 0 where that is background.

    Where true labels have equally many pixels the lowest is taken, so background before a nucleus.
    """
    found = labels > 0
    below = _highest(truth) + 1
    pairs, pixels = np.unique(labels[found].astype(np.int64) * below + truth[found], return_counts=True)
    detected, true = np.divmod(pairs, below)
    order = np.lexsort((-true, pixels, detected))  # the last entry of every detected label is the winner
    winners = np.zeros(_highest(labels) + 1, np.int64)
    winners[detected[order]] = true[order]
    return winners[1:]


def _eccentricity(
    down: Float64[np.ndarray, "n"], right: Float64[np.ndarray, "n"], both: Float64[np.ndarray, "n"]
) -> Float64[np.ndarray, "n"]:
    """Return sqrt(1 - minor / major) of the eigenvalues of the second moments (2 x 2); 0 for a single pixel."""
    half_sum = (down + right) / 2
    half_difference = np.sqrt(((down - right) / 2) ** 2 + both**2)
    major = half_sum + half_difference
    return np.asarray(np.sqrt(2 * half_difference / np.where(major > 0, major, 1)))


def _highest(labels: Int[np.ndarray, "y x"]) -> int:
    return int(labels.max(initial=0))
