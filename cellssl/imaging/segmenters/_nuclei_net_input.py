"""_nuclei_net_input: a raw image in -> the same as the network sees it, whatever the camera's gain and offset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32, Real

DARK_PERCENT, BRIGHT_PERCENT = 1.0, 99.8
COMPRESSION = 20.0  # light of 5 % of the range is shown at 26 %, so that dim nuclei beside bright ones are seen


def seen(image: Real[np.ndarray, "y x"]) -> Float32[np.ndarray, "2 y x"]:
    """The image between its percentiles, and the same with bright parts compressed (a hyperbolic arc sine)."""
    dark, bright = np.percentile(image, (DARK_PERCENT, BRIGHT_PERCENT))
    return in_two_ways(np.asarray((image - np.float32(dark)) / np.float32(max(bright - dark, 1e-6)), np.float32))


def in_two_ways(light: Float32[np.ndarray, "y x"]) -> Float32[np.ndarray, "2 y x"]:
    """Light as it is and compressed; `light` is about 0 in the background and about 1 where it is brightest."""
    light = np.clip(light, -0.5, 3.0)
    return np.stack([light, np.arcsinh(COMPRESSION * light) / np.float32(np.arcsinh(COMPRESSION))])
