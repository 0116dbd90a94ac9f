"""_stain: a channel that shows cells and their nuclei in, where cells can lie and how they are divided out.

What `propagate` and `watershed` share: they find the same foreground, and differ in how they divide it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from cellssl.errors import UsageError
from cellssl.imaging.blocks import block_mean_of_all
from cellssl.imaging.cell_background import cell_background
from cellssl.imaging.cell_segmenter import CellSegmenterSettings, whole_cells
from cellssl.imaging.labels import typical_diameter_px
from cellssl.imaging.noise import pixel_noise

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Float64, Int, Int32, Real

SMOOTHING = 0.04  # standard deviation in diameters of a nucleus
COARSE_PX = 16  # cells are divided on a smaller image, where a nucleus is still 16 to 32 pixels wide
RING = 0.2  # width of the ring around a nucleus in which its cell is seen, in diameters of a nucleus
VISIBLE = 4.0  # standard deviations of the smoothed noise by which the fainter pixels of a cell exceed the background


@dataclass(frozen=True)
class Stain:
    """The stain of a field, at reduced size and at full size."""

    shrink: int
    """Side of the squares of pixels that are one pixel of the reduced size."""
    light: Float32[np.ndarray, "small_y small_x"]
    """Light above background, in units of the light beside the typical nucleus, at reduced size."""
    nuclei: Int32[np.ndarray, "small_y small_x"]
    """Label image of the nuclei at reduced size."""
    allowed: Bool[np.ndarray, "small_y small_x"]
    """Where cells can lie, nuclei included, at reduced size."""
    light_at_full_size: Float32[np.ndarray, "y x"]
    """Light above background in grey values."""
    levels: Float32[np.ndarray, "n+1"]
    """Light at the outline of every cell, by the number of its nucleus; infinity for 0."""

    def at_full_size(self, cells: Int32[np.ndarray, "small_y small_x"]) -> Int32[np.ndarray, "y x"]:
        """Return cells that were divided at reduced size, with their outlines at full size."""
        rows, columns = self.light_at_full_size.shape
        enlarged = cells.repeat(self.shrink, axis=0)[:rows].repeat(self.shrink, axis=1)[:, :columns]
        return np.asarray(np.where(self.light_at_full_size > self.levels[enlarged], enlarged, 0), np.int32)


class StainSettings(CellSegmenterSettings):
    """Where cells can lie: bright enough, and not too far from a nucleus."""

    outline: float = Field(0.18, gt=0, lt=1)
    """Level of the outline, as a share of the light beside the field's typical nucleus."""
    max_distance_diameters: float = Field(3.0, gt=0)
    """Largest distance of a cell's pixel from its nucleus, in diameters of the field's median nucleus."""
    max_distance_um: float | None = Field(None, gt=0)
    """The same in micrometres; where it is given, it is used in place of `max_distance_diameters`."""

    def silent(self) -> frozenset[str]:
        """Return the distance that is not used."""
        return frozenset() if self.max_distance_um is None else frozenset({"max_distance_diameters"})

    def needing_pixel_um(self) -> Mapping[str, str]:
        """Return the distance where it is given in micrometres, and the cure where the size of a pixel is not known."""
        if self.max_distance_um is None:
            return {}
        return {"max_distance_um": "give max_distance_diameters in place of max_distance_um"}

    def grow(
        self,
        stain: Real[np.ndarray, "y x"],
        nuclei: Int32[np.ndarray, "y x"],
        nucleus_image: Real[np.ndarray, "y x"],
        pixel_um: float | None = None,
    ) -> Int32[np.ndarray, "y x"]:
        """Return the cell of every nucleus; a nucleus is its own cell where the stain does not exceed the noise."""
        if not nuclei.any():
            return np.zeros(nuclei.shape, np.int32)
        found = stain_around(stain, nuclei, self.outline, self._reach_px(nuclei, pixel_um))
        if found is None:
            return nuclei.copy()
        return whole_cells(found.at_full_size(self.divide(found)), nuclei)

    def divide(self, stain: Stain) -> Int32[np.ndarray, "small_y small_x"]:
        """Return the cell of every pixel at reduced size where a cell can lie."""
        raise NotImplementedError

    def _reach_px(self, nuclei: Int32[np.ndarray, "y x"], pixel_um: float | None) -> float:
        if self.max_distance_um is None:
            return self.max_distance_diameters * typical_diameter_px(nuclei)
        if pixel_um is None:
            raise UsageError(
                "cells have a max_distance_um, but the size of a pixel is not known",
                hint="give fetch.dataset.pixel_um, or max_distance_diameters in place of max_distance_um",
            )
        return self.max_distance_um / pixel_um


