"""watershed: an image of stained nuclei in -> one label per nucleus out; a classical method without weights.

The typical diameter of the nuclei is measured in the field itself (the scale at which it looks most like blobs,
Lindeberg 1998, doi:10.1023/A:1008045108935), and all other lengths are multiples of that diameter: smoothing, the
window of the background, the distance between two seeds. Touching nuclei are separated where they are narrow or dim.
The outline of each is drawn at a share of its own brightness, so that a bright mitotic cell is not drawn too large and
does not hide its dim neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from cellssl.errors import UsageError
from cellssl.imaging.labels import largest_components
from cellssl.imaging.segmenter import SegmenterSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int, Int32, Real

ALGORITHM = 2  # 2: the size of nuclei in large fields is measured at half their size
SMALLEST_PX, LARGEST_PX = 6.0, 120.0  # diameters that the scales below can distinguish
LARGE_FIELD_PX = 1_000_000
COARSE_PX = 10  # the search runs on a smaller image, where a nucleus is still 10 to 20 pixels wide

DIAMETER_PER_SIGMA = 2.6  # at the scale whose differences of Gaussians are strongest; measured on nuclei

# In units of the diameter; chosen on two thirds of 541 fields of the 2018 Data Science Bowl.
SMOOTHING = 0.06  # standard deviation; less than the blur of most microscopes
BODY_SMOOTHING = 0.12  # standard deviation; removes the texture within a nucleus
BACKGROUND = 5.0  # side of the window whose minimum is the background
SURROUNDINGS = 2.2  # side of the window whose mean a nucleus is compared with
SEED_DISTANCE = 0.3
BLOB = 0.28  # standard deviation of the Laplacian of Gaussian that responds to one nucleus, not to its texture

SURROUNDINGS_SHARE = 0.9  # a nucleus is at least this share of the mean around it: dim halos and tissue are not
NOISE_FACTOR = 9.0  # standard deviations of the smoothed noise by which the faintest nucleus exceeds the background
CLASSES_APART = 5.0  # in standard deviations of the lower class: blurred noise stays below 4, nuclei above 8
LOWER_CLASSES_APART = 40.0  # to split the lower class again: dim nuclei below bright ones reach it, halos do not
EMPTY_FACTOR = 8.0  # standard deviations above the median, where a field has hardly any nuclei
FAINT_SHARE = 0.05  # share of the 99th percentile that is added before the logarithm in which the threshold is found


class Settings(SegmenterSettings):
    """Find nuclei without weights: local threshold, seeds from shape and brightness, watershed, outline per nucleus."""

    RENAMED: ClassVar[Mapping[str, str]] = {"min_area": "min_area_share"}
    diameter_um: float | None = Field(None, gt=0)
    """Typical diameter of a nucleus in micrometres; where it is left out, it is measured in every field."""
    outline: float = Field(0.45, gt=0, lt=1)
    """Level of the outline, as a share of the nucleus' own brightness above background."""
    min_area_share: float = Field(0.13, ge=0, lt=1)
    """Smallest area of a nucleus, as a share of the disc with the typical diameter; smaller pieces are debris."""

    def segment(self, image: Real[np.ndarray, "y x"], pixel_um: float | None = None) -> Int32[np.ndarray, "y x"]:
        """Return labels 1..n, 0 for background; nuclei that touch the edge are included.

        `pixel_um` is the side of a pixel in micrometres, needed only where `diameter_um` is given.
        A field without contrast has no nuclei.
        """
        image = image.astype(np.float32)
        if min(image.shape) < 2 * SMALLEST_PX or image.min() == image.max():
            return np.zeros(image.shape, np.int32)
        diameter_px = self._diameter_px(image, pixel_um)
        shrink = 1 << max(int(np.log2(diameter_px / COARSE_PX)), 0)
        coarse = light_above_background(_block_mean(image, shrink), diameter_px / shrink)
        basins = separate_nuclei(coarse)
        level = self.outline * _brightness(basins, coarse.light)
        fine = light_at_full_size(image, coarse, shrink) if shrink > 1 else coarse.light
        basins = _enlarge(basins, shrink, image.shape)
        labels = largest_components(np.where(_fill_holes(fine > level[basins], diameter_px), basins, 0))
        return _drop_debris(labels, self.min_area_share * np.pi * diameter_px**2 / 4)

    def _diameter_px(self, image: Float32[np.ndarray, "y x"], pixel_um: float | None) -> float:
        if self.diameter_um is None:
            return typical_diameter_px(image)
        if pixel_um is None:
            raise UsageError(
                "watershed has a diameter in micrometres, but the size of a pixel is not known",
                hint="give pixel_um in [fetch], or leave out diameter_um so that it is measured in every field",
            )
        return float(np.clip(self.diameter_um / pixel_um, SMALLEST_PX, LARGEST_PX))


