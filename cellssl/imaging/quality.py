"""quality: a field and its label image in -> quality measures of every nucleus and of the field out.

Nothing is rejected here: `selection.rejection_reasons` compares the measures with the limits of the recipe, and every
measure goes into the tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.labels import label_areas

if TYPE_CHECKING:
    from jaxtyping import Bool, Float32, Float64, Int, Int64, Real

CEILINGS = (255, 1023, 4095, 16_383, 65_535)
"""The highest grey values of cameras with 8, 10, 12, 14 and 16 bits."""


@dataclass(frozen=True)
class NucleusQuality:
    """Quality measures, one value per nucleus in the order of the labels."""

    solidity: Float64[np.ndarray, "n"]
    """Area over the area of the convex hull: 1 for a disc, lower for a lobed, notched or merged nucleus."""
    focus: Float64[np.ndarray, "n"]
    """Steepness of the rim: share of its brightness that a nucleus gains per pixel; 0.2 in focus, less in blur."""
    brightness: Float64[np.ndarray, "n"]
    """Mean of the nucleus channel above the background of the field, in grey values."""
    saturated: Float64[np.ndarray, "n"]
    """Share of its pixels at the camera's highest grey value, in the channel with the largest share."""
    edge_px: Float64[np.ndarray, "n"]
    """Distance from its centre to the nearest edge of the field."""
    nearest_px: Float64[np.ndarray, "n"]
    """Distance from its centre to the centre of the nearest other nucleus; nan where there is no other."""


@dataclass(frozen=True)
class FieldQuality:
    """Quality measures of a field as a whole."""

    focus: float
    """Median focus of its nuclei; nan without nuclei."""
    saturated: float
    """Share of pixels at the camera's highest grey value, in the channel with the largest share."""
    covered: float
    """Share of the field that nuclei cover."""
    bright_outside: float
    """Share of the field that is brighter than the median nucleus and is no nucleus: fibres, dust, smears."""
    background: float
    """Median grey value of the nucleus channel outside nuclei."""


@dataclass(frozen=True)
class NucleusPixels:
    """The pixels of all nuclei, which are few compared with those of the field."""

    where: Int64[np.ndarray, "pixel"]
    """Flat index of the pixel in the field."""
    nucleus: Int64[np.ndarray, "pixel"]
    """The nucleus that holds the pixel, from 0."""
    n: int
    """Number of nuclei."""

    @classmethod
    def of(cls, labels: Int[np.ndarray, "y x"]) -> NucleusPixels:
        """Collect the pixels whose label is not 0."""
        where = np.flatnonzero(labels)
        return cls(where, labels.ravel()[where].astype(np.int64) - 1, int(labels.max(initial=0)))

    def mean(self, values: Real[np.ndarray, "y x"]) -> Float64[np.ndarray, "n"]:
        """Return the mean over every nucleus; 0 for a number that does not occur."""
        return self.mean_of(values.ravel()[self.where])

    def mean_of(self, values: Real[np.ndarray, "pixel"]) -> Float64[np.ndarray, "n"]:
        """Return the same where `values` holds the pixels of nuclei only."""
        total = np.bincount(self.nucleus, weights=values, minlength=self.n)
        return np.asarray(total / np.maximum(np.bincount(self.nucleus, minlength=self.n), 1))


def measure_quality(
    pixels: Real[np.ndarray, "c y x"], nucleus: int, labels: Int[np.ndarray, "y x"], centres: Float64[np.ndarray, "n 2"]
) -> tuple[NucleusQuality, FieldQuality]:
    """Measure the nuclei 1..n of a field, and the field; channel number `nucleus` shows the nuclei."""
    image, inside = pixels[nucleus].astype(np.float32), NucleusPixels.of(labels)
    outside = labels == 0
    background = median_of(pixels[nucleus][outside]) if outside.any() else float(image.min())
    at_ceiling = [is_saturated(channel) for channel in pixels]
    brightness = inside.mean(image) - background
    nuclei = NucleusQuality(
        solidity(labels),
        rim_steepness(inside, image, brightness),
        brightness,
        np.max([inside.mean(hit) if hit.any() else np.zeros(inside.n) for hit in at_ceiling], axis=0),
        edge_distances(centres, labels.shape),
        nearest_distances(centres),
    )
    median_brightness = float(np.median(brightness)) if len(brightness) else np.inf
    field = FieldQuality(
        float(np.median(nuclei.focus)) if len(brightness) else np.nan,
        max(float(hit.mean()) for hit in at_ceiling),
        float(1 - outside.mean()),
        float((outside & (image > background + median_brightness)).mean()),
        background,
    )
    return nuclei, field


