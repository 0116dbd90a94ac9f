"""transform: base classes of transforms; keys of n cells in, drawn parameters out, and with them changed crops."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PlainValidator

from cellssl.config.settings import Plugin
from cellssl.device import to_device
from cellssl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Bool, Float, Float32, Int64, UInt8
    from torch import Tensor

    from cellssl.randomness import Keys

Interpolation = Literal["bilinear", "nearest"]
Drawn = dict[str, "Tensor"]

GRAY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R BT.601, rounded as in torchvision)."""


@dataclass(frozen=True)
class Sampling:
    """How pixels are interpolated; where a value is None, the neighbours in the chain decide.

    A transform whose `fill` is None never reads past the edge of the canvas.
    """

    interpolation: Interpolation | None = None
    fill: float | None = None


class Geometric(Plugin):
    """Maps output pixels to positions in the input; consecutive geometric transforms become one resampling."""

    @abstractmethod
    def draw(self, keys: Keys, side: int) -> Drawn:
        """Draw parameters for every cell, with the cells along the first axis; `side` is that of the input in px."""

    @abstractmethod
    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """Return the matrices from output to input pixels: (x, y, 1), x right, y down, in px from either centre."""

    def out_side(self, side: int) -> int:
        """Return the side of the output in px."""
        return side

    def averages(self, side: int) -> bool:
        """Return whether it averages detail away (a resize beyond twofold); a later enlargement must not undo that."""
        return False

    def sampling(self) -> Sampling:
        """Return how pixels are interpolated; a transform that has settings for it overrides this."""
        return Sampling()


class Standalone(Plugin):
    """Changes crops by itself; there is no matrix that could be joined with those of its neighbours."""

    @abstractmethod
    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Draw parameters for every cell, with the cells along the first axis."""

    @abstractmethod
    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Return the changed crops, on their device; `crops` may be overwritten. Both lie in [0, 1]."""

    def apply(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """Return the changed crops; `crops` stay as they are."""
        return self.change(crops.clone(), drawn)

    def alike(self, drawn: Drawn) -> Int64[Tensor, "n"] | None:
        """Return a number per cell; a CPU changes neighbours with equal numbers in one go, so they are put together.

        None where the order of the cells makes no difference to the speed.
        """
        return None

    def same_effect(self, one: Drawn, other: Drawn) -> Bool[Tensor, "n"]:
        """Return the cells on which both draws have the same effect: equal numbers, or `hit` is false in both."""
        import torch

        equal = torch.stack([(one[name] == other[name]).reshape(len(one[name]), -1).all(dim=1) for name in one]).all(
            dim=0
        )
        return equal | ~(one["hit"] | other["hit"]) if "hit" in one else equal


class Photometric(Standalone):
    """Changes the values of pixels, and not their positions."""


def number_or_pair(lowest: float = -math.inf, highest: float = math.inf, *, ordered: bool = True) -> PlainValidator:
    """Return the validator of a number or a pair, as in torchvision; `ordered` if the pair is [low, high]."""

    def check(value: Any) -> float | tuple[float, float]:
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, bool) or not isinstance(number, int | float) for number in numbers):
            raise ValueError("must be a number or a pair of numbers")
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError("must be finite")
        if not all(lowest <= number <= highest for number in numbers):
            raise ValueError(f"must lie between {lowest:g} and {highest:g}")
        if not isinstance(value, tuple):
            return float(value)
        if len(value) != 2 or (ordered and value[0] > value[1]):
            raise ValueError(f"must be a number or a pair {'[low, high]' if ordered else 'of numbers'}")
        return float(value[0]), float(value[1])

    number = Annotated[float, Field(ge=lowest, le=highest)]
    return PlainValidator(check, json_schema_input_type=number | tuple[number, number])


Degrees = Annotated[float | tuple[float, float], number_or_pair()]
Factor = Annotated[float | tuple[float, float], number_or_pair(lowest=0)]


def symmetric_range(value: float | tuple[float, float], centre: float = 0.0) -> tuple[float, float]:
    """Return a pair as it is, and a number as (centre - number, centre + number)."""
    return value if isinstance(value, tuple) else (centre - value, centre + value)


def factor_range(value: float | tuple[float, float]) -> tuple[float, float]:
    """Return the range of a factor: a pair as it is; a number as a range around 1 that never goes below 0."""
    low, high = symmetric_range(value, 1.0)
    return max(low, 0.0), high


def stack_matrices(rows: list[list[Tensor | float]]) -> Float[Tensor, "n 3 3"]:
    """Stack the two upper rows of a 3 x 3 matrix, given as numbers or as one number per cell, in float64."""
    import torch

    count = next(len(entry) for row in rows for entry in row if isinstance(entry, torch.Tensor))
    matrices = torch.eye(3, dtype=torch.float64).repeat(count, 1, 1)
    for y, row in enumerate(rows):
        for x, entry in enumerate(row):
            if isinstance(entry, torch.Tensor) or entry != (x == y):  # the others are as in the identity
                matrices[:, y, x] = entry
    return matrices


def as_float(crops: Float[Tensor, "n c y x"] | UInt8[Tensor, "n c y x"]) -> Float32[Tensor, "n c y x"]:
    """Return pixels in [0, 1]: bytes divided by 255, floats as they are."""
    return crops.float() if crops.is_floating_point() else crops.float().mul_(1.0 / 255.0)


def broadcast_to_crops(values: Tensor, crops: Float[Tensor, "n c y x"]) -> Tensor:
    """Return one value per cell (or per cell and channel), with shape and device to be multiplied with crops."""
    values = to_device(values.to(crops.dtype) if values.is_floating_point() else values, crops.device)
    return values.reshape(*values.shape, *[1] * (crops.ndim - values.ndim))


def change_cells(
    crops: Float[Tensor, "n c y x"],
    which: Bool[Tensor, "n"],
    change: Callable[[Tensor, Tensor], Tensor],
    values: Tensor,
) -> None:
    """Replace the crops that `which` selects by `change(crops, values)`; `change` works in place.

    It gets the values shaped as by `broadcast_to_crops`. `which` lies on the CPU, as all draws do.
    """
    if crops.device.type == "cpu":  # one by one: nothing is copied, and a crop stays in the cache
        shaped = broadcast_to_crops(values, crops)
        for cell in which.nonzero()[:, 0].tolist():
            change(crops[cell : cell + 1], shaped[cell : cell + 1])
    elif which.any():
        cells = which.nonzero()[:, 0]
        rows = to_device(cells, crops.device)
        crops[rows] = change(crops[rows], broadcast_to_crops(values[cells], crops))


def require_rgb(name: str, channels: int, counterpart: str) -> None:
    """Raise UsageError where an operation on red, green and blue gets crops with another number of channels."""
    if channels != 3:
        raise UsageError(f"{name} needs 3 channels, the crops have {channels}", hint=counterpart)


def to_gray(crops: Float[Tensor, "n 3 y x"]) -> Float[Tensor, "n 1 y x"]:
    """Return the weighted sum of red, green and blue."""
    red, green, blue = crops.chunk(3, dim=1)
    gray: Tensor = (red * GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])
    return gray
