"""selection: a label image of nuclei in -> which are kept and why not, their table, and the true nucleus under each, out.

A label image holds 0 for background and 1..n for nuclei. Row and column positions count from the middle of the first
pixel, so that a single pixel at the top left has its centre at (0.0, 0.0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.cropping import windows_inside

if TYPE_CHECKING:
    from jaxtyping import Int, Int8, Int32

    from cellssl.imaging.quality import NucleusQuality
from cellssl.imaging.labels import Nuclei, measure, relabel, select_labels, touches_edge

REASONS = ("edge", "too_small", "too_large", "window_outside", "ragged", "saturated", "blurred")
"""Why a nucleus is not kept, in the order in which they are asked; the first one wins."""


@dataclass(frozen=True)
class Limits:
    """Which nuclei are kept; limits themselves are allowed."""

    min_area_px: float = 0.0
    max_area_px: float = np.inf
    window_px: int | None = None
    """Side of the window that has to lie inside the field; any may leave it where nothing is given."""
    min_solidity: float = 0.0
    max_saturated: float = 1.0
    min_focus: float = 0.0


@dataclass(frozen=True)
class Kept:
    """The nuclei that are left, numbered anew from 1, and how many went for which reason.

    counts["detected"] == counts["kept"] + the sum over REASONS, always.
    """

    labels: Int32[np.ndarray, "y x"]
    counts: dict[str, int]


def keep(labels: Int[np.ndarray, "y x"], limits: Limits, quality: NucleusQuality | None = None) -> Kept:
    """Drop nuclei that touch the edge of the field or are beyond the limits.

    Limits of solidity, saturation and focus are asked only where `quality` is given.
    """
    labels = relabel(labels)
    lost = rejection_reasons(labels, measure(labels), limits, quality)
    counts = {"detected": len(lost)}
    for number, reason in enumerate(REASONS, start=1):
        counts[reason] = int((lost == number).sum())
    counts["kept"] = int((lost == 0).sum())
    return Kept(select_labels(labels, lost == 0), counts)


def rejection_reasons(
    labels: Int[np.ndarray, "y x"], nuclei: Nuclei, limits: Limits, quality: NucleusQuality | None = None
) -> Int8[np.ndarray, "n"]:
    """For labels 1..n: 0 where the nucleus is kept, else the place of its reason in REASONS, counted from 1."""
    lost = {
        "edge": touches_edge(labels),
        "too_small": nuclei.area_px < limits.min_area_px,
        "too_large": nuclei.area_px > limits.max_area_px,
    }
    if limits.window_px is not None:
        lost["window_outside"] = ~windows_inside(nuclei.centres, limits.window_px, labels.shape)
    if quality is not None:
        lost["ragged"] = quality.solidity < limits.min_solidity
        lost["saturated"] = quality.saturated > limits.max_saturated
        lost["blurred"] = quality.focus < limits.min_focus
    why = np.zeros(len(nuclei.area_px), np.int8)
    for number, reason in enumerate(REASONS, start=1):
        if reason in lost:
            why[lost[reason] & (why == 0)] = number
    return why
