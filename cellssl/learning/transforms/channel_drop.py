"""channel_drop: a coin and a channel a cell -> that channel set to zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Drawn, Photometric, broadcast_to_crops

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Photometric):
    """Set one channel to zero, so that no single stain decides."""

    p: float = Field(0.2, ge=0, le=1)
    """Chance per cell."""

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """For every channel, whether it is lost."""
        import torch

        lost = keys.integers("channel", channels)[:, None] == torch.arange(channels)
        return {"lost": lost & keys.chance("hit", self.p)[:, None]}

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Zero where a channel is lost."""
        return crops.masked_fill_(broadcast_to_crops(drawn["lost"], crops), 0.0)
