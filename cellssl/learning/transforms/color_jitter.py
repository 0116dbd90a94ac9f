"""color_jitter: drawn factors and their order in, changed brightness, contrast, saturation and hue out
(torchvision's).
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cellssl.learning.transform import (
    Amount,
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

    from jaxtyping import Float, UInt8
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
        changed = torch.stack([chosen[name] != nothing for name, _, nothing in OPERATIONS]).any(dim=0)
        return {**chosen, "order": keys.permutation("order", 4).where(changed[:, None], torch.arange(4))}

    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Apply the four operations, in the order of every cell."""
        return cell_by_cell(crops, drawn) if crops.device.type == "cpu" else position_by_position(crops, drawn)

    def apply_to_bytes(self, crops: UInt8[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """On a CPU, convert each crop just before its operations, so that it is in the cache."""
        import torch

        if crops.device.type != "cpu":
            return super().apply_to_bytes(crops, drawn)
        return cell_by_cell(torch.empty(crops.shape), drawn, source=crops)


CELL_BY_CELL_LOCK = Lock()
"""Held while a thread works cell by cell. Such a thread calls torch every few microseconds, and each call needs
Python's own lock; two such threads would wait for each other longer than they work. Meanwhile the other threads
resample."""


def cell_by_cell(
    crops: Float[Tensor, "n c y x"], drawn: Drawn, source: UInt8[Tensor, "n c y x"] | None = None
) -> Float[Tensor, "n c y x"]:
    """Apply all operations to one crop, then to the next, in place: on a CPU each crop then stays in the cache.

    Where there is a source in bytes, each crop is first read from it.
    """
    amounts = zip(*(drawn[name].tolist() for name, _, _ in OPERATIONS), strict=True)
    sources = [None] * len(crops) if source is None else source.split(1)
    with CELL_BY_CELL_LOCK:
        for crop, read, order, given in zip(crops.split(1), sources, drawn["order"].tolist(), amounts, strict=True):
            if read is not None:
                crop.copy_(read).mul_(1.0 / 255.0)
            for number in order:
                _, change, nothing = OPERATIONS[number]
                if given[number] != nothing:
                    change(crop, given[number])
    return crops


def position_by_position(crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
    """Apply the operations in four rounds, in place.

    In round i every operation is applied at once to all cells that have it as their i-th.
    """
    for place in drawn["order"].unbind(1):
        for number, (name, change, nothing) in enumerate(OPERATIONS):
            change_cells(crops, (place == number) & (drawn[name] != nothing), change, drawn[name])
    return crops


def adjust_brightness(crops: Float[Tensor, "n c y x"], factor: Amount) -> Float[Tensor, "n c y x"]:
    """Multiply by a factor, in place."""
    return clamp_to_range(crops.mul_(factor), factor)


def adjust_contrast(crops: Float[Tensor, "n c y x"], factor: Amount) -> Float[Tensor, "n c y x"]:
    """Multiply the difference from the mean gray, in place.

    Crops without 3 channels use the mean of all pixels instead.
    """
    import torch

    mean = crops.mean(dim=(2, 3), keepdim=True)
    mean = to_gray(mean) if crops.shape[1] == 3 else mean.mean(dim=1, keepdim=True)
    return clamp_to_range(torch.lerp(mean, crops, factor, out=crops), factor)


def adjust_saturation(crops: Float[Tensor, "n 3 y x"], factor: Amount) -> Float[Tensor, "n 3 y x"]:
    """Multiply the difference from the pixel's own gray, in place."""
    import torch

    return clamp_to_range(torch.lerp(to_gray(crops), crops, factor, out=crops), factor)


def clamp_to_range(crops: Float[Tensor, "n c y x"], factor: Amount) -> Float[Tensor, "n c y x"]:
    """Clip values to 0 and 1, in place; a factor of at most 1 cannot leave that range, so nothing is done for it."""
    return crops if isinstance(factor, float) and factor <= 1.0 else crops.clamp_(0.0, 1.0)


def adjust_hue(crops: Float[Tensor, "n 3 y x"], turn: Amount) -> Float[Tensor, "n 3 y x"]:
    """Shift the hue by a share of a full turn, in place: whole thirds exchange channels, the rest is a small turn."""
    thirds = (3.0 * turn + 0.5) // 1.0
    adjust_hue_up_to_a_sixth(crops, turn - thirds / 3.0)
    return roll_channels(crops, thirds)


def roll_channels(crops: Float[Tensor, "n 3 y x"], thirds: Amount) -> Float[Tensor, "n 3 y x"]:
    """Give every channel the values of the channel `thirds` before it, in place."""
    import torch

    if isinstance(thirds, float):
        return crops.copy_(crops.roll(int(thirds), dims=1)) if thirds else crops
    source = (torch.arange(3, device=crops.device).view(3, 1, 1) - thirds.long()) % 3
    return crops.copy_(crops.gather(1, source.expand_as(crops)))


def adjust_hue_up_to_a_sixth(crops: Float[Tensor, "n 3 y x"], turn: Amount) -> Float[Tensor, "n 3 y x"]:
    """Shift the hue by at most a sixth of a turn, in place; a pixel's lightest and darkest channel keep their values.

    In HSV (Smith 1978, doi:10.1145/965139.807361), over a full turn a channel stays at the lightest value for a third,
    falls for a sixth, stays at the darkest for a third and rises for a sixth: a triangle wave, clipped at both values.
    No hue is computed here. Before clipping, the wave equals twice the channel less the middle one of the three. The
    two other channels say whether the wave falls or rises: it depends on which of them is larger. A sixth of a turn
    moves it by lightest - darkest. The peak and the trough are a sixth of a turn beyond the clipping, so a turn past
    them is still clipped.
    """
    import torch

    red, green, blue = crops.split(1, dim=1)
    smaller, larger = torch.minimum(red, green), torch.maximum(red, green)
    low, high = torch.minimum(smaller, blue), torch.maximum(larger, blue)
    middle = torch.maximum(torch.minimum(larger, blue, out=larger), smaller, out=larger)
    change = torch.sub(low, high, out=smaller).mul_(6.0 * turn)
    # The comparison is stored as 1.0 or 0.0: on a CPU ten times as fast as a mask and `where`.
    rises = torch.empty_like(crops)
    for channel, one, other in zip(rises.split(1, dim=1), (green, blue, red), (blue, red, green), strict=True):
        torch.lt(one, other, out=channel)
    wave = torch.addcmul(torch.sub(change, middle, out=middle), rises, change, value=-2.0, out=rises)
    return torch.clamp(wave.add_(crops, alpha=2.0), low, high, out=crops)


OPERATIONS: tuple[tuple[str, Callable[[Tensor, Amount], Tensor], float], ...] = (
    ("brightness", adjust_brightness, 1.0),
    ("contrast", adjust_contrast, 1.0),
    ("saturation", adjust_saturation, 1.0),
    ("hue", adjust_hue, 0.0),
)
"""In torchvision's numbering: name, the operation in place, and the value that changes nothing."""
