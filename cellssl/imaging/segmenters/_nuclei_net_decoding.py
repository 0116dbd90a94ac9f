"""_nuclei_net_decoding: nucleus pixels and their predicted offsets to a centre in -> one label per nucleus out.

The network predicts, for every pixel of a nucleus, the offset to the centre of that nucleus. The predicted centres of
one nucleus lie close together, and those of its neighbour lie elsewhere, however closely the two nuclei touch; so every
cluster of predicted centres is one nucleus. Clusters that lie closer together than two nuclei of their size can lie are
merged: the pixels of a large nucleus predict their centre with larger errors than those of a small one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Int32, Int64

ITERATIONS = 5  # the offset is read again at the predicted centre: near a centre it is more precise than at the rim
SMOOTHING_PX = 1.0  # standard deviation of the blur of the density of predicted centres
PEAK_WINDOW_PX = 5  # side of the square in which the highest density is the only peak
MERGE_DISTANCE = 0.3  # two discs that touch lie 0.8 times the root of their area apart, at least 0.56 if one is a dot
MIN_AREA_SHARE = 0.1  # of the typical nucleus' area; smaller ones are debris, or pixels whose offsets fit no nucleus


def decode_labels(
    is_nucleus: Bool[np.ndarray, "y x"], offsets_px: Float32[np.ndarray, "2 y x"]
) -> Int32[np.ndarray, "y x"]:
    """Label the pixels whose predicted centres are in the same cluster as one nucleus; numbered from the top left."""
    labels = np.zeros(is_nucleus.shape, np.int32)
    pixels = np.flatnonzero(is_nucleus)
    if len(pixels):
        cluster = cluster_centres(predicted_centres(pixels, offsets_px), is_nucleus.shape)
        area = np.bincount(cluster)
        # the median over pixels, not over clusters, so that many tiny clusters do not make nuclei look small
        large = area >= MIN_AREA_SHARE * np.median(area[cluster])
        labels.ravel()[pixels] = np.where(large, np.cumsum(large), 0)[cluster]
    return labels


def predicted_centres(
    pixels: Int64[np.ndarray, "pixel"], offsets_px: Float32[np.ndarray, "2 y x"]
) -> Int64[np.ndarray, "pixel"]:
    """Follow the offsets from each pixel to its predicted centre; pixels and centres are flat indices.

    Centres outside the field are moved to its edge.
    """
    height, width = offsets_px.shape[1:]
    flat = offsets_px.reshape(2, -1)
    position = pixels
    for _ in range(ITERATIONS):
        row, column = np.divmod(position, width)
        row = np.clip(np.rint(row + flat[0, position]), 0, height - 1).astype(np.int64)
        column = np.clip(np.rint(column + flat[1, position]), 0, width - 1).astype(np.int64)
        position = row * width + column
    return position


def cluster_centres(centres: Int64[np.ndarray, "pixel"], shape: tuple[int, ...]) -> Int64[np.ndarray, "pixel"]:
    """Return the cluster of every predicted centre, numbered from 0 without gaps.

    The peaks of the smoothed density of centres are the clusters; every centre belongs to the nearest peak.
    """
    from scipy import ndimage
    from scipy.spatial import cKDTree

    places, place_of, counts = np.unique(centres, return_inverse=True, return_counts=True)
    density = np.zeros(shape, np.float32)
    density.ravel()[places] = counts
    density = ndimage.gaussian_filter(density, SMOOTHING_PX, mode="constant", truncate=3.0)
    peaks = np.argwhere((density == ndimage.maximum_filter(density, PEAK_WINDOW_PX)) & (density > 0))
    nearest = cKDTree(peaks).query(np.stack(np.divmod(places, shape[1]), axis=1))[1]
    area = np.bincount(nearest, weights=counts, minlength=len(peaks))
    return np.asarray(merge_close_peaks(peaks, area)[nearest][place_of])


def merge_close_peaks(peaks: Int64[np.ndarray, "n 2"], area: np.ndarray) -> Int64[np.ndarray, "n"]:
    """Return a number for every peak, the same number for peaks of one nucleus."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    furthest = MERGE_DISTANCE * np.sqrt(2 * area.max())
    one, other = cKDTree(peaks).query_pairs(furthest, output_type="ndarray").reshape(-1, 2).T
    distance = np.hypot(*(peaks[one] - peaks[other]).T)
    same = distance < MERGE_DISTANCE * np.sqrt(area[one] + area[other])
    pairs = coo_array((np.ones(same.sum()), (one[same], other[same])), shape=(len(peaks), len(peaks)))
    return np.asarray(connected_components(pairs, directed=False)[1], np.int64)