@dataclass(frozen=True)
class Coarse:
    """A field at reduced size: light above background, the background, the typical diameter, and the noise."""

    light: Float32[np.ndarray, "y x"]
    background: Float32[np.ndarray, "y x"]
    diameter: float
    noise: float


def typical_diameter_px(image: Float32[np.ndarray, "y x"]) -> float:
    """Return the diameter of the blobs with most contrast, interpolated between neighbouring scales by a parabola.

    Blobs are the maxima of differences of Gaussians, two scales per octave. The contrast of a scale is the sum of their
    squares times the scale to the power 3/2, so that the many grains within a nucleus and its rim do not outweigh it.
    Large fields are measured at half their size first, which is enough where their nuclei are large too.
    """
    from scipy import ndimage

    if image.size >= LARGE_FIELD_PX:
        diameter = 2 * typical_diameter_px(_block_mean(image, 2))
        if diameter >= 4 * SMALLEST_PX:
            return min(diameter, LARGEST_PX)
    strengths: list[float] = []
    sigma, blurred = 2.0, ndimage.gaussian_filter(image, 2.0, truncate=3.0)
    while min(blurred.shape) >= 8 and len(strengths) < 10:
        for step in (2.0, 2.0 * np.sqrt(2)):
            wider = ndimage.gaussian_filter(blurred, step, truncate=3.0)
            blobs = blurred - wider
            peaks = blobs[(blobs == ndimage.maximum_filter(blobs, 3)) & (blobs > 0)]
            strengths.append(float((peaks.astype(np.float64) ** 2).sum()) * sigma**1.5)
            sigma, blurred = sigma * np.sqrt(2), wider
        blurred = _block_mean(blurred, 2)
    octaves = _parabola_peak(np.log(np.array(strengths) + 1e-12)) / 2
    return float(np.clip(DIAMETER_PER_SIGMA * 2.0 * 2**octaves, SMALLEST_PX, LARGEST_PX))


def light_above_background(image: Float32[np.ndarray, "y x"], diameter: float) -> Coarse:
    """Smooth a little, subtract the darkest level of the neighbourhood, and measure the remaining noise."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(image, SMOOTHING * diameter)
    shrink = 1 << max(int(np.log2(diameter / 4)), 0)
    window = BACKGROUND * diameter / shrink
    darkest = ndimage.gaussian_filter(_block_mean(smooth, shrink), 1)
    darkest = ndimage.minimum_filter(darkest, 2 * int(window / 2) + 1)
    background = _enlarge(ndimage.gaussian_filter(darkest, window / 2), shrink, image.shape)
    light = np.maximum(smooth - background, 0)
    # noise after smoothing; an image with few grey levels seems to have none, hence the lower bound
    noise = max(_noise(image) / (2 * np.sqrt(np.pi) * SMOOTHING * diameter), 5e-4 * float(light.max()), 1e-6)
    return Coarse(light, background, diameter, noise)


def light_at_full_size(image: Float32[np.ndarray, "y x"], coarse: Coarse, shrink: int) -> Float32[np.ndarray, "y x"]:
    """Return the light above the same background at full resolution, in which outlines are drawn."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(image, 0.7 * SMOOTHING * coarse.diameter * shrink)
    return np.asarray(smooth - _enlarge(coarse.background, shrink, image.shape))


