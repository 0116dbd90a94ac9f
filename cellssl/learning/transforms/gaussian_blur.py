"""gaussian_blur: a drawn standard deviation per cell in, crops smoothed with that Gaussian out (torchvision's
GaussianBlur).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from cellssl.errors import UsageError
from cellssl.learning.transform import Drawn, Photometric, change_cells, number_or_pair

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys

Width = Annotated[float | tuple[float, float], number_or_pair(lowest=0.01)]


class Settings(Photometric):
    """Smooth the image with a Gaussian, similar to a microscope that is out of focus."""

    kernel_size: int = Field(13, ge=1)
    """Side of the kernel in px; odd. A Gaussian that is wider than the kernel is cut off."""
    sigma: Width = (0.1, 2.0)
    """Standard deviation of the Gaussian in px, or a pair [low, high] between which it is drawn."""
    p: float = Field(1.0, ge=0, le=1)
    """Probability per cell."""

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd, got {value}")
        return value

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Draw which cells are smoothed, and the standard deviation."""
        low, high = self.sigma if isinstance(self.sigma, tuple) else (self.sigma, self.sigma)
        return {"hit": keys.chance("hit", self.p), "sigma": keys.uniform("sigma", low, high)}

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Smooth the columns, then the rows; the image is mirrored at its edges.

        Raises UsageError where half the kernel is not smaller than the crop.
        """
        if self.kernel_size // 2 >= crops.shape[-1]:
            raise UsageError(
                f"gaussian_blur: a kernel of {self.kernel_size} px is too large for {crops.shape[-1]} px",
                hint=f"choose a kernel_size of at most {2 * crops.shape[-1] - 1}",
            )
        change_cells(crops, drawn["hit"], self._smooth, drawn["sigma"])
        return crops

    def _smooth(self, crops: Float[Tensor, "n c y x"], sigma: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c y x"]:
        import torch.nn.functional as F

        cells, channels, height = crops.shape[:3]
        kernel = gaussian(sigma.flatten(), self.kernel_size).repeat_interleave(channels, dim=0)[:, None]
        beyond = self.kernel_size // 2
        planes = F.pad(crops, (beyond,) * 4, mode="reflect").view(1, cells * channels, height + 2 * beyond, -1)
        planes = F.conv2d(planes, kernel[:, :, :, None], groups=cells * channels)
        planes = F.conv2d(planes, kernel[:, :, None, :], groups=cells * channels)
        return crops.copy_(planes.view_as(crops)).clamp_(0.0, 1.0)


def gaussian(sigma: Float[Tensor, "n"], size: int) -> Float[Tensor, "n size"]:
    """Return one Gaussian per cell, with a sum of 1."""
    import torch

    at = torch.arange(size, device=sigma.device) - size // 2
    return torch.softmax(-0.5 * (at / sigma[:, None]).square(), dim=1)
