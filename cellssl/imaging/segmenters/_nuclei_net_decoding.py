"""_nuclei_net_decoding: what a network says of every pixel in -> one label a nucleus out.

Every pixel of a nucleus votes for the place where it takes the nucleus' centre to be. The votes of one nucleus fall
together, those of its neighbour elsewhere, however closely the two touch; so nuclei are the heaps of votes. Heaps that
lie closer together than two nuclei of their size could are one: pixels of a large nucleus miss by more than small ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32, Int64

ROUNDS = 5  # a pixel asks again at the place it was sent to: near a centre the way is known better than from the rim
SPREAD_PX = 1.0  # standard deviation by which heaps are smoothed
REACH_PX = 5  # side of the square in which the highest heap is the only centre
ONE_NUCLEUS = 0.3  # two discs that touch lie 0.8 times the root of their area apart, at least 0.56 if one is a dot
LEAST = 0.1  # of the typical nucleus' area; what is smaller is debris, or pixels that agree with nobody


def labels_from(nucleus: Bool[np.ndarray, "y x"], to_centre: Float32[np.ndarray, "2 y x"]) -> Int32[np.ndarray, "y x"]:
    """Pixels whose votes fall into the same heap are one nucleus; numbered from the top left of the heaps."""
    labels = np.zeros(nucleus.shape, np.int32)
    where = np.flatnonzero(nucleus)
    if len(where):
        heap = heaps_of(voted(where, to_centre), nucleus.shape)
        area = np.bincount(heap)
        large = area >= LEAST * np.median(area[heap])  # of pixels, so that many crumbs do not make nuclei look small
        labels.ravel()[where] = np.where(large, np.cumsum(large), 0)[heap]
    return labels


def voted(where: Int64[np.ndarray, "pixel"], to_centre: Float32[np.ndarray, "2 y x"]) -> Int64[np.ndarray, "pixel"]:
    """The pixel that each pixel votes for, as flat numbers."""
    height, width = to_centre.shape[1:]
    flat = to_centre.reshape(2, -1)
    here = where
    for _ in range(ROUNDS):
        row, column = np.divmod(here, width)
        row = np.clip(np.rint(row + flat[0, here]), 0, height - 1).astype(np.int64)
        column = np.clip(np.rint(column + flat[1, here]), 0, width - 1).astype(np.int64)
        here = row * width + column
    return here


def heaps_of(votes: Int64[np.ndarray, "pixel"], shape: tuple[int, ...]) -> Int64[np.ndarray, "pixel"]:
    """For every vote the heap that it belongs to, counted from 0 without gaps."""
    from scipy import ndimage
    from scipy.spatial import cKDTree

    chosen, which, counts = np.unique(votes, return_inverse=True, return_counts=True)
    heaps = np.zeros(shape, np.float32)
    heaps.ravel()[chosen] = counts
    heaps = ndimage.gaussian_filter(heaps, SPREAD_PX, mode="constant", truncate=3.0)
    tops = np.argwhere((heaps == ndimage.maximum_filter(heaps, REACH_PX)) & (heaps > 0))
    places = np.stack(np.divmod(chosen, shape[1]), axis=1)
    nearest = cKDTree(tops).query(places)[1]
    area = np.bincount(nearest, weights=counts, minlength=len(tops))
    return np.asarray(one_where_too_close(tops, area)[nearest][which])


def one_where_too_close(tops: Int64[np.ndarray, "n 2"], area: np.ndarray) -> Int64[np.ndarray, "n"]:
    """A number for every heap, the same for those that are parts of one nucleus."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    furthest = ONE_NUCLEUS * np.sqrt(2 * area.max())
    one, other = cKDTree(tops).query_pairs(furthest, output_type="ndarray").reshape(-1, 2).T
    apart = np.hypot(*(tops[one] - tops[other]).T)
    same = apart < ONE_NUCLEUS * np.sqrt(area[one] + area[other])
    pairs = coo_array((np.ones(same.sum()), (one[same], other[same])), shape=(len(tops), len(tops)))
    return np.asarray(connected_components(pairs, directed=False)[1], np.int64)
