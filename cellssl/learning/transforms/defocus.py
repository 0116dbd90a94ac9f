"""defocus: a drawn radius per cell in, crops as seen through a lens out of focus out: every point becomes a disc."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cellssl.errors import UsageError
from cellssl.learning.transform import Drawn, Photometric, change_cells, number_or_pair

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys

Radius = Annotated[float | tuple[float, float], number_or_pair(lowest=0, highest=64)]

SLICES = 32
"""Number of slices into which a pixel is divided to compute how much of it the disc covers."""


class Settings(Photometric):
    """Blur with a disc, as a microscope that is out of focus does.

    A Gaussian is always brightest in its middle. A disc is not: it turns a small spot into an even disc, and can make a
    thin line look double.
    """

    radius: Radius = (0.5, 3.0)
    """Radius of the disc in px, or a pair [low, high] between which it is drawn; a radius up to 0.5 changes nothing."""
    p: float = Field(1.0, ge=0, le=1)
    """Probability per cell."""

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Draw which cells are blurred, and the radius of their discs."""
        low, high = self.radius if isinstance(self.radius, tuple) else (self.radius, self.radius)
        return {"hit": keys.chance("hit", self.p), "radius": keys.uniform("radius", low, high)}

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Return the mean over the disc around every pixel; the image is mirrored at its edges.

        Raises UsageError where the largest disc is as large as the crop.
        """
        reach = self._reach()
        if reach >= crops.shape[-1]:
            raise UsageError(
                f"defocus: a radius of {self._largest():g} px is too large for {crops.shape[-1]} px",
                hint=f"choose a radius of at most {crops.shape[-1] - 0.5}",
            )
        change_cells(crops, drawn["hit"], self._spread, drawn["radius"])
        return crops

    def _reach(self) -> int:
        """Return how many pixels away from the centre the largest disc still covers part of a pixel."""
        return math.ceil(self._largest() - 0.5)

    def _largest(self) -> float:
        return self.radius[1] if isinstance(self.radius, tuple) else self.radius

    def _spread(self, crops: Float[Tensor, "n c y x"], radius: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c y x"]:
        import torch.nn.functional as F

        cells, channels, height = crops.shape[:3]
        reach = self._reach()
        kernel = disc(radius.flatten(), reach).repeat_interleave(channels, dim=0)[:, None]
        planes = F.pad(crops, (reach,) * 4, mode="reflect").view(1, cells * channels, height + 2 * reach, -1)
        return crops.copy_(F.conv2d(planes, kernel, groups=cells * channels).view_as(crops)).clamp_(0.0, 1.0)


def disc(radius: Float[Tensor, "n"], reach: int) -> Float[Tensor, "n size size"]:
    """Return the share of every pixel that a disc covers, with a sum of 1, on 2 reach + 1 px.

    A pixel is divided into slices along x; within a slice the covered length is exact.
    """
    import torch

    rows = torch.arange(-reach, reach + 1, device=radius.device, dtype=radius.dtype)
    columns = rows[:, None] + (torch.arange(SLICES, device=radius.device) + 0.5) / SLICES - 0.5
    chord = (radius[:, None, None].clamp(min=0.5).square() - columns.square()).clamp_(min=0.0).sqrt()[:, None]
    above, below = rows[:, None, None] + 0.5, rows[:, None, None] - 0.5  # the edges of a row of pixels
    covered = (torch.minimum(chord, above) - torch.maximum(-chord, below)).clamp_(min=0.0).mean(dim=-1)
    return covered / covered.sum(dim=(1, 2), keepdim=True)
