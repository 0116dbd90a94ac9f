"""rotate: one angle a cell -> a rotation about the centre (torchvision's RandomRotation)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import Degrees, Drawn, Geometric, Interpolation, symmetric_range, stack_matrices

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Geometric):
    """Turn the image about its centre."""

    degrees: Degrees = 180.0
    """Angle, counter-clockwise: a number d means between -d and d; or a pair [low, high]."""
    interpolation: Interpolation = "bilinear"
    """How values between pixels are found."""
    fill: float = Field(0.0, ge=0, le=1)
    """Value of what lies outside the image."""

    def draw(self, keys: Keys, side: int) -> Drawn:
        """Angles in degrees."""
        return {"angle": keys.uniform("angle", *symmetric_range(self.degrees))}

    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """Each output pixel lies where the opposite turn brings it."""
        import torch

        angle = torch.deg2rad(drawn["angle"].double())
        return stack_matrices([[angle.cos(), -angle.sin(), 0.0], [angle.sin(), angle.cos(), 0.0]])
