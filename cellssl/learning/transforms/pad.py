"""pad: crops in, crops with a frame of fixed size (torchvision's Pad) or of random size out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cellssl.learning.transform import Drawn, Geometric, Sampling, stack_matrices

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys

Share = Annotated[float, Field(ge=0, le=2)]


class Settings(Geometric):
    """Put a frame around the image, so that the cell does not fill it."""

    padding: int | tuple[Share, Share] = 4
    """A whole number: px on every side, by which the image grows. A pair of shares [low, high]: the width of the frame
    is drawn for every cell between these shares of the side, and the framed image is shrunk to its former size."""
    fill: float = Field(0.0, ge=0, le=1)
    """Value of the frame."""

    def draw(self, keys: Keys, side: int) -> Drawn:
        """Draw the width of the frame as a share of the side."""
        low, high = self.padding if isinstance(self.padding, tuple) else (self.padding / side, self.padding / side)
        return {"share": keys.uniform("share", low, high).double()}

    def sampling(self) -> Sampling:
        """Return its fill."""
        return Sampling(fill=self.fill)

    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """Return a scale about the centre; a drawn frame shrinks the image by as much as it adds."""
        import torch

        grown = 1.0 + 2.0 * drawn["share"] if isinstance(self.padding, tuple) else torch.ones_like(drawn["share"])
        return stack_matrices([[grown, 0.0, 0.0], [0.0, grown, 0.0]])

    def out_side(self, side: int) -> int:
        """Return the side with its frame in px; the former side where the frame is drawn."""
        return side if isinstance(self.padding, tuple) else side + 2 * self.padding
