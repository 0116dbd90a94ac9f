"""random_crop: crops in, a window of fixed size at a random place of every crop out (torchvision's RandomCrop)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.errors import UsageError
from cellssl.learning.transform import Drawn, Geometric, Sampling, stack_matrices

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Geometric):
    """Cut a window of fixed size out of the image, which may first get a frame."""

    size: int = Field(ge=1)
    """Side of the window in px."""
    padding: int = Field(0, ge=0)
    """Width of the frame in px, on every side."""
    fill: float = Field(0.0, ge=0, le=1)
    """Value of the frame."""

    def draw(self, keys: Keys, side: int) -> Drawn:
        """Draw the upper left corner of the window in the framed image, in px."""
        positions = side + 2 * self.padding - self.size + 1
        if positions < 1:
            raise UsageError(
                f"random_crop: {self.size} px do not fit into {side} px with a frame of {self.padding} px",
                hint="choose a smaller size or a larger padding",
            )
        return {"left": keys.integers("left", positions), "top": keys.integers("top", positions)}

    def sampling(self) -> Sampling:
        """Return its fill."""
        return Sampling(fill=self.fill)

    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """Return the shift from the centre of the window to the centre of the image."""
        to_centre = (self.size - side) / 2.0 - self.padding
        return stack_matrices([[1.0, 0.0, drawn["left"] + to_centre], [0.0, 1.0, drawn["top"] + to_centre]])

    def out_side(self, side: int) -> int:
        """Return the side of the window."""
        return self.size
