"""cellpose: an image of stained nuclei in -> one label per nucleus out, by the installed cellpose, 3.1 or 4.

Stringer et al. 2021, doi:10.1038/s41592-020-01018-x; Pachitariu et al. 2025 for cellpose 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from cellssl.device import device_for
from cellssl.errors import UsageError
from cellssl.imaging.cellpose_network import CellposeNetwork, CellposeSettings, installed
from cellssl.imaging.segmenter import Segmenter, SegmenterSettings

if TYPE_CHECKING:
    from jaxtyping import Int32, Real

ALGORITHM = 2  # 2: the size of nuclei, where it is left out, is measured above slopes and glows


class Settings(CellposeSettings, SegmenterSettings):
    """Find nuclei with a network of cellpose; `cellssl doctor RECIPE --download` downloads its weights."""

    place: ClassVar[str] = "segment.method"
    model: str = "nuclei"
    """Name of the network: nuclei, cyto, cyto2 or cyto3 with cellpose 3; cpsam or cpsam_v2 with cellpose 4."""
    diameter_um: float | None = Field(None, gt=0)
    """Typical diameter of a nucleus in micrometres; where it is left out, it is measured in every field (cellpose 4
    needs none)."""
    cellprob_threshold: float = Field(0.0, ge=-6, le=6)
    """Smallest logit at which a pixel counts as nucleus; lower values widen nuclei and find fainter ones."""

    def needing_pixel_um(self) -> Mapping[str, str]:
        """Return the diameter where it is given, and the cure where the size of a pixel is not known."""
        if self.diameter_um is None:
            return {}
        return {"diameter_um": "leave out diameter_um, and it is measured in every field"}

    def prepare(self, downloaded: Sequence[Path], device: str) -> CellposeSegmenter:
        """Return the network's file and the device; UsageError where the GPU that the user chose is missing."""
        self.check()
        return CellposeSegmenter(self, self.network_file(downloaded), str(device_for(device)))


@dataclass(frozen=True)
class CellposeSegmenter(CellposeNetwork, Segmenter):
    """A network of cellpose that finds nuclei."""

    settings: Settings

    def segment(self, image: Real[np.ndarray, "y x"], pixel_um: float | None = None) -> Int32[np.ndarray, "y x"]:
        """Return labels 1..n, 0 for background; nuclei that touch the edge are included.

        Raises UsageError where the file is no network of the installed cellpose, or the pixel size is not known.
        """
        if image.size == 0 or image.min() == image.max():
            return np.zeros(image.shape, np.int32)
        return self.find(image, [0, 0], self._diameter_px(image, pixel_um))  # one grey channel

    def _diameter_px(self, image: Real[np.ndarray, "y x"], pixel_um: float | None) -> float | None:
        if self.settings.diameter_um is not None:
            if pixel_um is None:
                raise UsageError(
                    "cellpose has a diameter in micrometres, but the size of a pixel is not known",
                    hint="set fetch.dataset.pixel_um, or leave out diameter_um so that it is measured in every field",
                )
            return self.settings.diameter_um / pixel_um
        if installed()[0] >= 4:
            return None
        from cellssl.imaging.segmenters.watershed import typical_diameter_px

        return typical_diameter_px(image.astype(np.float32))
