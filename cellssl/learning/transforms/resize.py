"""resize: crops in, the whole image at another size out (torchvision's Resize)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Drawn, Geometric, Interpolation, Sampling, stack_matrices

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Geometric):
    """Resize the image."""

    size: int = Field(ge=1)
    """New side in px."""
    interpolation: Interpolation = "bilinear"
    """How values between pixels are computed; bilinear averages where it shrinks the image more than twofold."""

    def draw(self, keys: Keys, side: int) -> Drawn:
        """Return the input pixels per output pixel; nothing is random."""
        import torch

        return {"share": torch.full((len(keys),), side / self.size, dtype=torch.float64)}

    def sampling(self) -> Sampling:
        """Return its interpolation."""
        return Sampling(self.interpolation)

    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """Return a scale about the centre."""
        return stack_matrices([[drawn["share"], 0.0, 0.0], [0.0, drawn["share"], 0.0]])

    def out_side(self, side: int) -> int:
        """Return the new side."""
        return self.size

    def averages(self, side: int) -> bool:
        """Return whether the image is more than twice as large as its new side."""
        return side > 2 * self.size