def separate_nuclei(coarse: Coarse) -> Int32[np.ndarray, "y x"]:
    """Return one watershed basin per nucleus, a little wider than the nucleus itself."""
    from scipy import ndimage
    from skimage.segmentation import watershed

    body = ndimage.gaussian_filter(coarse.light, BODY_SMOOTHING * coarse.diameter)
    bright = _fill_holes(_foreground(coarse, body), coarse.diameter)
    if not bright.any():
        return np.zeros(bright.shape, np.int32)
    height = _seed_height(coarse, body, bright)
    seed_window = 2 * max(round(SEED_DISTANCE * coarse.diameter), 1) + 1
    peaks = (height == ndimage.maximum_filter(np.where(bright, height, -np.inf), seed_window)) & bright
    seeds = ndimage.label(peaks, np.ones((3, 3)))[0]
    return np.asarray(watershed(-height, seeds, mask=bright), np.int32)


def _foreground(coarse: Coarse, body: Float32[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """Return the pixels that are brighter than the field's threshold and than their surroundings."""
    from scipy import ndimage

    around = ndimage.uniform_filter(body, 2 * int(SURROUNDINGS * coarse.diameter / 2) + 1)
    return np.asarray(coarse.light > np.maximum(_threshold(coarse), SURROUNDINGS_SHARE * around))


def _threshold(coarse: Coarse) -> float:
    """Return the lowest level that splits the light into two well separated classes; else one above any background."""
    # the logarithm keeps the level low where a few cells are very bright; the offset prevents a split of the noise
    soft = 5 * coarse.noise + FAINT_SHARE * float(np.percentile(coarse.light, 99))
    left, level = coarse.light.ravel(), np.inf
    while np.ptp(left) > coarse.noise:
        level_between = float(np.exp(_otsu(np.log(left + soft)))) - soft
        above, below = left[left > level_between], left[left <= level_between]
        if _class_distance(above, below, coarse.noise) < (CLASSES_APART if level == np.inf else LOWER_CLASSES_APART):
            break
        left, level = below, level_between
    if level == np.inf:
        level = float(np.median(left)) + EMPTY_FACTOR * _robust_sd(left)
    return max(level, NOISE_FACTOR * coarse.noise)


def _class_distance(above: Float32[np.ndarray, "i"], below: Float32[np.ndarray, "j"], noise: float) -> float:
    """Return the distance of the medians of two classes in standard deviations of the lower one."""
    return float(np.median(above) - np.median(below)) / max(_robust_sd(below), noise)


def _robust_sd(values: Float32[np.ndarray, "i"]) -> float:
    """Return the standard deviation from the median absolute deviation, which a few bright pixels do not change."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _seed_height(
    coarse: Coarse, body: Float32[np.ndarray, "y x"], bright: Bool[np.ndarray, "y x"]
) -> Float32[np.ndarray, "y x"]:
    """Return the distance to the background plus the Laplacian of Gaussian of the light: high amid a nucleus.

    Light is relative to the brightest point within half a diameter, so that dim nuclei separate as bright ones do.
    """
    from scipy import ndimage

    diameter = coarse.diameter
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(bright).astype(np.float32), 0.08 * diameter)
    brightest = ndimage.maximum_filter(body, 2 * int(diameter / 2) + 1)
    relative = np.minimum(coarse.light / (brightest + coarse.noise), 1.5)
    sigma = BLOB * diameter
    return np.asarray(2 * distance / diameter - sigma**2 * ndimage.gaussian_laplace(relative, sigma))


def _brightness(basins: Int32[np.ndarray, "y x"], light: Float32[np.ndarray, "y x"]) -> Float32[np.ndarray, "n+1"]:
    """Return the upper quartile of the light in every basin; infinity for label 0, so that it holds no nucleus."""
    where = np.flatnonzero(basins)
    which, values = basins.ravel()[where], light.ravel()[where]
    values = values[np.lexsort((values, which))]
    counts = np.bincount(which, minlength=int(basins.max()) + 1)
    quartile = np.full(len(counts), np.inf, np.float32)
    quartile[1:] = values[(np.cumsum(counts) - 1 - counts // 4)[1:]]
    return quartile


def _fill_holes(mask: Bool[np.ndarray, "y x"], diameter: float) -> Bool[np.ndarray, "y x"]:
    """Fill holes that are smaller than a nucleus (nucleoli); larger ones are the middle of a ring of cells."""
    from scipy import ndimage

    gaps, n = ndimage.label(~mask)
    area = np.bincount(gaps.ravel(), minlength=n + 1)
    hole = area < np.pi * diameter**2 / 8
    for side in (gaps[0], gaps[-1], gaps[:, 0], gaps[:, -1]):
        hole[side] = False
    hole[0] = True  # the mask itself
    return np.asarray(hole[gaps])


def _drop_debris(labels: Int[np.ndarray, "y x"], min_area_px: float) -> Int32[np.ndarray, "y x"]:
    """Drop labels that are too small, and number the others from 1."""
    kept = np.bincount(labels.ravel()) >= max(min_area_px, 1)
    kept[0] = False
    return np.asarray(np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels])


def _noise(image: Float32[np.ndarray, "y x"]) -> float:
    """Return the standard deviation of the pixel noise, from the Laplacian's median (Immerkaer 1996)."""
    rough = 4 * image[1:-1, 1:-1] - image[:-2, 1:-1] - image[2:, 1:-1] - image[1:-1, :-2] - image[1:-1, 2:]
    return float(np.median(np.abs(rough)) / (0.6745 * np.sqrt(20)))


def _otsu(values: Float[np.ndarray, "y x"]) -> float:
    """Return the threshold with the least variance within the two classes (Otsu 1979), from 256 bins."""
    counts, edges = np.histogram(values, 256)
    middles = (edges[1:] + edges[:-1]) / 2
    below, light_below = np.cumsum(counts), np.cumsum(counts * middles)
    total, light = below[-1], light_below[-1]
    between = (light * below[:-1] / total - light_below[:-1]) ** 2 / (below[:-1] * (total - below[:-1]))
    return float(middles[int(between.argmax())])


def _parabola_peak(values: Float[np.ndarray, "i"]) -> float:
    """Return the index of the highest value, refined by the parabola through its neighbours."""
    i = int(values.argmax())
    if not 0 < i < len(values) - 1:
        return float(i)
    left, middle, right = values[i - 1 : i + 2]
    return float(i + 0.5 * (left - right) / (left - 2 * middle + right))


def _block_mean(image: Float32[np.ndarray, "y x"], side: int) -> Float32[np.ndarray, "small_y small_x"]:
    """Return the mean over squares of `side` pixels; an incomplete square at the bottom or on the right is cut off."""
    if side == 1:
        return image
    rows, columns = image.shape[0] // side, image.shape[1] // side
    whole = image[: rows * side, : columns * side]
    strips = np.add.reduce([whole[row::side] for row in range(side)])  # much faster than a mean over two axes
    return np.asarray(np.add.reduce([strips[:, column::side] for column in range(side)]) / side**2, np.float32)


def _enlarge(small: Real[np.ndarray, "small_y small_x"], side: int, shape: tuple[int, ...]) -> Real[np.ndarray, "y x"]:
    """Repeat every pixel as a square of `side`; the last ones fill the shape that `_block_mean` started from."""
    if side == 1:
        return small
    rows = np.minimum(np.arange(shape[0]) // side, small.shape[0] - 1)
    columns = np.minimum(np.arange(shape[1]) // side, small.shape[1] - 1)
    return np.asarray(small[rows[:, None], columns])
