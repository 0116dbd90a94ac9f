"""grayscale: RGB crops in, crops whose channels are replaced by their gray in a random part of the cells out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Drawn, Photometric, broadcast_to_crops, require_rgb, to_gray

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Photometric):
    """Replace red, green and blue by their gray (torchvision's RandomGrayscale); needs 3 channels."""

    p: float = Field(0.1, ge=0, le=1)
    """Probability per cell."""

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Draw which cells become gray.

        Raises UsageError for crops that do not have 3 channels.
        """
        require_rgb("grayscale", channels, "use channel_drop, which removes one stain")
        return {"hit": keys.chance("hit", self.p)}

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Write the gray into all three channels."""
        return crops.where(~broadcast_to_crops(drawn["hit"], crops), to_gray(crops))
