"""invert: a coin a cell -> light and dark exchanged (torchvision's RandomInvert)."""

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
    """Chance per cell."""

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Which cells."""
        return {"hit": keys.chance("hit", self.p)}

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """1 - value."""
        return crops.where(~broadcast_to_crops(drawn["hit"], crops), 1.0 - crops)
