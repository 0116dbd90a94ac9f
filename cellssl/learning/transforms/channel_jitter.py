"""channel_jitter: one factor per channel in, changed brightness, contrast and gamma out (colour jitter for
fluorescence).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Drawn, Factor, Photometric, change_cells, factor_range

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Photometric):
    """Change brightness, contrast and gamma of every channel independently: each channel is a stain."""

    brightness: Factor = 0.0
    """Factor by which the channel is multiplied. A number b means between 1 - b (not below 0) and 1 + b; a pair is
    [low, high]."""
    contrast: Factor = 0.0
    """Factor of the difference from the channel's mean; given like `brightness`; applied after brightness."""
    gamma: Factor = 0.0
    """Exponent of the values in [0, 1]; given like `brightness`; applied last. Below 1 it makes dim structures
    brighter."""
    p: float = Field(1.0, ge=0, le=1)
    """Probability per cell."""

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Draw three factors for every channel; a cell that stays unchanged has factors of 1."""
        import torch

        hit = keys.chance("hit", self.p)[:, None]
        drawn = {}
        for name in ("brightness", "contrast", "gamma"):
            ranges = {f"{name}/{channel}": factor_range(getattr(self, name)) for channel in range(channels)}
            drawn[name] = torch.stack(list(keys.uniforms(**ranges).values()), dim=1).where(hit, 1.0)
        return drawn

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Apply brightness, contrast and gamma; values are clipped to 0 and 1 after each."""
        for name, change in (("brightness", adjust_brightness), ("contrast", adjust_contrast), ("gamma", adjust_gamma)):
            changed = (drawn[name] != 1.0).any(dim=1)
            change_cells(crops, changed, change, drawn[name])
        return crops


def adjust_brightness(crops: Float[Tensor, "n c y x"], factor: Float[Tensor, "n c 1 1"]) -> Float[Tensor, "n c y x"]:
    """Multiply every channel by its factor, in place."""
    return crops.mul_(factor).clamp_(0.0, 1.0)


def adjust_contrast(crops: Float[Tensor, "n c y x"], factor: Float[Tensor, "n c 1 1"]) -> Float[Tensor, "n c y x"]:
    """Multiply the difference of every channel from its mean by its factor, in place."""
    shift = crops.mean(dim=(2, 3), keepdim=True).mul_(1.0 - factor)
    return crops.mul_(factor).add_(shift).clamp_(0.0, 1.0)


def adjust_gamma(crops: Float[Tensor, "n c y x"], gamma: Float[Tensor, "n c 1 1"]) -> Float[Tensor, "n c y x"]:
    """Raise every channel to its exponent, in place."""
    return crops.pow_(gamma)
