"""cellpose: nuclei and a stain of cells in, one cell per nucleus out, by a network of the installed cellpose, 3.1 or 4.

Stringer and Pachitariu 2025, doi:10.1038/s41592-025-02595-5, for `cyto3`. The network sees the stain and the nuclei,
and finds cells without knowing the label image of the nuclei; `cells_of_nuclei` then matches the two.
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
from cellssl.imaging.cell_segmenter import CellSegmenter, CellSegmenterSettings, whole_cells
from cellssl.imaging.cellpose_network import CellposeNetwork, CellposeSettings, installed
from cellssl.imaging.labels import match_labels, typical_diameter_px

if TYPE_CHECKING:
    from jaxtyping import Int, Int32, Real


class Settings(CellposeSettings, CellSegmenterSettings):
    """Find cells with a network of cellpose; `cellssl doctor RECIPE --download` downloads its weights."""

    place: ClassVar[str] = "segment.cells.method"
    model: str = "cyto3"
    """Name of the network: cyto, cyto2 or cyto3 with cellpose 3; cpsam or cpsam_v2 with cellpose 4."""
    diameter_um: float | None = Field(None, gt=0)
    """Typical diameter of a cell in micrometres; where it is left out, it follows from `diameter_in_nuclei` (cellpose 4
    needs none)."""
    diameter_in_nuclei: float = Field(2.0, gt=0)
    """Typical diameter of a cell in diameters of the field's median nucleus, where `diameter_um` is left out."""
    cellprob_threshold: float = Field(0.0, ge=-6, le=6)
    """Smallest logit at which a pixel counts as cell; lower values widen cells and find fainter ones."""

    def silent(self) -> frozenset[str]:
        """Return the diameter that is not used."""
        return frozenset() if self.diameter_um is None else frozenset({"diameter_in_nuclei"})

    def needing_pixel_um(self) -> Mapping[str, str]:
        """Return the diameter where it is given, and the cure where the size of a pixel is not known."""
        if self.diameter_um is None:
            return {}
        return {"diameter_um": "give diameter_in_nuclei in place of diameter_um"}

    def prepare(self, downloaded: Sequence[Path], device: str) -> CellposeCells:
        """Return the network's file and the device; UsageError where the GPU that the user chose is missing."""
        self.check()
        return CellposeCells(self, self.network_file(downloaded), str(device_for(device)))


@dataclass(frozen=True)
class CellposeCells(CellposeNetwork, CellSegmenter):
    """A network of cellpose that finds whole cells."""

    settings: Settings

    def grow(
        self,
        stain: Real[np.ndarray, "y x"],
        nuclei: Int32[np.ndarray, "y x"],
        nucleus_image: Real[np.ndarray, "y x"],
        pixel_um: float | None = None,
    ) -> Int32[np.ndarray, "y x"]:
        """Return the cell of every nucleus; a nucleus is its own cell where the network finds none.

        Raises UsageError where the file is no network of the installed cellpose, or the pixel size is not known.
        """
        if not nuclei.any():
            return np.zeros(nuclei.shape, np.int32)
        if stain.min() == stain.max():
            return nuclei.copy()
        both = np.stack([stain, nucleus_image], axis=-1)
        # the cells are in the first channel, the nuclei in the second
        found = self.find(both, [1, 2], self._diameter_px(nuclei, pixel_um), channel_axis=-1)
        return cells_of_nuclei(found, nuclei)

    def _diameter_px(self, nuclei: Int32[np.ndarray, "y x"], pixel_um: float | None) -> float | None:
        if self.settings.diameter_um is not None:
            if pixel_um is None:
                raise UsageError(
                    "cellpose has a diameter of cells in micrometres, but the size of a pixel is not known",
                    hint="give fetch.dataset.pixel_um, or diameter_in_nuclei in place of diameter_um",
                )
            return self.settings.diameter_um / pixel_um
        if installed()[0] >= 4:
            return None
        return self.settings.diameter_in_nuclei * typical_diameter_px(nuclei)


def cells_of_nuclei(found: Int[np.ndarray, "y x"], nuclei: Int32[np.ndarray, "y x"]) -> Int32[np.ndarray, "y x"]:
    """Number cells that were found without their nuclei after the nuclei 1..n in them.

    A nucleus belongs to the cell under most of its pixels. A cell without a nucleus is dropped; one with several nuclei
    is divided, and each of its pixels goes to the nearest of them. A nucleus outside all cells is its own cell.
    """
    from scipy import ndimage

    cell_of = np.append(0, match_labels(nuclei, found))
    counts = np.bincount(cell_of[1:], minlength=int(found.max(initial=0)) + 1)
    counts[0] = 0
    nucleus_in = np.zeros(len(counts), np.int32)
    nucleus_in[cell_of[1:]] = np.arange(1, len(cell_of))
    cells = np.where(counts == 1, nucleus_in, 0)[found]
    places = ndimage.find_objects(found)
    for cell in np.flatnonzero(counts > 1):
        place = places[cell - 1]
        own = np.where(cell_of[nuclei[place]] == cell, nuclei[place], 0)
        rows, columns = ndimage.distance_transform_edt(own == 0, return_distances=False, return_indices=True)
        cells[place] = np.where(found[place] == cell, own[rows, columns], cells[place])
    return whole_cells(cells, nuclei)
