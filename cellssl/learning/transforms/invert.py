"""invert: crops in, a random part of them with light and dark exchanged out (torchvision's RandomInvert)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Drawn, Photometric, broadcast_to_crops

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Photometric):
    """Exchange light and dark."""

    p: float = Field(0.5, ge=0, le=1)
    """Probability per cell."""

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Draw which cells are inverted."""
        return {"hit": keys.chance("hit", self.p)}

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Replace every value by 1 - value."""
        return crops.where(~broadcast_to_crops(drawn["hit"], crops), 1.0 - crops)
