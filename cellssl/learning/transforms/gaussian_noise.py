"""gaussian_noise: one random key per cell in, crops with independent noise in every pixel out (torchvision's
GaussianNoise).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Drawn, Photometric, change_cells
from cellssl.randomness import Keys, normal_quantiles

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor

ALGORITHM = 2
"""2: the noise is read from a table of normal quantiles, so that a GPU and a CPU make the same bits."""


class Settings(Photometric):
    """Add normally distributed noise to every pixel, clipped at 0 and 1."""

    mean: float = 0.0
    """Mean of the noise; the image has values from 0 to 1."""
    sigma: float = Field(0.1, ge=0)
    """Standard deviation of the noise. No pixel gets more than 4.33 times this."""
    p: float = Field(1.0, ge=0, le=1)
    """Probability per cell."""

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Draw which cells get noise, and the key from which the noise of every pixel is made."""
        return {"hit": keys.chance("hit", self.p), "key": keys.fold("pixels").values}

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Add noise to the drawn cells; it is made on the device of the crops."""
        change_cells(crops, drawn["hit"], self._add, drawn["key"])
        return crops

    def _add(self, crops: Float[Tensor, "n c y x"], key: Int64[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c y x"]:
        noise = normal_pixels(key.flatten(), crops[0].numel()).view_as(crops)
        return crops.add_(noise.mul_(self.sigma).add_(self.mean)).clamp_(0.0, 1.0)


def normal_pixels(key: Int64[Tensor, "n"], pixels: int) -> Float[Tensor, "n pixels"]:
    """Return standard normal numbers, one for every pixel; every 64 bits give four of them."""
    import torch

    bits = Keys(key).pixels(-(-pixels // 4), parts=4).flatten(1)[:, :pixels]
    indices = bits.to(torch.int32).add_(32768)
    return normal_quantiles(key.device).index_select(0, indices.flatten()).view(indices.shape)
