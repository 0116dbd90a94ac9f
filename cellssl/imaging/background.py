"""background: an image of bright objects in -> the smooth surface below them out: slopes, glows, menisci.

The surface is a stiff spline, fitted to the low end of the image: what lies above the surface counts for almost nothing
(asymmetric least squares, Eilers 2005), so that it passes below nuclei, however large or dense they are. Between its
knots, a quarter of the field's longer side apart, it bends only as far as the visible background asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.blocks import block_mean

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, Real

INTERVALS = 4  # between knots, along the longer side of the field
POINTS = 128  # the surface is fitted to about so many values along the shorter side of a large field
SMALL_FIELD_PX = 16  # a side that is not divided any more
DEGREE = 3
WEIGHT_ABOVE = 1e-3  # of a mean above the surface, relative to one below it
KNOTS = 3.0  # smallest distance between knots, in widths of the objects: the surface cannot follow one of them
STIFFNESS = 1e-4  # of the bending, relative to the means; decides where no background is visible
SOFT = 1e-6  # the same where the width of the objects is known
MAX_ROUNDS = 25


def background_surface(image: Real[np.ndarray, "y x"]) -> Float32[np.ndarray, "y x"]:
    """Return a smooth surface at the level of the background of every pixel."""
    return fit_surface(image).at(image.shape)


def fit_surface(
    image: Real[np.ndarray, "y x"], object_px: float = 0.0, stiffness: float = STIFFNESS, intervals: int = INTERVALS
) -> Surface:
    """Fit the surface; `at` evaluates it in any number of pixels.

    Where the width of the objects is given, knots are so far apart that the surface cannot follow one of them, however
    soft it is.
    """
    side = max(min(image.shape) // (2 * POINTS), 2) if min(image.shape) > SMALL_FIELD_PX else 1
    means = block_mean(image, side)
    low = _lowest_of_pairs(means) if min(means.shape) > SMALL_FIELD_PX else means
    longest = max(max(image.shape) / intervals, KNOTS * object_px)
    down, across = (max(round(side / longest), 1) for side in image.shape)
    rows, columns = low.shape
    return Surface(_lower_envelope(_Spline(rows, columns, down, across, stiffness), low))


@dataclass(frozen=True)
class Surface:
    """A spline surface, known by its coefficients."""

    coefficients: Float64[np.ndarray, "k l"]

    def at(self, shape: tuple[int, ...]) -> Float32[np.ndarray, "y x"]:
        """Return its height in an image of so many rows and columns that shows the whole field."""
        down, across = (
            _b_splines(side, count - DEGREE) for side, count in zip(shape, self.coefficients.shape, strict=True)
        )
        return np.asarray((down @ self.coefficients).astype(np.float32) @ across.T.astype(np.float32))


@dataclass(frozen=True)
class _Spline:
    """A tensor product of B-splines over a grid of points, with the penalty of its bending."""

    rows: int
    columns: int
    intervals_down: int
    intervals_across: int
    stiffness: float

    @cached_property
    def down(self) -> Float64[np.ndarray, "rows k"]:
        return _b_splines(self.rows, self.intervals_down)

    @cached_property
    def across(self) -> Float64[np.ndarray, "columns l"]:
        return _b_splines(self.columns, self.intervals_across)

    @cached_property
    def _products(self) -> tuple[Float64[np.ndarray, "rows kk"], Float64[np.ndarray, "columns ll"]]:
        down, across = ((one[:, :, None] * one[:, None, :]).reshape(len(one), -1) for one in (self.down, self.across))
        return down, across

    @cached_property
    def penalty(self) -> Float64[np.ndarray, "kl kl"]:
        """Return the squared second differences of the coefficients along both axes, as a quadratic form."""
        k, m = self.down.shape[1], self.across.shape[1]
        bend_down, bend_across = (np.diff(np.eye(n), 2, axis=0) for n in (k, m))
        form = np.kron(bend_down.T @ bend_down, np.eye(m)) + np.kron(np.eye(k), bend_across.T @ bend_across)
        return np.asarray(form * (self.stiffness * self.rows * self.columns / (k * m)))

    def fit(
        self, values: Float32[np.ndarray, "rows columns"], weights: Float32[np.ndarray, "rows columns"]
    ) -> Float64[np.ndarray, "k l"]:
        """Return the coefficients with the least weighted squared error, by sums over rows and over columns in turn."""
        k, m = self.down.shape[1], self.across.shape[1]
        down, across = self._products
        form = (down.T @ weights @ across).reshape(k, k, m, m).transpose(0, 2, 1, 3).reshape(k * m, k * m)
        right = self.down.T @ (weights * values) @ self.across
        # the tiny multiple of the identity keeps the equations regular where nearly no mean counts
        whole = form + self.penalty + 1e-9 * (np.trace(form) + 1) * np.eye(k * m)
        return np.linalg.solve(whole, right.ravel()).reshape(k, m)

    def height(self, coefficients: Float64[np.ndarray, "k l"]) -> Float64[np.ndarray, "rows columns"]:
        return np.asarray(self.down @ coefficients @ self.across.T)


def _lower_envelope(spline: _Spline, low: Float32[np.ndarray, "rows columns"]) -> Float64[np.ndarray, "k l"]:
    """Return the surface below which only noise lies: weights follow from the fit before, until none changes."""
    above = np.zeros(low.shape, bool)
    for _ in range(MAX_ROUNDS):
        coefficients = spline.fit(low, np.where(above, np.float32(WEIGHT_ABOVE), np.float32(1)))
        before, above = above, low > spline.height(coefficients)
        if (above == before).all():
            break
    return coefficients


def _lowest_of_pairs(image: Float32[np.ndarray, "y x"]) -> Float32[np.ndarray, "half_y half_x"]:
    """Return the minimum over squares of two pixels: between dense nuclei only some means are dark."""
    rows, columns = (side // 2 * 2 for side in image.shape)
    pairs = np.minimum(image[:rows:2, :columns], image[1:rows:2, :columns])
    return np.minimum(pairs[:, ::2], pairs[:, 1::2])


def _b_splines(points: int, intervals: int) -> Float64[np.ndarray, "point k"]:
    """Return the cubic B-splines on equal intervals of a side at the middles of so many pixels along it."""
    position = (np.arange(points) + 0.5) / points * intervals
    away = np.abs(position[:, None] - (np.arange(intervals + DEGREE) - 1))
    return np.asarray(np.where(away < 1, (4 - 6 * away**2 + 3 * away**3) / 6, np.clip(2 - away, 0, None) ** 3 / 6))
