"""outlines: one channel of a field, its label image and a colour per nucleus in -> RGB pictures with thin outlines out.

The pictures are for people: grey values are stretched per field, and have few levels, so that a PNG of them is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.labels import border, measure, typical_diameter_px

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Bool, Float64, Int, Real, UInt8

Window = tuple[slice, slice]
"""Rows and columns of a part of a picture."""
LEVELS = 64
"""Number of grey levels from black to 255."""
WHITE = 200
"""The lightest grey: on white, light outlines would not be seen."""
GAMMA = 0.8
"""Exponent of the grey scale; below 1, so that dim nuclei are seen beside bright ones."""
SAMPLED_PX = 1_000_000
"""About so many pixels are enough for the percentiles of a field."""
THICK_FROM_PX = 24
"""Diameter in a picture from which an outline is two pixels thick."""
TOO_SMALL_PX = 20
"""Where the nuclei of a whole field are narrower than this in the picture, a part of the field is shown beside it."""
READABLE_PX = 32
"""Diameter that nuclei have in the picture of a part, where that is an enlargement."""
MOST_ENLARGED = 6
"""Pixels of a part are drawn at most so many times as large."""


@dataclass(frozen=True)
class FieldPicture:
    """A field or a part of it as it is shown."""

    pixels: UInt8[np.ndarray, "rows columns 3"]
    zoom: float
    """Side of a pixel of the field, in pixels of the picture."""
    part: Window | None = None
    """Where the next picture shows a part of this one, in pixels of this picture."""


def field_pictures(
    field: Real[np.ndarray, "y x"],
    labels: Int[np.ndarray, "y x"],
    kinds: Int[np.ndarray, "n"],
    palette: UInt8[np.ndarray, "kinds 3"],
    box: tuple[int, int],
) -> list[FieldPicture]:
    """Return the whole field, as large as fits into `box`, and where its nuclei are small in it also a part of it.

    `kinds` gives for labels 1..n the row of `palette` that colours the outline.
    """
    grey, colours = grey_picture(field, labels), palette[kinds]
    zoom = min(box[0] / field.shape[0], box[1] / field.shape[1])
    shape = _scaled_shape(field.shape, zoom)
    whole = outlined(grey, labels, colours, shape)
    enlarged = _zoom_of_part(labels, zoom)
    if enlarged is None:
        return [FieldPicture(whole, zoom)]
    window = telling_window(measure(labels).centres, kinds, field.shape, _scaled_shape(box, 1 / enlarged))
    part = grey[window]
    picture = outlined(part, labels[window], colours, _scaled_shape(part.shape, enlarged))
    starts = [round(side.start * zoom) for side in window]
    framed = [slice(start, max(start + 1, round(side.stop * zoom))) for start, side in zip(starts, window, strict=True)]
    return [FieldPicture(whole, zoom, (framed[0], framed[1])), FieldPicture(picture, enlarged)]


def _zoom_of_part(labels: Int[np.ndarray, "y x"], zoom: float) -> float | None:
    """Return how many times as large a part of a field is drawn; None where the whole field shows its nuclei well."""
    narrowest = float(min(labels.shape))  # a field of a few rows would be a line
    diameter = min(narrowest, typical_diameter_px(labels) or narrowest)
    if diameter * zoom >= TOO_SMALL_PX:
        return None
    enlarged = float(np.clip(round(READABLE_PX / diameter), 1, MOST_ENLARGED))
    return enlarged if enlarged >= 1.5 * zoom else None


def _scaled_shape(shape: Sequence[int], factor: float) -> tuple[int, int]:
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def grey_picture(field: Real[np.ndarray, "y x"], labels: Int[np.ndarray, "y x"]) -> UInt8[np.ndarray, "y x"]:
    """Stretch a field so that background is dark and a typical nucleus light, in few grey levels."""
    low, high = display_limits(field, labels)
    shares = np.clip((field.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)
    return _posterised(shares**GAMMA * WHITE)


def display_limits(field: Real[np.ndarray, "y x"], labels: Int[np.ndarray, "y x"]) -> tuple[float, float]:
    """Return the grey values that become black and white.

    Black is the 1st percentile of the field. White lies twice as far above it as three quarters of the nuclei, counted
    by number, so that a large bright speck does not darken them. Nor do specks that were taken for the only nuclei:
    white is at most four times as far above black as the 97th percentile of the field, or 56 standard deviations of
    its noise. A field without nuclei has half of that, so that missed nuclei would be seen.
    """
    step = int(np.ceil(np.sqrt(field.size / SAMPLED_PX)))
    low, bright = map(float, np.percentile(field[::step, ::step], (1, 97)))
    span = max(2 * (bright - low), 28 * _noise_sd(field[::step]))
    means = _mean_per_label(field, labels)
    of_nuclei = 2 * (float(np.percentile(means, 75)) - low) if len(means) else span
    wanted = min(of_nuclei, 2 * span) if span > 0 else of_nuclei
    return low, low + wanted if wanted > 0 else float(field.max())


def _noise_sd(field: Real[np.ndarray, "y x"]) -> float:
    """Return the standard deviation of the noise, from differences of neighbours, so that no slope counts as noise."""
    differences = np.abs(np.diff(field.astype(np.int32), axis=1))
    return float(np.median(differences) / 0.954) if differences.size else 0.0


def _mean_per_label(field: Real[np.ndarray, "y x"], labels: Int[np.ndarray, "y x"]) -> Float64[np.ndarray, "n"]:
    """Return the mean grey value of every label that occurs."""
    inside = labels > 0
    which = labels[inside].astype(np.int64)
    pixels = np.bincount(which)
    sums = np.bincount(which, weights=field[inside].astype(np.float64))
    return np.asarray(sums[pixels > 0] / pixels[pixels > 0])


def outlined(
    grey: UInt8[np.ndarray, "y x"],
    labels: Int[np.ndarray, "y x"],
    colours: UInt8[np.ndarray, "n 3"],
    shape: tuple[int, int],
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Return a picture of this shape with the outline of label i in `colours[i - 1]`, inside the nucleus.

    Nuclei that are only a few pixels wide in the picture are coloured whole.
    """
    shown, small = resized(grey, shape), _nearest(labels, shape)
    picture = np.repeat(shown[:, :, None], 3, axis=2)
    lines = _outlines(small)
    picture[lines] = colours[small[lines] - 1]
    return picture


