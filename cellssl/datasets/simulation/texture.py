"""texture: a random generator in -> smooth random surfaces with mean 0 and standard deviation 1."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

TILE_PX = 512


def tile(rng: np.random.Generator, grain_px: float) -> Float32[np.ndarray, "TILE_PX TILE_PX"]:
    """Return a surface whose opposite edges fit together, with bumps of about `grain_px`."""
    noise = rng.standard_normal((TILE_PX, TILE_PX), dtype=np.float32)
    smooth = ndimage.gaussian_filter(noise, grain_px, mode="wrap")
    return np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)


def covering(surface: Float32[np.ndarray, "side side"], height_px: int, width_px: int) -> Float32[np.ndarray, "r c"]:
    """Return the tile repeated over a field."""
    repeats = (-(-height_px // TILE_PX), -(-width_px // TILE_PX))
    return np.tile(surface, repeats)[:height_px, :width_px]
