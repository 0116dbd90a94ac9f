"""compartments: nuclei, their cells and the images of a field in, shape and brightness of every compartment out.

The compartments are those of CellProfiler: the nucleus, the cell, and the cytoplasm, which is the cell without its
nucleus. Means and standard deviations are in grey values of the image, as scikit-image's regionprops gives them.
Integrated intensities are sums above the background of `cell_background`, so that a large cell is not bright by the
offset of the camera alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.cell_background import cell_background
from cellssl.imaging.labels import measure, touches_edge, typical_diameter_px
from cellssl.imaging.quality import solidity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float32, Float64, Int, Int64, Real

SHAPE_COLUMNS = ("cell_area_px", "cell_eccentricity", "cell_solidity", "cell_touches_edge", "cytoplasm_area_px")
COMPARTMENTS = ("nucleus", "cytoplasm", "cell")
MEASURED = ("mean", "sd", "integrated")


def compartment_columns(channels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of all columns: "cell_area_px", ..., "nucleus_dna_mean", "nucleus_dna_sd", ..."""
    brightness = (
        f"{compartment}_{channel}_{measured}"
        for compartment in COMPARTMENTS
        for channel in channels
        for measured in MEASURED
    )
    return (*SHAPE_COLUMNS, *brightness)


def measure_compartments(
    pixels: Real[np.ndarray, "c y x"],
    channels: Sequence[str],
    nuclei: Int[np.ndarray, "y x"],
    cells: Int[np.ndarray, "y x"],
) -> dict[str, np.ndarray]:
    """Measure the nuclei 1..n and their cells: one array of n values per column of `compartment_columns`.

    Every cell contains its nucleus. Where a cell has no cytoplasm, the mean and the standard deviation of the cytoplasm
    are nan, and its area and integrated intensity are 0.
    """
    n = int(nuclei.max(initial=0))
    inside = CompartmentPixels.of(nuclei, cells, n)
    shape = measure(cells)
    found: dict[str, np.ndarray] = {
        "cell_area_px": shape.area_px,
        "cell_eccentricity": shape.eccentricity,
        "cell_solidity": solidity(cells),
        "cell_touches_edge": touches_edge(cells),
        "cytoplasm_area_px": inside.counts[1],
    }
    diameter = typical_diameter_px(nuclei)
    for channel, image in zip(channels, pixels, strict=True):
        background = cell_background(image, diameter) if n else np.zeros(image.shape, np.float32)
        for name, values in brightness(inside, image, background).items():
            found |= {f"{of}_{channel}_{name}": row for of, row in zip(COMPARTMENTS, values, strict=True)}
    return {name: found[name] for name in compartment_columns(channels)}


@dataclass(frozen=True)
class CompartmentPixels:
    """The pixels of all cells: which cell they belong to, and whether they lie in its nucleus."""

    where: Int64[np.ndarray, "pixel"]
    """Flat index of the pixel in the field."""
    group: Int64[np.ndarray, "pixel"]
    """Twice the number of the cell from 0, plus 1 in its cytoplasm."""
    counts: Int64[np.ndarray, "3 n"]
    """Number of pixels of every nucleus, cytoplasm and cell."""

    @classmethod
    def of(cls, nuclei: Int[np.ndarray, "y x"], cells: Int[np.ndarray, "y x"], n: int) -> CompartmentPixels:
        """Collect the pixels of n cells."""
        where = np.flatnonzero(cells)
        group = 2 * (cells.ravel()[where].astype(np.int64) - 1) + (nuclei.ravel()[where] == 0)
        return cls(where, group, _with_whole(np.bincount(group, minlength=2 * n).reshape(n, 2).T))

    def sums(self, values: Float64[np.ndarray, "pixel"]) -> Float64[np.ndarray, "3 n"]:
        """Return the sums over every nucleus, cytoplasm and cell."""
        n = self.counts.shape[1]
        return _with_whole(np.bincount(self.group, weights=values, minlength=2 * n).reshape(n, 2).T)


def brightness(
    inside: CompartmentPixels, image: Real[np.ndarray, "y x"], background: Float32[np.ndarray, "y x"]
) -> dict[str, Float64[np.ndarray, "3 n"]]:
    """Return mean, standard deviation and integrated intensity of one channel, for nucleus, cytoplasm and cell."""
    values = image.ravel()[inside.where].astype(np.float64)
    total = inside.sums(values)
    with np.errstate(invalid="ignore"):
        mean = total / inside.counts
        variance = inside.sums(values * values) / inside.counts - mean**2
    below = inside.sums(background.ravel()[inside.where].astype(np.float64))
    return {"mean": mean, "sd": np.sqrt(np.maximum(variance, 0)), "integrated": total - below}


def _with_whole(parts: np.ndarray) -> np.ndarray:
    """Add the row of the cell below those of its nucleus and its cytoplasm."""
    return np.concatenate([parts, parts.sum(axis=0, keepdims=True)])
