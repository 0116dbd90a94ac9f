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
from cellssl.imaging.background import SOFT, fit_surface
from cellssl.imaging.blocks import block_mean, enlarge
from cellssl.imaging.noise import pixel_noise
from cellssl.imaging.segmenter import SegmenterSettings

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64, Real

ALGORITHM = 3  # 3: slopes and glows are subtracted, nuclei may have 300 px, the search runs on smaller images
SMALLEST_PX, LARGEST_PX = 6.0, 300.0  # diameters that the scales below can distinguish
LARGE_FIELD_PX = 400_000  # the size of nuclei in a larger field is measured in fewer pixels ...
ENOUGH_PX = 7.0  # ... where they are still so wide there
DOMINANT_SHARE = 0.5  # of the contrast of a scale, in a single blob
WIDE_SHARE = 0.15  # of the longer side: wider blobs may be waves of the background ...
WAVE_INTERVALS, WAVES_SHARE = (6, 9), 0.05  # ... and are, where a soft surface leaves less than this share of them
COARSE_PX = 10  # the search runs on a smaller image, where a nucleus is still 10 to 20 pixels wide

DIAMETER_PER_SIGMA = 2.6  # at the scale whose differences of Gaussians are strongest; measured on nuclei

# In units of the diameter; chosen on two thirds of 541 fields of the 2018 Data Science Bowl.
SMOOTHING = 0.06  # standard deviation; less than the blur of most microscopes
BODY_SMOOTHING = 0.12  # standard deviation; removes the texture within a nucleus
BACKGROUND = 5.0  # side of the window whose minimum is the background
SURROUNDINGS = 2.2  # side of the window whose mean a nucleus is compared with
SEED_DISTANCE = 0.3
BLOB = 0.28  # standard deviation of the Laplacian of Gaussian that responds to one nucleus, not to its texture