def resized(grey: UInt8[np.ndarray, "y x"], shape: tuple[int, int]) -> UInt8[np.ndarray, "rows columns"]:
    """Shrink by the mean over areas, or enlarge smoothly."""
    from PIL import Image

    if grey.shape == shape:
        return grey
    how = Image.Resampling.BOX if shape[0] < grey.shape[0] else Image.Resampling.BICUBIC
    return _posterised(np.asarray(Image.fromarray(grey).resize(shape[::-1], how), np.float32))


def _nearest(labels: Int[np.ndarray, "y x"], shape: tuple[int, int]) -> Int[np.ndarray, "rows columns"]:
    rows, columns = ((np.arange(new) + 0.5) * old // new for new, old in zip(shape, labels.shape, strict=True))
    return np.asarray(labels[rows.astype(np.intp)[:, None], columns.astype(np.intp)])


def _posterised(grey: Real[np.ndarray, "y x"]) -> UInt8[np.ndarray, "y x"]:
    """Round grey values from 0 to 255 to LEVELS levels, the darkest 0 and the lightest 255."""
    steps = np.rint(grey * ((LEVELS - 1) / 255))
    return np.asarray(np.rint(steps * (255 / (LEVELS - 1))), np.uint8)


def _outlines(labels: Int[np.ndarray, "y x"]) -> Bool[np.ndarray, "y x"]:
    """Return the outermost pixels of every label, two deep for labels that are wider than THICK_FROM_PX."""
    line = border(labels)
    areas = np.bincount(labels.ravel())
    is_large = areas > np.pi / 4 * THICK_FROM_PX**2
    is_large[0] = False
    if is_large.any():
        line |= border(np.where(line | ~is_large[labels], 0, labels))
    return line


def telling_window(
    centres: Float64[np.ndarray, "n 2"],
    kinds: Int[np.ndarray, "n"],
    shape: Sequence[int],
    window: tuple[int, int],
) -> Window:
    """Return the window of a field that shows most: many nuclei, and nuclei of several kinds (kept, or a reason).

    The sum over kinds of the square root of their number is largest in it; of equal windows the first is taken.
    """
    window = (min(window[0], shape[0]), min(window[1], shape[1]))
    half = np.array([max(1, window[0] // 2), max(1, window[1] // 2)])
    tiles = (-(-shape[0] // half[0]), -(-shape[1] // half[1]))
    found = np.isfinite(centres).all(axis=1)
    row, column = np.minimum((centres[found].clip(0) // half).astype(np.intp), np.array(tiles) - 1).T
    number_of_kinds = int(kinds.max(initial=0)) + 1
    place = (row * tiles[1] + column) * number_of_kinds + kinds[found]
    counts = np.bincount(place, minlength=tiles[0] * tiles[1] * number_of_kinds).reshape(*tiles, number_of_kinds)
    counts = np.pad(counts, ((0, 1), (0, 1), (0, 0)))  # a window is two tiles high and wide
    in_window = counts[:-1, :-1] + counts[1:, :-1] + counts[:-1, 1:] + counts[1:, 1:]
    best = np.unravel_index(np.argmax(np.sqrt(in_window).sum(axis=2)), tiles)
    top, left = (min(int(best[axis] * half[axis]), shape[axis] - window[axis]) for axis in (0, 1))
    return slice(top, top + window[0]), slice(left, left + window[1])
