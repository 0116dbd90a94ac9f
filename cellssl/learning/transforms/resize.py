"""resize: the whole image, made larger or smaller (torchvision's Resize)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Drawn, Geometric, Interpolation, stack_matrices

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Geometric):
    """Bring the image to another size."""

    size: int = Field(ge=1)
    """New side in px."""
    interpolation: Interpolation = "bilinear"
    """How values between pixels are found; bilinear averages where it shrinks more than twofold."""

    def draw(self, keys: Keys, side: int) -> Drawn:
        """Pixels of the input per pixel of the output; nothing is left to chance."""
        import torch

        return {"share": torch.full((len(keys),), side / self.size, dtype=torch.float64)}

    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """A scale about the centre."""
        return stack_matrices([[drawn["share"], 0.0, 0.0], [0.0, drawn["share"], 0.0]])

    def out_side(self, side: int) -> int:
        """The new side."""
        return self.size

    def averages(self, side: int) -> bool:
        """What is larger than twice the new side is averaged."""
        return side > 2 * self.size