FIRST_SIGMA_PX, SCALES = 2.0, 13  # two scales per octave, up to the largest diameter
EVEN_SHARE = 0.3  # of the light of the brightest nuclei, by which the background must vary for a surface to be fitted
SURROUNDINGS_SHARE = 0.9  # a nucleus is at least this share of the mean around it: dim halos and tissue are not
NOISE_FACTOR = 9.0  # standard deviations of the smoothed noise by which the faintest nucleus exceeds the background
MOST_LIGHT = 10.0  # times the usual background, up to which a brighter one has larger noise
LARGEST_SHARE = 16.0  # area, in typical discs, from which an object is a glow or a fibre
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

    def needing_pixel_um(self) -> Mapping[str, str]:
        """Return the diameter where it is given, and the cure where the size of a pixel is not known."""
        if self.diameter_um is None:
            return {}
        return {"diameter_um": "leave out diameter_um, and it is measured in every field"}

    def segment(self, image: Real[np.ndarray, "y x"], pixel_um: float | None = None) -> Int32[np.ndarray, "y x"]:
        """Return labels 1..n, 0 for background; nuclei that touch the edge are included.

        `pixel_um` is the side of a pixel in micrometres, needed only where `diameter_um` is given.
        A field without contrast has no nuclei.
        """
        if min(image.shape) < 2 * SMALLEST_PX or image.min() == image.max():
            return np.zeros(image.shape, np.int32)
        image = image.astype(np.float32)
        diameter_px = self._diameter_px(image, pixel_um)
        shrink = max(int(diameter_px / COARSE_PX), 1)
        coarse = light_above_background(block_mean(image, shrink), diameter_px / shrink)
        basins = separate_nuclei(coarse)
        level = coarse.background + (self.outline * _brightness(basins, coarse.light))[basins]
        smooth = smooth_at_full_size(image, diameter_px) if shrink > 1 else coarse.light + coarse.background
        nuclei = _fill_gaps(smooth > enlarge(level, shrink, image.shape), basins, shrink, diameter_px)
        disc_px = np.pi * diameter_px**2 / 4
        return _whole_nuclei(nuclei, basins, shrink, (self.min_area_share * disc_px, LARGEST_SHARE * disc_px))

    def _diameter_px(self, image: Float32[np.ndarray, "y x"], pixel_um: float | None) -> float:
        if self.diameter_um is None:
            return typical_diameter_px(image)
        if pixel_um is None:
            raise UsageError(
                "watershed has a diameter in micrometres, but the size of a pixel is not known",
                hint="set fetch.dataset.pixel_um, or leave out diameter_um so that it is measured in every field",
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
    """Return the diameter of the blobs with most contrast, above the slope or glow of the background.

    Large fields are measured at half their size first, which is enough where their nuclei are large too.
    """
    if image.size >= LARGE_FIELD_PX:
        diameter = 2 * typical_diameter_px(block_mean(image, 2))
        if diameter >= 2 * ENOUGH_PX:
            return min(diameter, LARGEST_PX)
    return _diameter_of(_parabola_peak(np.log(_contrasts_above_waves(image))))


def _contrasts_above_waves(image: Float32[np.ndarray, "y x"]) -> Float64[np.ndarray, "scale"]:
    """Return the contrasts of blobs, without waves of the background.

    A stiff surface leaves large nuclei alone, but a part of a glow, too. A soft one removes nearly all of a glow, but
    most of a nucleus only. So where blobs are wide, and a soft surface removes them, they were waves.
    """
    contrasts = blob_contrasts(image - fit_surface(image).at(image.shape))
    for intervals in WAVE_INTERVALS:
        if _diameter_of(_parabola_peak(np.log(contrasts))) <= WIDE_SHARE * max(image.shape):
            break
        soft = fit_surface(image, stiffness=SOFT, intervals=intervals).at(image.shape)
        left, highest = blob_contrasts(image - soft), contrasts.argmax()
        if left[highest] > WAVES_SHARE * contrasts[highest]:
            break
        contrasts = left
    return contrasts


def _diameter_of(scale: float) -> float:
    """Return the diameter of nuclei whose contrast is highest at a scale, which is counted in half octaves."""
    return float(np.clip(DIAMETER_PER_SIGMA * FIRST_SIGMA_PX * 2 ** (scale / 2), SMALLEST_PX, LARGEST_PX))


def blob_contrasts(image: Float32[np.ndarray, "y x"]) -> Float64[np.ndarray, "scale"]:
    """Return the contrast of the blobs of every scale, two scales per octave.

    Blobs are the maxima of differences of Gaussians. The contrast of a scale is the sum of their squares times the
    scale to the power 3/2, so that the many grains within a nucleus and its rim do not outweigh it.
    """
    return _sums_of_blobs(image)[0]


def one_blob_decides(image: Float32[np.ndarray, "y x"]) -> bool:
    """Return whether a single blob, such as dust far brighter than all nuclei, has most contrast of its scale."""
    contrasts, shares = _sums_of_blobs(block_mean(image, 2) if image.size >= LARGE_FIELD_PX else image)
    return bool(shares[contrasts.argmax()] > DOMINANT_SHARE)


def _sums_of_blobs(
    image: Float32[np.ndarray, "y x"],
) -> tuple[Float64[np.ndarray, "scale"], Float64[np.ndarray, "scale"]]:
    """Return the contrast of every scale, and the share that its strongest blob has in it."""
    from scipy import ndimage

    contrasts: list[float] = []
    shares: list[float] = []
    sigma, blurred = FIRST_SIGMA_PX, ndimage.gaussian_filter(image, FIRST_SIGMA_PX, truncate=3.0)
    while min(blurred.shape) >= 8 and len(contrasts) < SCALES:
        for step in (FIRST_SIGMA_PX, FIRST_SIGMA_PX * np.sqrt(2)):
            wider = ndimage.gaussian_filter(blurred, step, truncate=3.0)
            squares = _peaks(blurred - wider).astype(np.float64) ** 2
            contrasts.append(float(squares.sum()) * sigma**1.5)
            shares.append(float(squares.max(initial=0) / max(squares.sum(), 1e-12)))
            sigma, blurred = sigma * np.sqrt(2), wider
        blurred = block_mean(blurred, 2)
    return np.array(contrasts) + 1e-12, np.array(shares)


def _peaks(blobs: Float32[np.ndarray, "y x"]) -> Float32[np.ndarray, "i"]:
    """Return the positive values that none of their eight neighbours exceeds."""
    padded = np.pad(blobs, 1, mode="edge")
    across = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
    highest = np.maximum(np.maximum(across[:-2], across[1:-1]), across[2:])
    return np.asarray(blobs[(blobs == highest) & (blobs > 0)])


def light_above_background(image: Float32[np.ndarray, "y x"], diameter: float) -> Coarse:
    """Smooth a little, subtract a smooth surface and the darkest level of the neighbourhood, and measure the noise."""
    from scipy import ndimage

    surface = uneven_background(image, diameter)
    smooth = ndimage.gaussian_filter(image - surface, SMOOTHING * diameter)
    shrink = 1 << max(int(np.log2(diameter / 4)), 0)
    window = BACKGROUND * diameter / shrink
    darkest = ndimage.gaussian_filter(block_mean(smooth, shrink), 1)
    darkest = ndimage.minimum_filter(darkest, 2 * int(window / 2) + 1)
    background = enlarge(ndimage.gaussian_filter(darkest, window / 2), shrink, image.shape)
    light = np.maximum(smooth - background, 0)
    # noise after smoothing; an image with few grey levels seems to have none, hence the lower bound
    noise = max(pixel_noise(image) / (2 * np.sqrt(np.pi) * SMOOTHING * diameter), 5e-4 * float(light.max()), 1e-6)
    return Coarse(light, background + surface, diameter, noise)


def uneven_background(image: Float32[np.ndarray, "y x"], diameter: float) -> Float32[np.ndarray, "y x"]:
    """Return the surface of the background; a level one where it is so even that the darkest level copes with it."""
    surface = fit_surface(image, diameter, SOFT).at(image.shape)
    brightest = float(np.percentile((image - surface)[::2, ::2], 99))
    return surface if np.ptp(surface) > EVEN_SHARE * brightest else np.full_like(surface, np.median(surface))


def smooth_at_full_size(image: Float32[np.ndarray, "y x"], diameter_px: float) -> Float32[np.ndarray, "y x"]:
    """Return the field at full resolution, smoothed a little, in which outlines are drawn."""
    from scipy import ndimage

    return np.asarray(ndimage.gaussian_filter(image, 0.7 * SMOOTHING * diameter_px, truncate=3.0))


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
    faintest = np.maximum(_threshold(coarse), NOISE_FACTOR * coarse.noise * _shot_noise(coarse.background))
    return np.asarray(coarse.light > np.maximum(faintest, SURROUNDINGS_SHARE * around))


def _shot_noise(background: Float32[np.ndarray, "y x"]) -> Float32[np.ndarray, "y x"]:
    """Return by which factor noise is larger than usual: it grows with the root of the light, also of a glow."""
    usual = max(float(np.median(background[::4, ::4])), 1e-6)
    return np.asarray(np.sqrt(np.clip(background / usual, 1, MOST_LIGHT)))


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
    return level


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
    return _fill_small(mask, ~mask, np.pi * diameter**2 / 8)


def _fill_gaps(
    nuclei: Bool[np.ndarray, "y x"], basins: Int32[np.ndarray, "small_y small_x"], shrink: int, diameter_px: float
) -> Bool[np.ndarray, "y x"]:
    """Fill the holes of nuclei, which are sought within their basins, a small part of the field."""
    inside = enlarge(basins > 0, shrink, nuclei.shape)
    return _fill_small(nuclei, inside & ~nuclei, np.pi * diameter_px**2 / 8)


def _fill_small(
    mask: Bool[np.ndarray, "y x"], gaps: Bool[np.ndarray, "y x"], max_area_px: float
) -> Bool[np.ndarray, "y x"]:
    """Fill the gaps that are smaller than an area, and that only the mask surrounds; none touches the edge."""
    from scipy import ndimage

    pieces, n = ndimage.label(gaps)
    where = np.flatnonzero(gaps)
    which = pieces.ravel()[where]
    hole = np.bincount(which, minlength=n + 1) < max_area_px
    neither = np.pad(~(mask | gaps), 1, constant_values=True)
    for beside in (neither[:-2, 1:-1], neither[2:, 1:-1], neither[1:-1, :-2], neither[1:-1, 2:]):
        hole[pieces[beside & gaps]] = False
    filled = mask.copy()
    filled.ravel()[where[hole[which]]] = True
    return filled


def _whole_nuclei(
    mask: Bool[np.ndarray, "y x"],
    basins: Int32[np.ndarray, "small_y small_x"],
    shrink: int,
    area_limits_px: tuple[float, float],
) -> Int32[np.ndarray, "y x"]:
    """Label the pixels of the mask by their basins: of each the largest piece, numbered from 1, within the limits."""
    from skimage.measure import label

    where = np.flatnonzero(mask)
    row, column = (
        np.minimum(at // shrink, side - 1)
        for at, side in zip(np.divmod(where, mask.shape[1]), basins.shape, strict=True)
    )
    labels = np.zeros(mask.shape, np.int32)
    labels.ravel()[where] = basins[row, column]
    pieces = label(labels, connectivity=1).ravel()[where]
    area = np.bincount(pieces, minlength=1)
    owner = np.zeros(len(area), np.int64)
    owner[pieces] = labels.ravel()[where]
    order = np.lexsort((-np.arange(len(area)), area, owner))
    largest = order[np.append(owner[order][1:] != owner[order][:-1], True)]
    kept = largest[(owner[largest] > 0) & _is_within(area[largest], area_limits_px)]
    number = np.zeros(len(area), np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    labels.ravel()[where] = number[pieces]
    return labels


def _is_within(area_px: Int64[np.ndarray, "n"], limits_px: tuple[float, float]) -> Bool[np.ndarray, "n"]:
    return np.asarray((area_px >= max(limits_px[0], 1)) & (area_px <= limits_px[1]))


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
