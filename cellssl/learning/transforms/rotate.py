"""rotate: one random angle per cell in, a rotation about the centre out (torchvision's RandomRotation)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.transform import (
    Degrees,
    Drawn,
    Geometric,
    Interpolation,
    Sampling,
    stack_matrices,
    symmetric_range,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Geometric):
    """Rotate the image about its centre."""

    degrees: Degrees = 180.0
    """Angle in degrees, counter-clockwise. A number d means between -d and d; a pair is [low, high]."""
    interpolation: Interpolation = "bilinear"
    """How values between pixels are computed."""
    fill: float = Field(0.0, ge=0, le=1)
    """Value outside the image."""

    def draw(self, keys: Keys, side: int) -> Drawn:
        """Draw angles in degrees."""
        return {"angle": keys.uniform("angle", *symmetric_range(self.degrees))}

    def sampling(self) -> Sampling:
        """Return its interpolation and fill."""
        return Sampling(self.interpolation, self.fill)

    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """Return the rotation by the opposite angle, from output to input pixels."""
        import torch

        angle = torch.deg2rad(drawn["angle"].double())
        return stack_matrices([[angle.cos(), -angle.sin(), 0.0], [angle.sin(), angle.cos(), 0.0]])
