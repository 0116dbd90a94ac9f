"""optics: the light of a stain in -> the camera's image: blur, stray light, uneven illumination, noise, 12 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt16
from scipy import ndimage

_LEVEL = 16  # BBBC021 keeps 12-bit counts in the upper bits of 16
_LARGEST = 65520
_DARK = 180.0  # value of the camera without light
_READ_NOISE = 16.0
_NOISE_PER_LIGHT = 1.25  # variance of shot noise per unit of light, as measured in the real fields


@dataclass(frozen=True)
class Stain:
    """How one stain looks on an average plate, in camera units."""

    light: float
    background: float
    stray_share: float


STAINS = {
    "dna": Stain(light=1300.0, background=330.0, stray_share=0.10),
    "tubulin": Stain(light=3000.0, background=540.0, stray_share=0.16),
    "actin": Stain(light=3900.0, background=540.0, stray_share=0.12),
}


@dataclass(frozen=True)
class StainExposure:
    """Exposure and background of one stain on one plate, and the centre and falloff of the illumination."""

    gain: float
    background: float
    centre: tuple[float, float]
    falloff: float


def draw_exposure(rng: np.random.Generator, spread: float) -> StainExposure:
    """Draw the exposure of one stain on one plate; `spread` is the standard deviation of the log of its gain."""
    gain, background = np.exp(spread * rng.standard_normal(2) * (1.0, 0.6))
    return StainExposure(gain, background, (rng.normal(0, 0.25), rng.normal(0, 0.25)), rng.uniform(0.06, 0.22))


def expose(
    light: Float32[np.ndarray, "row column"],
    stain: Stain,
    exposure: StainExposure,
    blur_px: float,
    rng: np.random.Generator,
) -> UInt16[np.ndarray, "row column"]:
    """Return one image, as the camera of the real plates would have recorded it."""
    sharp = ndimage.gaussian_filter(light, blur_px, truncate=3.0)
    scattered = light
    for side in (61, 61):
        scattered = ndimage.uniform_filter(scattered, side, mode="reflect")
    glow = np.float32(1 - stain.stray_share) * sharp + np.float32(stain.stray_share) * scattered
    lit = glow * np.float32(stain.light * exposure.gain) + np.float32(stain.background * exposure.background)
    photons = np.maximum(lit * _illumination(exposure, light.shape), 0)
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    counts = photons + noise * np.sqrt(np.float32(_NOISE_PER_LIGHT) * photons + np.float32(_READ_NOISE**2))
    levels = np.round((counts + np.float32(_DARK)) / _LEVEL) * _LEVEL
    return np.asarray(np.clip(levels, 0, _LARGEST), np.uint16)


def _illumination(exposure: StainExposure, shape: tuple[int, ...]) -> Float32[np.ndarray, "row column"]:
    """Return the brightness of the illumination, relative to its mean."""
    rows = (np.linspace(-1, 1, shape[0]) - exposure.centre[0]).astype(np.float32)[:, None]
    columns = (np.linspace(-1, 1, shape[1]) - exposure.centre[1]).astype(np.float32)[None, :]
    return np.asarray(
        1 - np.float32(exposure.falloff / 2) * (rows * rows + columns * columns) + np.float32(exposure.falloff / 3)
    )
