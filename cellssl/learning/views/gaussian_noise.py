"""gaussian_noise: a noise of its own for every pixel -> crops with that noise (torchvision's GaussianNoise)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Drawn, Photometric, change_rows

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

    from cellssl.randomness import Keys

STRIDE = 0x1E3779B97F4A7C15
"""An odd number with well mixed bits, so that the counters of neighbouring pixels and cells do not meet."""


class Settings(Photometric):
    """Add normal noise to every pixel, cut off at 0 and 1."""

    mean: float = 0.0
    """Mean of the noise; the image has values from 0 to 1."""
    sigma: float = Field(0.1, ge=0)
    """Standard deviation of the noise."""
    p: float = Field(1.0, ge=0, le=1)
    """Chance per cell."""

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Which cells, and the key from which the noise of every pixel is made."""
        return {"hit": keys.chance("hit", self.p), "key": keys.fold("pixels").values}

    def apply(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """The noise is made where the crops are."""
        crops = crops.clone()
        change_rows(crops, drawn["hit"].nonzero()[:, 0].tolist(), self._add, drawn["key"])
        return crops

    def _add(self, crops: Float[Tensor, "n c y x"], key: Int64[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c y x"]:
        noise = normal_pixels(key.flatten(), crops[0].numel()).view_as(crops)
        return crops.add_(noise.mul_(self.sigma).add_(self.mean)).clamp_(0.0, 1.0)


def normal_pixels(key: Int64[Tensor, "n"], pixels: int) -> Float[Tensor, "n pixels"]:
    """Standard normal numbers, one for every pixel: counters below the key of the cell, as for any other draw."""
    import torch

    from cellssl.randomness import Keys

    counters = key[:, None] + torch.arange(pixels, device=key.device) * STRIDE
    return Keys(counters.flatten()).normal("noise").view(len(key), pixels)
