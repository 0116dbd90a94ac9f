"""lobes: a label image of nuclei and a channel of the cell bodies in, the lobes of one cell merged into one label, out.

A drug can give a cell several nuclei or one in lobes, and segmenters find them one by one. Two of them belong to one
cell where they lie close together, are not larger than one nucleus would be, and where the cell body goes on between
them: the channel has no dark border there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.cell_background import slope_below
from cellssl.imaging.labels import label_areas

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, Int, Int32, Int64, Real

FRONT = 0.15
"""Breadth of a front in diameters: how much wider than the narrowest place the gap may be at its ends."""
DARK_PERCENT = 10
"""Percentile of the brightness along a front that stands for its darkest place."""
BACKGROUND_PERCENT = 2
"""Percentile of the channel over the field, after slopes, that stands for no cell."""


@dataclass(frozen=True)
class LobeLimits:
    """What two nuclei must fulfil to be merged; lengths and areas are relative to a whole nucleus."""

    max_gap: float
    """Widest gap, in diameters."""
    max_area: float
    """Largest area of all merged lobes, in areas of a whole nucleus."""
    min_bridge: float
    """Lowest brightness of the channel between them, in shares of that over the nuclei; both above background."""


@dataclass(frozen=True)
class Fronts:
    """Pairs of neighbouring nuclei, one value per pair; `first` is below `second`."""

    first: Int64[np.ndarray, "pair"]
    second: Int64[np.ndarray, "pair"]
    gap_px: Float64[np.ndarray, "pair"]
    """Width of the gap at its narrowest place; 0 where they touch."""
    dark: Float64[np.ndarray, "pair"]
    """Brightness of the channel at the darkest place of the narrow part of the front, in grey values."""


def merge_lobes(
    labels: Int[np.ndarray, "y x"],
    channel: Real[np.ndarray, "y x"],
    limits: LobeLimits,
    diameter_px: float | None = None,
) -> Int32[np.ndarray, "y x"]:
    """Give the lobes of one cell one label, and number the labels 1..n without gaps, in the order of their first lobe.

    `diameter_px` is that of a whole nucleus; by default it is measured in the field. The pixels between lobes stay
    background, so that a label may have several pieces.
    """
    from scipy import ndimage

    areas = label_areas(labels)
    if len(areas) < 2:
        return np.asarray(labels, np.int32)
    whole_px = np.pi * diameter_px**2 / 4 if diameter_px else typical_area_px(areas)
    diameter_px = float(np.sqrt(4 * whole_px / np.pi))
    smooth = ndimage.gaussian_filter(channel.astype(np.float32), max(1.0, 0.03 * diameter_px))
    smooth -= slope_below(smooth)  # or the slope itself would look like a bridge
    smooth -= np.percentile(smooth, BACKGROUND_PERCENT)
    fronts = find_fronts(labels, smooth, limits.max_gap * diameter_px, FRONT * diameter_px)
    total = np.bincount(labels.ravel(), weights=smooth.ravel(), minlength=len(areas) + 1)[1:]
    pair = (fronts.first - 1, fronts.second - 1)
    over_nuclei = (total[pair[0]] + total[pair[1]]) / (areas[pair[0]] + areas[pair[1]])
    joined = fronts.dark >= limits.min_bridge * np.maximum(over_nuclei, 0)
    order = np.lexsort((fronts.second, fronts.first, fronts.gap_px))
    chosen = [(int(pair[0][one]), int(pair[1][one])) for one in order if joined[one]]
    owner = _joined_within(chosen, areas, limits.max_area * whole_px)
    ranks = np.unique(owner, return_inverse=True)[1] + 1
    return np.asarray(np.concatenate([[0], ranks]).astype(np.int32)[labels])


def typical_area_px(areas: Int64[np.ndarray, "n"]) -> float:
    """Return the area of the nucleus in which the median pixel of all nuclei lies: many small lobes hardly lower it."""
    ordered = np.sort(areas)
    return float(ordered[np.searchsorted(np.cumsum(ordered), ordered.sum() / 2)])


def find_fronts(
    labels: Int[np.ndarray, "y x"], channel: Float32[np.ndarray, "y x"], max_gap_px: float, breadth_px: float
) -> Fronts:
    """Return the pairs of nuclei with a gap of at most `max_gap_px` between them.

    A front is where the pixels nearest to one nucleus meet those nearest to the other. Of it, the part counts in which
    the gap is at most `breadth_px` wider than at its narrowest place.
    """
    from scipy import ndimage

    away, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    owner = labels[tuple(nearest)].astype(np.int64)
    halves = []
    for here, there in ((np.s_[1:, :], np.s_[:-1, :]), (np.s_[:, 1:], np.s_[:, :-1])):
        width = away[here] + away[there]
        met = (owner[here] != owner[there]) & (width <= max_gap_px + breadth_px)
        pair = np.sort([owner[here][met], owner[there][met]], axis=0)
        halves.append((*pair, width[met], np.minimum(channel[here][met], channel[there][met])))
    one, other, gap, light = (np.concatenate(parts) for parts in zip(*halves, strict=True))
    return _summed_up(one, other, gap, light, max_gap_px, breadth_px)


def _summed_up(
    one: Int64[np.ndarray, "p"],
    other: Int64[np.ndarray, "p"],
    gap: Float64[np.ndarray, "p"],
    light: Float32[np.ndarray, "p"],
    max_gap_px: float,
    breadth_px: float,
) -> Fronts:
    """Return one row per pair, from the places of all fronts."""
    order = np.lexsort((light, other, one))
    one, other, gap, light = one[order], other[order], gap[order], light[order]
    new = np.ones(len(one), bool)
    new[1:] = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
    starts = np.flatnonzero(new)
    narrowest = np.minimum.reduceat(gap, starts) if len(starts) else np.empty(0)
    pair = np.cumsum(new) - 1
    counted = gap <= narrowest[pair] + breadth_px
    places = np.bincount(pair[counted], minlength=len(starts))
    # within a pair the places are in the order of their brightness
    first_counted = np.concatenate([[0], np.cumsum(places)[:-1]]) if len(starts) else np.empty(0, np.int64)
    dark = light[counted][first_counted + places * DARK_PERCENT // 100] if len(starts) else np.empty(0)
    near = narrowest <= max_gap_px
    return Fronts(one[starts][near], other[starts][near], narrowest[near], dark[near].astype(np.float64))


def _joined_within(
    pairs: list[tuple[int, int]], areas: Int64[np.ndarray, "n"], largest_px: float
) -> Int64[np.ndarray, "n"]:
    """Join pairs in their order while the group is not larger than `largest_px`; return the lowest member of each's."""
    owner = np.arange(len(areas))
    total = areas.astype(np.float64)
    for first, second in pairs:
        low, high = sorted((int(owner[first]), int(owner[second])))
        if low != high and total[low] + total[high] <= largest_px:
            owner[owner == high] = low
            total[low] += total[high]
    return owner
