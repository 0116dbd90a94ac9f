"""elastic: a smooth random field of shifts per cell in, crops with bent outlines out (torchvision's
ElasticTransform).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cellssl.device import to_device
from cellssl.errors import UsageError
from cellssl.learning.transform import Drawn, Interpolation, Sampling, Standalone, change_cells, number_or_pair
from cellssl.randomness import Keys

if TYPE_CHECKING:
    from jaxtyping import Float, Int64
    from torch import Tensor


class Settings(Standalone):
    """Shift every pixel a little, and its neighbours by nearly the same, so that outlines bend.

    No matrix describes this, so it resamples the crop by itself and is not joined with its neighbours in the chain.
    """

    alpha: Annotated[float | tuple[float, float], number_or_pair(0, ordered=False)] = 50.0
    """Strength: the standard deviation of the shifts is about alpha / (12 sigma) px; or a pair [x, y]."""
    sigma: Annotated[float | tuple[float, float], number_or_pair(0.1, ordered=False)] = 5.0
    """Standard deviation in px of the Gaussian that smooths the shifts; or a pair [x, y]."""
    interpolation: Interpolation = "bilinear"
    """How values between pixels are computed."""
    fill: float = Field(0.0, ge=0, le=1)
    """Value outside the image."""
    p: float = Field(1.0, ge=0, le=1)
    """Probability per cell."""

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Draw which cells are bent, and the key from which the shifts of every pixel are made."""
        return {"hit": keys.chance("hit", self.p), "key": keys.fold("pixels").values}

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Bend the drawn cells; the field of shifts is made on the device of the crops."""
        change_cells(crops, drawn["hit"], self._bend, drawn["key"])
        return crops

    def displacement(self, key: Int64[Tensor, "n"], side: int) -> Float[Tensor, "n side side 2"]:
        """Return shifts along x and y of every pixel, in halves of the side: uniform noise, smoothed.

        Raises UsageError where the Gaussian, which is cut off at 4 sigma, does not fit the crop.
        """
        import torch

        bits = Keys(key).pixels(side * side, parts=2).view(len(key), side, side, 2)
        even = (bits >> 8).to(torch.float32) * 2.0**-23  # the 24 bits that a float32 holds: from -1 to below 1
        shifts = [
            self._smooth(field[:, None], strength / side, int(8.0 * width + 1.0) // 2)
            for field, strength, width in zip(even.unbind(3), pair(self.alpha), pair(self.sigma), strict=True)
        ]
        return torch.cat(shifts, dim=1).permute(0, 2, 3, 1)

    def _smooth(self, field: Float[Tensor, "n 1 y x"], strength: float, reach: int) -> Float[Tensor, "n 1 y x"]:
        """Smooth along x and along y, with Gaussians that end `reach` px away."""
        import torch
        import torch.nn.functional as F

        from cellssl.learning.transforms.gaussian_blur import gaussian

        if reach >= field.shape[-1]:
            raise UsageError(
                f"elastic: sigma {self.sigma} needs more than {reach} px, the crops have {field.shape[-1]} px",
                hint=f"choose a sigma below {(2 * field.shape[-1] - 1) / 8:g}",
            )
        along_x, along_y = to_device(gaussian(torch.tensor(pair(self.sigma)), 2 * reach + 1), field.device)
        field = F.conv2d(F.pad(field, (reach,) * 4, mode="reflect"), along_x[None, None, None, :] * strength)
        return F.conv2d(field, along_y[None, None, :, None])

    def _bend(self, crops: Float[Tensor, "n c y x"], key: Int64[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c y x"]:
        import torch

        from cellssl.learning.warp import sample

        side = crops.shape[-1]
        at = (2.0 * torch.arange(side, device=crops.device) + 1.0) / side - 1.0
        identity = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1)
        grid = self.displacement(key.flatten(), side) + identity
        return crops.copy_(sample(crops, grid, Sampling(self.interpolation, self.fill)))


def pair(value: float | tuple[float, float]) -> tuple[float, float]:
    """Return a pair as it is, and a number twice."""
    return value if isinstance(value, tuple) else (value, value)
