"""quality: a field and its label image in -> quality measures of every nucleus and of the field out.

Nothing is rejected here: `selection.rejection_reasons` compares the measures with the limits of the recipe, and every
measure goes into the tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.labels import Runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float32, Float64, Int, Int64, Real, UInt

CEILINGS = (255, 1023, 4095, 16_383, 65_535)
"""The highest grey values of cameras with 8, 10, 12, 14 and 16 bits."""


STEP_UM, STEP_OF_DIAMETER, LONGEST_STEP = 0.5, 1 / 35, 1 / 10
"""Over which length the steepness of rims is measured: micrometres, about a pixel at 20x; where the size of a pixel is
not known, a share of the median diameter, about the same at 20x. It is never longer than the last share."""
DIFFERENCE_BLUR = 1 / 3
"""Variance, in squared pixels, of the blur of a difference of pixels that are two apart."""


@dataclass(frozen=True)
class NucleusQuality:
    """Quality measures, one value per nucleus in the order of the labels."""

    solidity: Float64[np.ndarray, "n"]
    """Area over the area of the convex hull: 1 for a disc, lower for a lobed, notched or merged nucleus."""
    focus: Float64[np.ndarray, "n"]
    """Steepness of the rim: share of its brightness that a nucleus gains over `step_px`, a pixel at 20x; 0.2 in focus,
    less in blur, at any magnification."""
    brightness: Float64[np.ndarray, "n"]
    """Mean of the nucleus channel above the background of the field, in grey values."""
    saturated: Float64[np.ndarray, "n"]
    """Share of its pixels at the camera's highest grey value, in the channel with the largest share."""
    edge_px: Float64[np.ndarray, "n"]
    """Distance from its centre to the nearest edge of the field."""


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
        runs = Runs.of(labels)
        return cls(runs.where(labels.shape[1]), np.repeat(runs.nucleus, runs.pixels), runs.n)

    def mean(self, values: Real[np.ndarray, "y x"]) -> Float64[np.ndarray, "n"]:
        """Return the mean over every nucleus; 0 for a number that does not occur."""
        return self.mean_of(values.ravel()[self.where])

    def mean_of(self, values: Real[np.ndarray, "pixel"]) -> Float64[np.ndarray, "n"]:
        """Return the same where `values` holds the pixels of nuclei only."""
        total = np.bincount(self.nucleus, weights=values, minlength=self.n)
        return np.asarray(total / np.maximum(np.bincount(self.nucleus, minlength=self.n), 1))


def measure_quality(
    pixels: UInt[np.ndarray, "c y x"],
    nucleus: int,
    labels: Int[np.ndarray, "y x"],
    centres: Float64[np.ndarray, "n 2"],
    pixel_um: float | None = None,
    grey_values: Sequence[Int64[np.ndarray, "value"]] | None = None,
) -> tuple[NucleusQuality, FieldQuality]:
    """Measure the nuclei 1..n of a field, and the field; channel number `nucleus` shows the nuclei.

    `pixel_um` is the side of a pixel in micrometres, None where it is not known. `grey_values`, what
    `count_grey_values` returns of `pixels`, is counted here where it is not known.
    """
    counts = count_grey_values(pixels) if grey_values is None else grey_values
    image, inside = pixels[nucleus].astype(np.float32), NucleusPixels.of(labels)
    of_nuclei = np.bincount(pixels[nucleus].ravel()[inside.where], minlength=len(counts[nucleus]))
    outside = counts[nucleus] - of_nuclei
    background = median_of_counts(outside) if outside.any() else float(image.min())
    brightness = inside.mean(image) - background
    nuclei = NucleusQuality(
        solidity(labels),
        rim_steepness(inside, image, brightness, step_px(inside, pixel_um)),
        brightness,
        np.max([_share_saturated(inside, channel, one) for channel, one in zip(pixels, counts, strict=True)], axis=0),
        edge_distances(centres, labels.shape),
    )
    median_brightness = float(np.median(brightness)) if len(brightness) else np.inf
    brighter = outside[int(min(background + median_brightness, len(outside))) + 1 :]
    field = FieldQuality(
        float(np.median(nuclei.focus)) if len(brightness) else np.nan,
        max(float(one[-1]) if ceiling_of(one) else 0.0 for one in counts) / labels.size,
        len(inside.where) / labels.size,
        float(brighter.sum()) / labels.size,
        background,
    )
    return nuclei, field


def count_grey_values(pixels: UInt[np.ndarray, "c y x"]) -> list[Int64[np.ndarray, "value"]]:
    """Count how often each grey value from 0 to the highest that occurs is there, channel by channel."""
    return [np.bincount(channel.ravel()) for channel in pixels]


