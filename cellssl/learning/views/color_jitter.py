"""color_jitter: factors and an order a cell -> changed brightness, contrast, saturation and hue (torchvision's)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cellssl.learning.transform import (
    Drawn,
    Factor,
    Photometric,
    around,
    change_rows,
    factors_of,
    gray_of,
    need_colour,
    number_or_pair,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Photometric):
    """Change brightness, contrast, saturation and hue of all channels together, in an order drawn for every cell."""

    brightness: Factor = 0.0
    """The image is multiplied by a factor: a number b means between 1 - b (not below 0) and 1 + b; or a pair."""
    contrast: Factor = 0.0
    """Factor of the distance from the mean gray; given like brightness."""
    saturation: Factor = 0.0
    """Factor of the distance from the pixel's own gray; given like brightness; needs 3 channels."""
    hue: Annotated[float | tuple[float, float], number_or_pair(-0.5, 0.5)] = 0.0
    """Share of a full turn of the hue: a number h means between -h and h; or a pair; needs 3 channels."""
    p: float = Field(1.0, ge=0, le=1)
    """Chance per cell."""

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Three factors, a turn and an order; a cell that is left alone has factors of 1 and a turn of 0.

        Raises UsageError for saturation or hue on crops that do not have 3 channels.
        """
        if self.saturation or self.hue:
            need_colour("color_jitter with saturation or hue", channels, "use channel_jitter, which works per channel")
        hit = keys.chance("hit", self.p)
        drawn = {
            name: keys.uniform(name, *factors_of(getattr(self, name))).sub_(1.0).mul_(hit).add_(1.0)
            for name in ("brightness", "contrast", "saturation")
        }
        return {**drawn, "hue": keys.uniform("hue", *around(self.hue)) * hit, "order": keys.permutation("order", 4)}

    def apply(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Four rounds; in each every cell gets the operation that its order puts there."""
        crops = crops.clone()
        for number, rows in rounds(drawn):
            name, change, _ = OPERATIONS[number]
            change_rows(crops, rows, change, drawn[name])
        return crops


def rounds(drawn: Drawn) -> list[tuple[int, list[int]]]:
    """Operations in the order in which they are done, each with the cells that get it then.

    Operations that change nothing are left out.
    """
    amounts = [drawn[name].tolist() for name, _, _ in OPERATIONS]
    groups: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for cell, order in enumerate(drawn["order"].tolist()):
        for place, number in enumerate(order):
            if amounts[number][cell] != OPERATIONS[number][2]:
                groups[place, number].append(cell)
    return [(number, cells) for (_, number), cells in sorted(groups.items())]


def brighten(crops: Float[Tensor, "n c y x"], factor: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c y x"]:
    """Multiplied, in place."""
    return crops.mul_(factor).clamp_(0.0, 1.0)


def stretch(crops: Float[Tensor, "n c y x"], factor: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c y x"]:
    """Further from the mean gray, in place; of crops that are not red, green and blue, from the mean of all pixels."""
    mean = crops.mean(dim=(2, 3), keepdim=True)
    mean = gray_of(mean) if crops.shape[1] == 3 else mean.mean(dim=1, keepdim=True)
    return crops.mul_(factor).add_(mean.mul_(1.0 - factor)).clamp_(0.0, 1.0)


def saturate(crops: Float[Tensor, "n 3 y x"], factor: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n 3 y x"]:
    """Further from the pixel's own gray, in place."""
    gray = gray_of(crops).mul_(1.0 - factor)
    return crops.mul_(factor).add_(gray).clamp_(0.0, 1.0)


def turn_hue(crops: Float[Tensor, "n 3 y x"], turn: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n 3 y x"]:
    """Hue shifted by a share of a full turn, in place; lightest and darkest channel of a pixel keep their values.

    With the hue in sixths of a turn from red, a channel falls from the lightest value at its own hue (0, 2, 4) to the
    darkest over the second sixth away from it (the inverse of HSV, Smith 1978, doi:10.1145/965139.807361). Green and
    blue go by the distance from their hue; red, whose hue lies on the seam, by that from the opposite hue, 3.
    """
    import torch

    hue, low, high = hue_of(crops)
    chroma = high - low
    hue.add_(turn, alpha=6.0)
    hue.sub_(torch.floor(hue / 6.0), alpha=6.0)
    for channel, peak in zip(crops.split(1, dim=1), (3.0, 2.0, 4.0), strict=True):
        torch.sub(hue, peak, out=channel)
    beyond = crops.abs_().sub_(1.0).clamp_(0.0, 1.0).mul_(chroma)
    beyond[:, :1].add_(low)
    torch.sub(high, beyond[:, 1:], out=beyond[:, 1:])
    return crops.clamp_(0.0, 1.0)


def hue_of(
    crops: Float[Tensor, "n 3 y x"],
) -> tuple[Float[Tensor, "n 1 y x"], Float[Tensor, "n 1 y x"], Float[Tensor, "n 1 y x"]]:
    """Hue of every pixel in sixths of a turn (0 red, 2 green, 4 blue; 0 for gray), its darkest and lightest value.

    The channels are put in order by two exchanges, each of which mirrors the hue. Whether they were exchanged is
    written as 1.0 or 0.0: on a CPU, ten times as fast as a mask and `where`.
    """
    import torch

    red, green, blue = crops.split(1, dim=1)
    first = torch.lt(green, blue, out=torch.empty_like(red))
    larger, smaller = torch.maximum(green, blue), torch.minimum(green, blue)
    second = torch.lt(red, larger, out=torch.empty_like(red))
    high, middle = torch.maximum(red, larger), torch.minimum(red, larger)
    low = torch.minimum(middle, smaller)
    seam = first.mul_(second.mul(12.0).sub_(6.0)).sub_(second, alpha=2.0)  # 0 or -6; exchanged, -2 or 4
    hue = middle.sub_(smaller).div_((high - low).clamp_(min=1e-12)).add_(seam).abs_()
    return hue, low, high


OPERATIONS: tuple[tuple[str, Callable[[Tensor, Tensor], Tensor], float], ...] = (
    ("brightness", brighten, 1.0),
    ("contrast", stretch, 1.0),
    ("saturation", saturate, 1.0),
    ("hue", turn_hue, 0.0),
)
"""In torchvision's numbering: name, what it does in place, and the value that changes nothing."""