def stain_around(
    channel: Real[np.ndarray, "y x"], nuclei: Int32[np.ndarray, "y x"], outline: float, reach_px: float
) -> Stain | None:
    """Return the stain of the cells of a field with nuclei; None where it does not exceed the noise beside nuclei.

    A pixel is bright enough where it has the share `outline` of the light beside its nucleus, or beside the typical
    nucleus where that is more: a bright round cell is not drawn too large. The light beside nuclei is known to be that
    of cells, whether they cover a tenth of the field or all of it, where a threshold from the histogram would split dim
    cells from bright ones. `reach_px` is the largest distance of a cell's pixel from its nucleus.
    """
    from scipy import ndimage

    diameter = typical_diameter_px(nuclei)
    shrink = 1 << max(int(np.log2(diameter / COARSE_PX)), 0)
    image = channel.astype(np.float32)
    sigma = SMOOTHING * diameter
    light = ndimage.gaussian_filter(image, sigma) - cell_background(image, diameter)
    small_light, small_nuclei = block_mean_of_all(light, shrink), _block_max(nuclei, shrink)
    distance, nearest = ndimage.distance_transform_edt(small_nuclei == 0, return_indices=True)
    beside = _light_beside(small_light, small_nuclei, distance, nearest, max(RING * diameter / shrink, 1.5))
    typical = float(np.nanmedian(beside)) if np.isfinite(beside).any() else 0.0
    noise = pixel_noise(image) / np.hypot(1, 2 * np.sqrt(np.pi) * sigma)
    if typical <= VISIBLE * noise or typical <= 0:
        return None
    lowest = max(outline * typical, VISIBLE * noise)
    allowed = (small_light > lowest) & (distance <= reach_px / shrink) | (small_nuclei > 0)
    levels = np.append(np.inf, np.fmax(outline * beside, lowest)).astype(np.float32)
    return Stain(shrink, small_light / np.float32(typical), small_nuclei, allowed, light, levels)


def _light_beside(
    light: Float32[np.ndarray, "y x"],
    nuclei: Int32[np.ndarray, "y x"],
    distance: Float[np.ndarray, "y x"],
    nearest: Int[np.ndarray, "2 y x"],
    ring_px: float,
) -> Float64[np.ndarray, "n"]:
    """Return the median light in the ring around each of the nuclei 1..n; nan where a ring has no pixel."""
    from scipy import ndimage

    beside = np.full(int(nuclei.max()), np.nan)
    ring = np.flatnonzero((distance > 0) & (distance <= ring_px))
    owner = nuclei[nearest[0].ravel()[ring], nearest[1].ravel()[ring]]
    if len(owner):
        present = np.unique(owner)
        beside[present - 1] = ndimage.median(light.ravel()[ring], owner, present)
    return beside


def _block_max(nuclei: Int32[np.ndarray, "y x"], side: int) -> Int32[np.ndarray, "small_y small_x"]:
    """Return the highest label in squares of `side` pixels, so that no nucleus is lost."""
    rows, columns = (-length % side for length in nuclei.shape)
    whole = np.pad(nuclei, ((0, rows), (0, columns)))
    strips = np.maximum.reduce([whole[row::side] for row in range(side)])
    return np.asarray(np.maximum.reduce([strips[:, column::side] for column in range(side)]), np.int32)
