"""selection: the measurements of nuclei and limits in -> the reason to reject each nucleus, or none, out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cellssl.imaging.cropping import windows_inside

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jaxtyping import Int8, Shaped

REASONS = ("edge", "too_small", "too_large", "window_outside", "ragged", "saturated", "blurred")
"""Why a nucleus is rejected, in the order in which the reasons are checked; the first one that applies is taken."""


PerNucleus = float | np.ndarray
"""One value for all nuclei, or one for each."""


@dataclass(frozen=True)
class Limits:
    """Which nuclei are kept; a value equal to its limit is kept. Limits in pixels may differ between nuclei."""

    min_area_px: PerNucleus = 0.0
    max_area_px: PerNucleus = np.inf
    window_px: PerNucleus | None = None
    """Side of the window that must lie inside the field; None where a window may leave the field."""
    min_solidity: float = 0.0
    max_saturated: float = 1.0
    min_focus: float = 0.0


def rejection_reasons(nuclei: Mapping[str, Shaped[np.ndarray, "n"]], limits: Limits) -> Int8[np.ndarray, "n"]:
    """Return for every nucleus 0 where it is kept, else the position of its reason in REASONS, from 1.

    `nuclei` holds the columns of the table of nuclei: at_edge, area_px, solidity, saturated and focus, and, for
    `window_px`, row_px, column_px, field_height_px and field_width_px. A nucleus that touches the edge of the field is
    always rejected.
    """
    rejected = {
        "edge": nuclei["at_edge"],
        "too_small": nuclei["area_px"] < limits.min_area_px,
        "too_large": nuclei["area_px"] > limits.max_area_px,
        "ragged": nuclei["solidity"] < limits.min_solidity,
        "saturated": nuclei["saturated"] > limits.max_saturated,
        "blurred": nuclei["focus"] < limits.min_focus,
    }
    if limits.window_px is not None:
        centres = np.stack([nuclei["row_px"], nuclei["column_px"]], axis=1)
        fields = np.stack([nuclei["field_height_px"], nuclei["field_width_px"]], axis=1)
        rejected["window_outside"] = ~windows_inside(centres, limits.window_px, fields)
    reasons = np.zeros(len(nuclei["area_px"]), np.int8)
    for number, reason in enumerate(REASONS, start=1):
        if reason in rejected:
            reasons[rejected[reason] & (reasons == 0)] = number
    return reasons
