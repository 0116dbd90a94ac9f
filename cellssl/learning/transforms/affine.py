"""affine: drawn rotation, shift, scale and shear in, one matrix per cell out (torchvision's RandomAffine)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cellssl.learning.transform import (
    Degrees,
    Drawn,
    Geometric,
    Interpolation,
    Sampling,
    number_or_pair,
    stack_matrices,
    symmetric_range,
)

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Geometric):
    """Rotate, shift, scale and shear the image about its centre."""

    degrees: Degrees = 0.0
    """Angle in degrees, clockwise. A number d means between -d and d; a pair is [low, high]."""
    translate: Annotated[float | tuple[float, float], number_or_pair(0, 1, ordered=False)] = 0.0
    """Largest shift as a share of the side, in either direction; a pair [x, y] for different shares along x and y."""
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 1.0)
    """Smallest and largest scale; above 1 the cell grows."""
    shear: Degrees = 0.0
    """Shear along x in degrees. A number s means between -s and s; a pair is [low, high]."""
    shear_y: Degrees = 0.0
    """Shear along y, given like `shear` (the last two of torchvision's four numbers)."""
    interpolation: Interpolation = "bilinear"
    """How values between pixels are computed."""
    fill: float = Field(0.0, ge=0, le=1)
    """Value outside the image."""

    def draw(self, keys: Keys, side: int) -> Drawn:
        """Draw angles in degrees and shifts in whole px."""
        x, y = self.translate if isinstance(self.translate, tuple) else (self.translate, self.translate)
        drawn = keys.uniforms(
            angle=symmetric_range(self.degrees),
            shift_x=(-x * side, x * side),
            shift_y=(-y * side, y * side),
            scale=self.scale,
            shear_x=symmetric_range(self.shear),
            shear_y=symmetric_range(self.shear_y),
        )
        return {**drawn, "shift_x": drawn["shift_x"].round(), "shift_y": drawn["shift_y"].round()}

    def sampling(self) -> Sampling:
        """Return its interpolation and fill."""
        return Sampling(self.interpolation, self.fill)

    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """Return the inverse of shift * rotation * shear along y * shear along x * scale."""
        import torch

        angle, along_x, along_y = (torch.deg2rad(drawn[name].double()) for name in ("angle", "shear_x", "shear_y"))
        smaller = 1.0 / drawn["scale"].double()
        unscale = stack_matrices([[smaller, 0.0, 0.0], [0.0, smaller, 0.0]])
        unshear_x = stack_matrices([[1.0, along_x.tan(), 0.0], [0.0, 1.0, 0.0]])
        unshear_y = stack_matrices([[1.0, 0.0, 0.0], [along_y.tan(), 1.0, 0.0]])
        turn_back = stack_matrices([[angle.cos(), angle.sin(), 0.0], [-angle.sin(), angle.cos(), 0.0]])
        shift_back = stack_matrices([[1.0, 0.0, -drawn["shift_x"]], [0.0, 1.0, -drawn["shift_y"]]])
        return unscale @ unshear_x @ unshear_y @ turn_back @ shift_back
