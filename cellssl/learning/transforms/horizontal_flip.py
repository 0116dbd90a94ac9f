"""horizontal_flip: crops in, a random part of them mirrored left to right out (torchvision's RandomHorizontalFlip)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Drawn, Geometric, stack_matrices

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Geometric):
    """Exchange left and right."""

    p: float = Field(0.5, ge=0, le=1)
    """Probability per cell."""

    def draw(self, keys: Keys, side: int) -> Drawn:
        """Draw which cells are mirrored."""
        return {"hit": keys.chance("hit", self.p)}

    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """Return a mirror through the centre."""
        sign = 1.0 - 2.0 * drawn["hit"].double()
        return stack_matrices([[sign, 0.0, 0.0], [0.0, 1.0, 0.0]])