def median_of(values: Real[np.ndarray, "i"]) -> float:
    """Return the median; of uint8 and uint16 by counting, which is several times as fast as sorting."""
    if values.dtype not in (np.uint8, np.uint16):
        return float(np.median(values))
    reached = np.cumsum(np.bincount(values))
    middle = np.searchsorted(reached, [(len(values) + 1) // 2, len(values) // 2 + 1])
    return float(middle.mean())


def is_saturated(channel: Real[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """Return the pixels at the highest grey value of a camera; none where the brightest pixel is not at one."""
    brightest = int(channel.max())
    return np.asarray(channel == brightest) if brightest in CEILINGS else np.zeros(channel.shape, bool)


def rim_steepness(
    inside: NucleusPixels, image: Float32[np.ndarray, "y x"], brightness: Float64[np.ndarray, "n"]
) -> Float64[np.ndarray, "n"]:
    """Return gradient over brightness, weighted by the squared gradient, so that the rim decides and not the area."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(image, 1.0)
    steep = np.zeros_like(smooth)  # (twice the slope) squared
    steep[1:-1] += np.square(smooth[2:] - smooth[:-2])
    steep[:, 1:-1] += np.square(smooth[:, 2:] - smooth[:, :-2])
    square = steep.ravel()[inside.where] / 4
    squares, cubes = inside.mean_of(square), inside.mean_of(square * np.sqrt(square))
    with np.errstate(invalid="ignore", divide="ignore"):
        steepness = cubes / squares / brightness
    return np.asarray(np.where((squares > 0) & (brightness > 0), steepness, 0.0))


def edge_distances(centres: Float64[np.ndarray, "n 2"], shape: tuple[int, ...]) -> Float64[np.ndarray, "n"]:
    """Return the distance of every centre to the nearest outermost row or column of pixels."""
    last = np.asarray(shape) - 1
    return np.asarray(np.minimum(centres, last - centres).min(axis=1, initial=np.inf))


def nearest_distances(centres: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n"]:
    """Return the distance of every centre to the nearest other one; nan for a single one."""
    from scipy.spatial import cKDTree

    if len(centres) < 2:
        return np.full(len(centres), np.nan)
    return np.asarray(cKDTree(centres).query(centres, k=2)[0][:, 1])


def count_neighbours(centres: Float64[np.ndarray, "n 2"], radius_px: float) -> Int64[np.ndarray, "n"]:
    """Count for each centre the other ones within `radius_px`."""
    from scipy.spatial import cKDTree

    if len(centres) == 0:
        return np.zeros(0, np.int64)
    within: np.ndarray = cKDTree(centres).query_ball_point(centres, radius_px, return_length=True)
    return within.astype(np.int64) - 1


def solidity(labels: Int[np.ndarray, "y x"]) -> Float64[np.ndarray, "n"]:
    """Return area over the area of the convex hull of the pixels, each pixel a square."""
    area = label_areas(labels)
    which, corners = outline_corners(labels)
    starts = np.searchsorted(which, np.arange(1, len(area) + 2))
    hulls = [hull_area(corners[a:b]) if b > a else np.inf for a, b in pairwise(starts)]
    return np.asarray(area / np.array(hulls, np.float64))


def outline_corners(labels: Int[np.ndarray, "y x"]) -> tuple[Int64[np.ndarray, "p"], Int64[np.ndarray, "p 2"]]:
    """Return label, row and column of the corners of each nucleus' first and last pixel in every row, by label."""
    where = np.flatnonzero(labels)
    which = labels.ravel()[where].astype(np.int64)
    order = np.argsort(which, kind="stable")  # stable: within a label from the top left, row by row
    which, (row, column) = which[order], np.divmod(where[order], labels.shape[1])
    new = np.ones(len(which) + 1, bool)
    new[1:-1] = (which[1:] != which[:-1]) | (row[1:] != row[:-1])
    first, last = new[:-1], new[1:]
    top, left, right = row[first], column[first], column[last] + 1
    corners = [np.stack([top + down, side], axis=1) for down in (0, 1) for side in (left, right)]
    return which[first].repeat(4), np.stack(corners, axis=1).reshape(-1, 2)


def hull_area(points: Int64[np.ndarray, "p 2"]) -> float:
    """Return the area of the convex hull of points that do not lie on one line."""
    from scipy.spatial import ConvexHull

    return float(ConvexHull(points).volume)  # in two dimensions, scipy's volume is the area
