"""random_resized_crop: crops in, a window of random area, shape and place resized to one side out (torchvision's)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from cellssl.learning.transform import Drawn, Geometric, Interpolation, Sampling, stack_matrices

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


TRIES = 10
"""How often a window that does not fit is drawn again, as in torchvision."""

Positive = Annotated[float, Field(gt=0)]


class Settings(Geometric):
    """Cut a random window and resize it, so that the cell appears at another size and place."""

    scale: tuple[Positive, Positive] = (0.08, 1.0)
    """Smallest and largest area of the window, as a share of the image's area."""
    ratio: tuple[Positive, Positive] = (3 / 4, 4 / 3)
    """Smallest and largest ratio of width to height."""
    beyond: Literal["whole", "pad"] = "whole"
    """What happens to a window that does not fit into the image. `whole`: it is drawn again up to ten times and is then
    the whole image, as in torchvision (36 % of draws with scale [0.9, 1.1]). `pad`: it may reach past the edge (zoom
    out)."""
    size: int | None = Field(None, ge=1)
    """Side in px after the resize; by default the image's own side."""
    interpolation: Interpolation = "bilinear"
    """How values between pixels are computed."""
    fill: float = Field(0.0, ge=0, le=1)
    """Value outside the image, with `pad`."""

    @model_validator(mode="after")
    def _in_order(self) -> Settings:
        for name, (low, high) in (("scale", self.scale), ("ratio", self.ratio)):
            if low > high:
                raise ValueError(f"{name} must be [low, high], got [{low:g}, {high:g}]")
        return self

    def draw(self, keys: Keys, side: int) -> Drawn:
        """Draw width, height, left and top of the window in px; it lies in the middle where no draw fitted."""
        width, height, fits = self._shape(keys, side)
        return {
            "width": width,
            "height": height,
            "left": window_start(keys.uniform("left"), side - width).where(fits, ((side - width) / 2).floor()),
            "top": window_start(keys.uniform("top"), side - height).where(fits, ((side - height) / 2).floor()),
        }

    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """Return a scale about the centre of the window, and the shift of that centre to the centre of the image."""
        out = self.out_side(side)
        width, height = drawn["width"].double(), drawn["height"].double()
        x, y = drawn["left"] + (width - side) / 2.0, drawn["top"] + (height - side) / 2.0
        return stack_matrices([[width / out, 0.0, x], [0.0, height / out, y]])

    def out_side(self, side: int) -> int:
        """Return the side after the resize."""
        return self.size or side

    def averages(self, side: int) -> bool:
        """Return whether the image is more than twice as large as its new side."""
        return side > 2 * self.out_side(side)

    def sampling(self) -> Sampling:
        """Return its interpolation, and its fill with `pad`, the only case that reads past the edge."""
        return Sampling(self.interpolation, self.fill if self.beyond == "pad" else None)

    def _shape(self, keys: Keys, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return width and height in px of the first draw of ten that fits, or of a substitute, and whether one
        fits.
        """
        import torch

        if self.beyond == "pad":
            width, height = self._one_shape(keys, side)
            return width.clamp(min=1.0), height.clamp(min=1.0), torch.ones(len(keys), dtype=torch.bool)
        widths, heights = self._one_shape(keys.fold_each(*(("try", attempt) for attempt in range(TRIES))), side)
        fits = (widths > 0) & (widths <= side) & (heights > 0) & (heights <= side)
        first, found = fits.long().argmax(dim=1, keepdim=True), fits.any(dim=1)
        wide, high = self._middle_shape(side)
        return (
            widths.gather(1, first)[:, 0].where(found, wide),
            heights.gather(1, first)[:, 0].where(found, high),
            found,
        )

    def _one_shape(self, keys: Keys, side: int) -> tuple[Tensor, Tensor]:
        """Return width and height of one draw, which may be larger than the image."""
        area = side**2 * keys.uniform("area", *self.scale).double()
        ratio = keys.uniform("ratio", math.log(self.ratio[0]), math.log(self.ratio[1])).double().exp()
        return (area * ratio).sqrt().round(), (area / ratio).sqrt().round()

    def _middle_shape(self, side: int) -> tuple[int, int]:
        """Return the largest window that fits and whose ratio is allowed."""
        narrowest, widest = self.ratio
        return round(side * min(1.0, widest)), round(side * min(1.0, 1.0 / narrowest))


def window_start(share: Tensor, room: Tensor) -> Tensor:
    """Return where the window begins, in whole px from 0 to `room`.

    `room` is negative for a window larger than the image.
    """
    return (share * (room.abs() + 1)).floor().copysign(room)
