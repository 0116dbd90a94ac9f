"""channel_drop: crops in, crops with one channel set to zero in a random part of the cells out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Drawn, Photometric, broadcast_to_crops

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Photometric):
    """Set one random channel to zero, so that the network cannot rely on a single stain."""

    p: float = Field(0.2, ge=0, le=1)
    """Probability per cell."""

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Draw for every channel whether it is set to zero."""
        import torch

        lost = keys.integers("channel", channels)[:, None] == torch.arange(channels)
        return {"lost": lost & keys.chance("hit", self.p)[:, None]}

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Set the drawn channels to zero."""
        return crops.masked_fill_(broadcast_to_crops(drawn["lost"], crops), 0.0)
