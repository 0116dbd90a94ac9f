"""grayscale: a coin a cell -> red, green and blue replaced by their gray (torchvision's RandomGrayscale)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Drawn, Photometric, broadcast_to_crops, to_gray, require_rgb

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Photometric):
    """Take the colour away; needs 3 channels."""

    p: float = Field(0.1, ge=0, le=1)
    """Chance per cell."""

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Which cells.

        Raises UsageError for crops that do not have 3 channels.
        """
        require_rgb("grayscale", channels, "use channel_drop, which takes away one stain")
        return {"hit": keys.chance("hit", self.p)}

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Gray in all three channels."""
        return crops.where(~broadcast_to_crops(drawn["hit"], crops), to_gray(crops))
