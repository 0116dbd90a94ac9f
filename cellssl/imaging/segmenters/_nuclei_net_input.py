"""_nuclei_net_input: a raw image in -> the normalised input of the network out, whatever the gain and offset."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32, Real

DARK_PERCENT, BRIGHT_PERCENT = 1.0, 99.8
COMPRESSION = 20.0  # an intensity of 5 % of the range becomes 26 %, so that dim nuclei beside bright ones are visible


def normalised_input(image: Real[np.ndarray, "y x"]) -> Float32[np.ndarray, "2 y x"]:
    """Return the image scaled between its percentiles, and the same with its bright parts compressed."""
    dark, bright = np.percentile(image, (DARK_PERCENT, BRIGHT_PERCENT))
    return with_compressed(np.asarray((image - np.float32(dark)) / np.float32(max(bright - dark, 1e-6)), np.float32))


def with_compressed(light: Float32[np.ndarray, "y x"]) -> Float32[np.ndarray, "2 y x"]:
    """Stack the normalised image and its compression by a hyperbolic arc sine.

    `light` is about 0 in the background and about 1 where the image is brightest.
    """
    light = np.clip(light, -0.5, 3.0)
    return np.stack([light, np.arcsinh(COMPRESSION * light) / np.float32(np.arcsinh(COMPRESSION))])
