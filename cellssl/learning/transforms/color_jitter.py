"""color_jitter: factors and an order a cell -> changed brightness, contrast, saturation and hue (torchvision's)."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from cellssl.learning.transform import (
    Amount,
    Drawn,
    Factor,
    Photometric,
    symmetric_range,
    change_cells,
    factor_range,
    to_gray,
    require_rgb,
    number_or_pair,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float, UInt8
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
        """Three factors, a turn and an order; a cell that is left alone has factors of 1, a turn of 0, and no order.

        Raises UsageError for saturation or hue on crops that do not have 3 channels.
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
        """Four operations, in the order of every cell."""
        return cell_by_cell(crops, drawn) if crops.device.type == "cpu" else position_by_position(crops, drawn)

    def apply_to_bytes(self, crops: UInt8[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """On a CPU a crop is converted when its turn comes, and is then in the cache."""
        import torch

        if crops.device.type != "cpu":
            return super().apply_to_bytes(crops, drawn)
        return cell_by_cell(torch.empty(crops.shape), drawn, source=crops)


CELL_BY_CELL_LOCK = Lock()
"""Held while a thread works cell by cell: it calls torch every few microseconds, for which it needs Python's own lock,
and two such threads would wait for each other longer than they work. Meanwhile the others resample."""


def cell_by_cell(
    crops: Float[Tensor, "n c y x"], drawn: Drawn, source: UInt8[Tensor, "n c y x"] | None = None
) -> Float[Tensor, "n c y x"]:
    """All operations on one crop, then on the next, in place: on a CPU, where a crop then stays in the cache.

    Where there is a source in bytes, each crop is first read from there.
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
    """Four rounds, in place; in each every operation is done to the cells whose order puts it there, all at once."""
    for place in drawn["order"].unbind(1):
        for number, (name, change, nothing) in enumerate(OPERATIONS):
            change_cells(crops, (place == number) & (drawn[name] != nothing), change, drawn[name])
    return crops


def adjust_brightness(crops: Float[Tensor, "n c y x"], factor: Amount) -> Float[Tensor, "n c y x"]:
    """Multiplied, in place."""
    return clamp_to_range(crops.mul_(factor), factor)


def adjust_contrast(crops: Float[Tensor, "n c y x"], factor: Amount) -> Float[Tensor, "n c y x"]:
    """Further from the mean gray, in place; of crops that are not red, green and blue, from the mean of all pixels."""
    import torch

    mean = crops.mean(dim=(2, 3), keepdim=True)
    mean = to_gray(mean) if crops.shape[1] == 3 else mean.mean(dim=1, keepdim=True)
    return clamp_to_range(torch.lerp(mean, crops, factor, out=crops), factor)


def adjust_saturation(crops: Float[Tensor, "n 3 y x"], factor: Amount) -> Float[Tensor, "n 3 y x"]:
    """Further from the pixel's own gray, in place."""
    import torch

    return clamp_to_range(torch.lerp(to_gray(crops), crops, factor, out=crops), factor)


def clamp_to_range(crops: Float[Tensor, "n c y x"], factor: Amount) -> Float[Tensor, "n c y x"]:
    """Values kept between 0 and 1, in place; a factor of at most 1 does not lead out of there."""
    return crops if isinstance(factor, float) and factor <= 1.0 else crops.clamp_(0.0, 1.0)


def adjust_hue(crops: Float[Tensor, "n 3 y x"], turn: Amount) -> Float[Tensor, "n 3 y x"]:
    """Hue shifted by a share of a full turn, in place: by whole thirds, which exchange the channels, and a rest."""
    thirds = (3.0 * turn + 0.5) // 1.0
    adjust_hue_up_to_a_sixth(crops, turn - thirds / 3.0)
    return roll_channels(crops, thirds)


def roll_channels(crops: Float[Tensor, "n 3 y x"], thirds: Amount) -> Float[Tensor, "n 3 y x"]:
    """Every channel gets the values of the one that is `thirds` before it, in place."""
    import torch

    if isinstance(thirds, float):
        return crops.copy_(crops.roll(int(thirds), dims=1)) if thirds else crops
    source = (torch.arange(3, device=crops.device).view(3, 1, 1) - thirds.long()) % 3
    return crops.copy_(crops.gather(1, source.expand_as(crops)))


def adjust_hue_up_to_a_sixth(crops: Float[Tensor, "n 3 y x"], turn: Amount) -> Float[Tensor, "n 3 y x"]:
    """Hue shifted by at most a sixth of a turn, in place; lightest and darkest channel of a pixel keep their values.

    In HSV (Smith 1978, doi:10.1145/965139.807361), over a full turn a channel rests at the lightest value for a third,
    falls for a sixth, rests at the darkest for a third and rises for a sixth: a triangle wave, cut off at both values.
    No hue is computed here. Before the cut the wave stands at twice the channel less the middle one of the three, as
    the other two say; which of those is larger says whether it falls or rises; and a sixth of a turn moves it by
    lightest - darkest. A turn past its peak or trough, which are a sixth beyond the cut, stays beyond the cut.
    """
    import torch

    red, green, blue = crops.split(1, dim=1)
    smaller, larger = torch.minimum(red, green), torch.maximum(red, green)
    low, high = torch.minimum(smaller, blue), torch.maximum(larger, blue)
    middle = torch.maximum(torch.minimum(larger, blue, out=larger), smaller, out=larger)
    change = torch.sub(low, high, out=smaller).mul_(6.0 * turn)
    # A comparison is written as 1.0 or 0.0: on a CPU ten times as fast as a mask and `where`.
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
"""In torchvision's numbering: name, what it does in place, and the value that changes nothing."""
