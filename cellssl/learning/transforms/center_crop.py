"""center_crop: a share of the side in, the middle of every image out; the same for all cells (torchvision's
CenterCrop).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Drawn, Geometric, stack_matrices

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Geometric):
    """Keep the middle of the image: the cell at the centre without its neighbours."""

    side: float = Field(0.5, gt=0, le=1)
    """Share of the side that is kept: 0.5 keeps 98 of 196 px."""

    def draw(self, keys: Keys, side: int) -> Drawn:
        """Return where the window begins, in px; nothing is random."""
        import torch

        return {"begin": torch.full((len(keys),), round((side - self.out_side(side)) / 2.0))}

    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """Return a shift of at most half a pixel, for an odd difference of the sides."""
        shift = drawn["begin"].double() + (self.out_side(side) - side) / 2.0
        return stack_matrices([[1.0, 0.0, shift], [0.0, 1.0, shift]])

    def out_side(self, side: int) -> int:
        """Return the side of the window, at least one pixel."""
        return max(1, round(self.side * side))
