"""selection: a label image, its measurements and limits in -> the reason to reject each nucleus, or none, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.cropping import windows_inside
from cellssl.imaging.labels import touches_edge

if TYPE_CHECKING:
    from jaxtyping import Int, Int8

    from cellssl.imaging.labels import Nuclei
    from cellssl.imaging.quality import NucleusQuality

REASONS = ("edge", "too_small", "too_large", "window_outside", "ragged", "saturated", "blurred")
"""Why a nucleus is rejected, in the order in which the reasons are checked; the first one that applies is taken."""


@dataclass(frozen=True)
class Limits:
    """Which nuclei are kept; a value equal to its limit is kept."""

    min_area_px: float = 0.0
    max_area_px: float = np.inf
    window_px: int | None = None
    """Side of the window that must lie inside the field; None where a window may leave the field."""
    min_solidity: float = 0.0
    max_saturated: float = 1.0
    min_focus: float = 0.0


def rejection_reasons(
    labels: Int[np.ndarray, "y x"], nuclei: Nuclei, limits: Limits, quality: NucleusQuality | None = None
) -> Int8[np.ndarray, "n"]:
    """Return for labels 1..n: 0 where the nucleus is kept, else the position of its reason in REASONS, from 1.

    A nucleus that touches the edge of the field is always rejected. Solidity, saturation and focus are checked only
    where `quality` is given.
    """
    rejected = {
        "edge": touches_edge(labels),
        "too_small": nuclei.area_px < limits.min_area_px,
        "too_large": nuclei.area_px > limits.max_area_px,
    }
    if limits.window_px is not None:
        rejected["window_outside"] = ~windows_inside(nuclei.centres, limits.window_px, labels.shape)
    if quality is not None:
        rejected["ragged"] = quality.solidity < limits.min_solidity
        rejected["saturated"] = quality.saturated > limits.max_saturated
        rejected["blurred"] = quality.focus < limits.min_focus
    reasons = np.zeros(len(nuclei.area_px), np.int8)
    for number, reason in enumerate(REASONS, start=1):
        if reason in rejected:
            reasons[rejected[reason] & (reasons == 0)] = number
    return reasons