def median_of_counts(counts: Int64[np.ndarray, "value"]) -> float:
    """Return the median of whole numbers from 0 that occur so often: several times as fast as sorting them."""
    reached = np.cumsum(counts)
    middle = np.searchsorted(reached, [(reached[-1] + 1) // 2, reached[-1] // 2 + 1])
    return float(middle.mean())


def ceiling_of(counts: Int64[np.ndarray, "value"]) -> int | None:
    """Return the highest value of the camera, where the brightest pixel has one of CEILINGS; else None."""
    brightest = len(counts) - 1
    return brightest if brightest in CEILINGS else None


def _share_saturated(
    inside: NucleusPixels, channel: UInt[np.ndarray, "y x"], counts: Int64[np.ndarray, "value"]
) -> Float64[np.ndarray, "n"]:
    """Return the share of the pixels of every nucleus that have the highest value of the camera."""
    ceiling = ceiling_of(counts)
    return np.zeros(inside.n) if ceiling is None else inside.mean(channel == ceiling)


def rim_steepness(
    inside: NucleusPixels, image: Float32[np.ndarray, "y x"], brightness: Float64[np.ndarray, "n"], step: float
) -> Float64[np.ndarray, "n"]:
    """Return gradient over brightness, weighted by the squared gradient, so that the rim decides and not the area.

    The gradient is that over `step` pixels, after a blur that grows with it, so that the same nuclei have the same
    steepness at any magnification whose pixels show their rims.
    """
    from scipy import ndimage

    blur_px = np.sqrt(max(step**2 * (1 + DIFFERENCE_BLUR) - DIFFERENCE_BLUR, 0.0))
    smooth = ndimage.gaussian_filter(image, blur_px) if blur_px else image
    steep = np.zeros_like(smooth)  # (twice the slope) squared
    steep[1:-1] += np.square(smooth[2:] - smooth[:-2])
    steep[:, 1:-1] += np.square(smooth[:, 2:] - smooth[:, :-2])
    square = steep.ravel()[inside.where] / 4
    squares, cubes = inside.mean_of(square), inside.mean_of(square * np.sqrt(square))
    with np.errstate(invalid="ignore", divide="ignore"):
        steepness = step * cubes / squares / brightness
    return np.asarray(np.where((squares > 0) & (brightness > 0), steepness, 0.0))


def step_px(inside: NucleusPixels, pixel_um: float | None) -> float:
    """Return the length in pixels over which the steepness of rims is measured; 1 without nuclei."""
    area = np.bincount(inside.nucleus, minlength=inside.n)
    if not area.any():
        return 1.0
    diameter_px = float(2 * np.sqrt(np.median(area[area > 0]) / np.pi))
    step = STEP_OF_DIAMETER * diameter_px if pixel_um is None else STEP_UM / pixel_um
    return min(step, LONGEST_STEP * diameter_px)


def edge_distances(centres: Float64[np.ndarray, "n 2"], shape: tuple[int, ...]) -> Float64[np.ndarray, "n"]:
    """Return the distance of every centre to the nearest outermost row or column of pixels."""
    last = np.asarray(shape) - 1
    return np.asarray(np.minimum(centres, last - centres).min(axis=1, initial=np.inf))


def count_neighbours(centres: Float64[np.ndarray, "n 2"], radius_px: float) -> Int64[np.ndarray, "n"]:
    """Count for each centre the other ones within `radius_px`."""
    from scipy.spatial import cKDTree

    if len(centres) == 0:
        return np.zeros(0, np.int64)
    within: np.ndarray = cKDTree(centres).query_ball_point(centres, radius_px, return_length=True)
    return within.astype(np.int64) - 1


def solidity(labels: Int[np.ndarray, "y x"]) -> Float64[np.ndarray, "n"]:
    """Return area over the area of the convex hull of the pixels, each pixel a square; 0 for a missing number."""
    runs = Runs.of(labels)
    area, hull = runs.total(runs.pixels), hull_areas(runs)
    return np.asarray(np.divide(area, hull, out=np.zeros(runs.n), where=hull > 0))


def hull_areas(runs: Runs) -> Float64[np.ndarray, "n"]:
    """Return the area of the convex hull of every nucleus, each pixel a square."""
    nucleus, height = runs.nucleus.repeat(2), np.stack([runs.row, runs.row + 1], axis=1).ravel()
    order = np.lexsort((height, nucleus))
    sides = (-runs.first, runs.first + runs.pixels)
    left, right = (_outer_area(nucleus[order], height[order], side.repeat(2)[order], runs.n) for side in sides)
    return np.asarray(left + right)


def _outer_area(
    nucleus: Int64[np.ndarray, "p"], height: Int64[np.ndarray, "p"], reach: Int64[np.ndarray, "p"], n: int
) -> Float64[np.ndarray, "n"]:
    """Return the area between the line reach = 0 and the convex chain around the points of every nucleus.

    The points are ordered by nucleus and height. A point that does not stand out over the line between its neighbours
    is not on the chain; all such points are taken away at once, until none is left.
    """
    first = np.flatnonzero((np.diff(nucleus, prepend=-1) != 0) | (np.diff(height, prepend=-1) != 0))
    nucleus, height, reach = nucleus[first], height[first], np.maximum.reduceat(reach, first) if len(first) else reach
    while True:
        between = (nucleus[1:-1] == nucleus[:-2]) & (nucleus[1:-1] == nucleus[2:])
        up, out = height[1:-1] - height[:-2], reach[1:-1] - reach[:-2]
        under = between & (out * (height[2:] - height[:-2]) <= (reach[2:] - reach[:-2]) * up)
        if not under.any():
            break
        stays = np.concatenate([[True], ~under, [True]])
        nucleus, height, reach = nucleus[stays], height[stays], reach[stays]
    steps = np.where(nucleus[1:] == nucleus[:-1], np.diff(height) * (reach[1:] + reach[:-1]) / 2, 0.0)
    return np.asarray(np.bincount(nucleus[1:], weights=steps, minlength=n))
