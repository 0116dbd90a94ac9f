"""_nuclei_net_input: an image in -> its normalised light, whatever the gain and offset, and the network's input out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Float32, Real

DARK_PERCENT, BRIGHT_PERCENT = 1.0, 99.8
MANY_PX = 500_000
COMPRESSION = 20.0  # an intensity of 5 % of the range becomes 26 %, so that dim nuclei beside bright ones are visible


def normalised_light(image: Real[np.ndarray, "y x"]) -> Float32[np.ndarray, "y x"]:
    """Return the image scaled between two percentiles: about 0 in the background, about 1 where it is brightest."""
    stride = 2 if image.size > MANY_PX else 1  # every fourth pixel of a large image gives the same percentiles
    dark, bright = np.percentile(image[::stride, ::stride], (DARK_PERCENT, BRIGHT_PERCENT))
    return np.asarray((image - np.float32(dark)) / np.float32(max(bright - dark, 1e-6)), np.float32)


def with_compressed(light: Float32[np.ndarray, "y x"]) -> Float32[np.ndarray, "2 y x"]:
    """Stack the normalised image and its compression by a hyperbolic arc sine.

    `light` is about 0 in the background and about 1 where the image is brightest.
    """
    light = np.clip(light, -0.5, 3.0)
    return np.stack([light, np.arcsinh(COMPRESSION * light) / np.float32(np.arcsinh(COMPRESSION))])
