"""random_erasing: crops in, crops with a random rectangle filled with one value out (torchvision's RandomErasing)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from cellssl.learning.transform import Drawn, Photometric, broadcast_to_crops

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys

Positive = Annotated[float, Field(gt=0)]

TRIES = 10
"""How often a rectangle that does not fit is drawn again, as in torchvision; after that nothing is erased."""


class Settings(Photometric):
    """Cover a random rectangle, so that the network cannot rely on a single place."""

    p: float = Field(0.5, ge=0, le=1)
    """Probability per cell."""
    scale: tuple[Positive, Positive] = (0.02, 0.33)
    """Smallest and largest area of the rectangle, as a share of the image's area."""
    ratio: tuple[Positive, Positive] = (0.3, 3.3)
    """Smallest and largest ratio of height to width."""
    value: float = Field(0.0, ge=0, le=1)
    """Value of the filled rectangle."""

    @model_validator(mode="after")
    def _in_order(self) -> Settings:
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if low > high:
                raise ValueError(f"{name} must be [low, high], got [{low:g}, {high:g}]")
        return self

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Draw which cells, area and ratio of ten tries, and the position (0 to 1 of the space around the
        rectangle).
        """
        low, high = (math.log(ratio) for ratio in self.ratio)
        tries = keys.fold_each(*(("try", attempt) for attempt in range(TRIES)))
        return {
            "hit": keys.chance("hit", self.p),
            "area": tries.uniform("area", *self.scale),
            "ratio": tries.uniform("ratio", low, high).exp(),
            "top": keys.uniform("top"),
            "left": keys.uniform("left"),
        }

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Fill the rectangles."""
        import torch

        side = crops.shape[-1]
        top, left, height, width = (broadcast_to_crops(px, crops)[:, 0] for px in rectangles(drawn, side))
        at = torch.arange(side, device=crops.device)
        rows, columns = at[:, None], at[None, :]
        inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
        return crops.masked_fill_(inside[:, None], self.value)


def rectangles(drawn: Drawn, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return top, left, height and width in px of the first try that is smaller than the image; 0 px where none is."""
    area, ratio = side**2 * drawn["area"].double(), drawn["ratio"].double()
    heights, widths = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (heights < side) & (widths < side)
    first = fits.long().argmax(dim=1, keepdim=True)
    erased = fits.any(dim=1) & drawn["hit"]
    height = heights.gather(1, first)[:, 0] * erased
    width = widths.gather(1, first)[:, 0] * erased
    return (drawn["top"] * (side - height + 1)).floor(), (drawn["left"] * (side - width + 1)).floor(), height, width
