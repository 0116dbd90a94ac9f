"""watershed: nuclei and a stain of cells in, one cell per nucleus out, divided along the darkest line between them.

The "Watershed - Image" of CellProfiler's IdentifySecondaryObjects, within the same foreground as `propagate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.cell_segmenters._stain import Stain, StainSettings

if TYPE_CHECKING:
    from jaxtyping import Int32


class Settings(StainSettings):
    """Flood the stain from every nucleus; cells that touch are divided along the darkest line (tubulin, cytoplasm)."""

    def divide(self, stain: Stain) -> Int32[np.ndarray, "small_y small_x"]:
        """Return the basin of every pixel, in the landscape whose depth is the light."""
        from skimage.segmentation import watershed

        return np.asarray(watershed(-stain.light, stain.nuclei, mask=stain.allowed), np.int32)
