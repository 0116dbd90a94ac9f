"""pad: a frame around the image (torchvision's Pad), or one of a size drawn for every cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cellssl.learning.transform import Drawn, Geometric, stack_matrices

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys

Share = Annotated[float, Field(ge=0, le=2)]


class Settings(Geometric):
    """Put a frame around the image, so that the cell does not fill the picture."""

    padding: int | tuple[Share, Share] = 4
    """Whole number: px on every side, by which the canvas grows. Pair: a share of the side between these two, drawn
    for every cell; the framed image is then shrunk onto the former canvas."""
    fill: float = Field(0.0, ge=0, le=1)
    """Value of the frame."""

    def draw(self, keys: Keys, side: int) -> Drawn:
        """The frame as a share of the side."""
        low, high = self.padding if isinstance(self.padding, tuple) else (self.padding / side, self.padding / side)
        return {"share": keys.uniform("share", low, high).double()}

    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """The centre stays; a drawn frame shrinks the image by as much as it adds."""
        import torch

        grown = 1.0 + 2.0 * drawn["share"] if isinstance(self.padding, tuple) else torch.ones_like(drawn["share"])
        return stack_matrices([[grown, 0.0, 0.0], [0.0, grown, 0.0]])

    def out_side(self, side: int) -> int:
        """The canvas with a frame in px; the former canvas with a drawn one."""
        return side if isinstance(self.padding, tuple) else side + 2 * self.padding
