"""color_jitter: drawn factors and their order in, changed brightness, contrast, saturation and hue out
(torchvision's).
"""

from __future__ import annotations

from functools import cache
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cellssl.learning.transform import (
    Drawn,
    Factor,
    Photometric,
    change_cells,
    factor_range,
    number_or_pair,
    require_rgb,
    symmetric_range,
    to_gray,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Bool, Float, Int64
    from torch import Tensor

    from cellssl.randomness import Keys


class Settings(Photometric):
    """Change brightness, contrast, saturation and hue of all channels together, in a random order for every cell."""

    brightness: Factor = 0.0
    """Factor by which the image is multiplied. A number b means between 1 - b (not below 0) and 1 + b; a pair is [low,
    high]."""
    contrast: Factor = 0.0
    """Factor of the difference from the mean gray; given like `brightness`."""
    saturation: Factor = 0.0
    """Factor of the difference from the pixel's own gray; given like `brightness`; needs 3 channels."""
    hue: Annotated[float | tuple[float, float], number_or_pair(-0.5, 0.5)] = 0.0
    """Shift of the hue as a share of a full turn. A number h means between -h and h; a pair is [low, high]; needs 3
    channels."""
    p: float = Field(1.0, ge=0, le=1)
    """Probability per cell."""

    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Draw three factors, a turn of the hue and an order.

        A cell that stays unchanged has factors of 1, a turn of 0 and the default order. Raises UsageError for
        saturation or hue on crops that do not have 3 channels.
        """
        import torch

        if self.saturation or self.hue:
            require_rgb("color_jitter with saturation or hue", channels, "use channel_jitter, which works per channel")
        hit = keys.chance("hit", self.p)
        ranges = {name: factor_range(getattr(self, name)) for name in ("brightness", "contrast", "saturation")}
        drawn = keys.uniforms(**ranges, hue=symmetric_range(self.hue))
        chosen = {name: drawn[name].where(hit, nothing) for name, _, nothing in OPERATIONS}
        changes = torch.stack([chosen[name] != nothing for name, _, nothing in OPERATIONS], dim=1)
        order = keys.permutation("order", 4).where(changes.any(dim=1, keepdim=True), torch.arange(4))
        return {**chosen, "order": order, "operations": number_of(order, changes)}

    def alike(self, drawn: Drawn) -> Int64[Tensor, "n"]:
        """Return the number of the operations that change each cell."""
        return drawn["operations"]

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Apply the four operations, in the order of every cell."""
        if crops.device.type == "cpu":
            return run_by_run(crops, drawn)
        return position_by_position(crops, drawn)


def run_by_run(crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
    """Apply all operations to neighbours with the same order of them, then to the next, in place.

    So a CPU keeps them in its cache, and torch is called once for all of them.
    """
    found = [(number, len(list(run))) for number, run in groupby(drawn["operations"].tolist())]
    lengths = [length for _, length in found]
    exact = {**drawn, "hue": drawn["hue"].double()}  # its small turn is rounded once, at the end
    split = [exact[name].view(-1, 1, 1, 1).split_with_sizes(lengths) for name, _, _ in OPERATIONS]
    for (number, _), some, *amounts in zip(found, crops.split_with_sizes(lengths), *split, strict=True):
        for operation in operations_of(number):
            OPERATIONS[operation][1](some, amounts[operation])
    return crops


def number_of(order: Int64[Tensor, "n 4"], changes: Bool[Tensor, "n 4"]) -> Int64[Tensor, "n"]:
    """Return a number per cell whose digits to base 5 are its operations that change something, plus 1, in order."""
    import torch

    digits = (order + 1) * changes.gather(1, order)
    number = torch.zeros(len(digits), dtype=torch.long)
    for digit in digits.unbind(1):
        number = torch.where(digit > 0, number * 5 + digit, number)
    return number


@cache
def operations_of(number: int) -> tuple[int, ...]:
    """Return the operations of a number of `number_of`, in their order."""
    before, digit = divmod(number, 5)
    return (*operations_of(before), digit - 1) if number else ()


def position_by_position(crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
    """Apply the operations in four rounds, in place.

    In round i every operation is applied at once to all cells that have it as their i-th.
    """
    for place in drawn["order"].unbind(1):
        for number, (name, change, nothing) in enumerate(OPERATIONS):
            change_cells(crops, (place == number) & (drawn[name] != nothing), change, drawn[name])
    return crops


def adjust_brightness(crops: Float[Tensor, "n c y x"], factor: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c y x"]:
    """Multiply by a factor, in place."""
    return crops.mul_(factor).clamp_(0.0, 1.0)


def adjust_contrast(crops: Float[Tensor, "n c y x"], factor: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n c y x"]:
    """Multiply the difference from the mean gray, in place.

    Crops without 3 channels use the mean of all pixels instead.
    """
    mean = crops.mean(dim=(2, 3), keepdim=True)
    mean = to_gray(mean) if crops.shape[1] == 3 else mean.mean(dim=1, keepdim=True)
    plane = mean.expand(-1, 1, *crops.shape[2:]).contiguous()  # on a CPU five times as fast as one number per cell
    return lerp_from(plane, crops, factor)


def adjust_saturation(crops: Float[Tensor, "n 3 y x"], factor: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n 3 y x"]:
    """Multiply the difference from the pixel's own gray, in place."""
    return lerp_from(to_gray(crops), crops, factor)


def lerp_from(
    gray: Float[Tensor, "n 1 y x"], crops: Float[Tensor, "n c y x"], factor: Float[Tensor, "n 1 1 1"]
) -> Float[Tensor, "n c y x"]:
    """Multiply the difference from a gray, in place; clip values to 0 and 1."""
    import torch

    return torch.lerp(gray, crops, factor, out=crops).clamp_(0.0, 1.0)


def adjust_hue(crops: Float[Tensor, "n 3 y x"], turn: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n 3 y x"]:
    """Shift the hue by a share of a full turn, in place: whole thirds exchange channels, the rest is a small turn."""
    thirds = (3.0 * turn + 0.5).floor()
    adjust_hue_up_to_a_sixth(crops, turn - thirds / 3.0)
    return roll_channels(crops, thirds)


def roll_channels(crops: Float[Tensor, "n 3 y x"], thirds: Float[Tensor, "n 1 1 1"]) -> Float[Tensor, "n 3 y x"]:
    """Give every channel the values of the channel `thirds` before it, in place."""
    import torch

    if crops.device.type == "cpu" and not thirds.any():  # on a GPU the question would cost more than the answer saves
        return crops
    source = (torch.arange(3, device=crops.device).view(3, 1, 1) - thirds.long()) % 3
    return crops.copy_(crops.gather(1, source.expand_as(crops)))


def adjust_hue_up_to_a_sixth(
    crops: Float[Tensor, "n 3 y x"], turn: Float[Tensor, "n 1 1 1"]
) -> Float[Tensor, "n 3 y x"]:
    """Shift the hue by at most a sixth of a turn, in place; a pixel's lightest and darkest channel keep their values.

    In HSV (Smith 1978, doi:10.1145/965139.807361), over a full turn a channel stays at the lightest value for a third,
    falls for a sixth, stays at the darkest for a third and rises for a sixth: a triangle wave, clipped at both values.
    No hue is computed here. Before clipping, the wave equals twice the channel less the middle one of the three. The
    two other channels say whether the wave falls or rises: it depends on which of them is larger. A sixth of a turn
    moves it by lightest - darkest. The peak and the trough are a sixth of a turn beyond the clipping, so a turn past
    them is still clipped.
    """
    import torch

    red, green, blue = crops.chunk(3, dim=1)
    smaller, larger = torch.minimum(red, green), torch.maximum(red, green)
    low, high = torch.minimum(smaller, blue), torch.maximum(larger, blue)
    middle = torch.maximum(torch.minimum(larger, blue, out=larger), smaller, out=larger)
    change = torch.sub(low, high, out=smaller).mul_((6.0 * turn).to(crops.dtype))
    # The comparison is stored as 1.0 or 0.0: on a CPU ten times as fast as a mask and `where`.
    rises = torch.empty_like(crops)
    for channel, one, other in zip(rises.chunk(3, dim=1), (green, blue, red), (blue, red, green), strict=True):
        torch.lt(one, other, out=channel)
    wave = torch.addcmul(torch.sub(change, middle, out=middle), rises, change, value=-2.0, out=rises)
    return torch.clamp(wave.add_(crops, alpha=2.0), low, high, out=crops)


OPERATIONS: tuple[tuple[str, Callable[[Tensor, Tensor], Tensor], float], ...] = (
    ("brightness", adjust_brightness, 1.0),
    ("contrast", adjust_contrast, 1.0),
    ("saturation", adjust_saturation, 1.0),
    ("hue", adjust_hue, 0.0),
)
"""In torchvision's numbering: name, the operation in place, and the value that changes nothing."""
