"""vertical_flip: a coin a cell -> top and bottom exchanged (torchvision's RandomVerticalFlip)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Drawn, Geometric, stack_matrices

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Geometric):
    """Exchange top and bottom."""

    p: float = Field(0.5, ge=0, le=1)
    """Chance per cell."""

    def draw(self, keys: Keys, side: int) -> Drawn:
        """Which cells."""
        return {"hit": keys.chance("hit", self.p)}

    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """A mirror through the centre."""
        sign = 1.0 - 2.0 * drawn["hit"].double()
        return stack_matrices([[1.0, 0.0, 0.0], [0.0, sign, 0.0]])
