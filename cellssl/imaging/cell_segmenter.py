"""cell_segmenter: the contract of every file in cell_segmenters/: nuclei and a stain of cells in, one cell each out.

To add a method, write `cellssl/imaging/cell_segmenters/NAME.py` with a `class Settings(CellSegmenterSettings)` that has
a docstring, one field per setting with a docstring each, and the method `grow`. A recipe then takes
`segment.cells = { method = "NAME", channel = "actin" }`. The other methods below have defaults; override them only for
weights or a GPU. When a change of the code gives other cells for the same settings, raise the module constant ALGORITHM
(1 where there is none). Import heavy libraries (torch, scipy, skimage) inside the functions that need them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellssl.config.settings import Plugin
from cellssl.imaging.segmenter import PublishedFile

if TYPE_CHECKING:
    from jaxtyping import Int, Int32, Real


class CellSegmenter:
    """What finds the cell around every nucleus, one field at a time; it is pickled and sent to the worker processes."""

    def grow(
        self,
        stain: Real[np.ndarray, "y x"],
        nuclei: Int32[np.ndarray, "y x"],
        nucleus_image: Real[np.ndarray, "y x"],
        pixel_um: float | None = None,
    ) -> Int32[np.ndarray, "y x"]:
        """Return the label image of the cells; label i is the cell of nucleus i.

        `stain` is the channel that shows the cells, `nuclei` the label image of all nuclei of the field, numbered 1..n,
        `nucleus_image` the channel in which they were found. Images are uint8 or uint16, with the grey values of the
        camera or with corrected illumination; floats must work too. Nothing may be changed.

        `pixel_um` is the side of a pixel in micrometres, None where the data set does not say. A method with a setting
        in micrometres raises UsageError where it is None; all others must work without it, in diameters of nuclei.

        Every nucleus gets a cell that contains all of its pixels and no pixel of another nucleus; `whole_cells` sees to
        that. Where no stain is seen around a nucleus, the cell is the nucleus itself. Cells that touch the edge of the
        field are included. Without nuclei there are no cells. The result is deterministic, as that of a segmenter.

        Raise DataError for a fault of this field: it is then listed in quarantine.csv, and the others go on.
        """
        raise NotImplementedError

    def runs_on(self) -> str:
        """Return the device: "cpu", or "cuda" or "cuda:0"; on a GPU the fields are segmented in one process only."""
        return "cpu"

    def ran(self) -> dict[str, Any]:
        """Return what the card of the artifact shall record of this machine, such as a version, as JSON values."""
        return {}


class CellSegmenterSettings(Plugin, CellSegmenter):
    """Settings of one method, and, where it needs nothing else, the method itself."""

    def check(self) -> None:
        """Raise UsageError, with the cure as its hint, where this machine lacks what the method needs."""

    def needing_pixel_um(self) -> Mapping[str, str]:
        """Return the given settings in micrometres, each with what to do where the size of a pixel is not known."""
        return {}

    def external_files(self) -> Mapping[str, Path]:
        """Return role -> file of the user that decides the result; its bytes are part of the fingerprint."""
        return {}

    def downloads(self) -> Sequence[PublishedFile]:
        """Return the published files that `grow` needs; `cellssl doctor RECIPE --download` gets them."""
        return ()

    def prepare(self, downloaded: Sequence[Path], device: str) -> CellSegmenter:
        """Return what works on this machine; `downloaded` and `device` are as in `SegmenterSettings.prepare`."""
        return self


def whole_cells(proposed: Int[np.ndarray, "y x"], nuclei: Int[np.ndarray, "y x"]) -> Int32[np.ndarray, "y x"]:
    """Return the proposed cells with their nuclei: every nucleus in its own cell, no loose pieces, no holes.

    Pieces of a cell that are not connected with its nucleus are given up, and holes within one cell are filled.
    """
    from skimage.measure import label

    from cellssl.imaging.labels import fill_holes

    cells = np.where(nuclei > 0, nuclei, proposed).astype(np.int32)
    pieces, n = label(cells, connectivity=1, return_num=True)
    has_nucleus = np.zeros(n + 1, bool)
    has_nucleus[pieces[nuclei > 0]] = True
    return np.asarray(fill_holes(np.where(has_nucleus[pieces], cells, 0)), np.int32)
