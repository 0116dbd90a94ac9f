"""transform: what a view is made of; keys of n cells -> drawn parameters -> where pixels come from or how they look."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import PlainValidator

from cellssl.config.settings import Plugin
from cellssl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Bool, Float, Float32, UInt8
    from torch import Tensor

    from cellssl.randomness import Keys

Interpolation = Literal["bilinear", "nearest"]
Drawn = dict[str, "Tensor"]
Amount = Union[float, "Tensor"]
"""One number for all crops, or one a crop, shaped (n, 1, 1, 1)."""

GRAY = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in gray (ITU-R BT.601, as torchvision rounds them)."""


@dataclass(frozen=True)
class Sampling:
    """How pixels are looked up; what is None, the neighbours in the chain decide.

    A transform whose `fill` is None never looks past the edge of the canvas.
    """

    interpolation: Interpolation | None = None
    fill: float | None = None


class Geometric(Plugin):
    """Says for every pixel of its output where in its input it lies; consecutive ones become one resampling."""

    @abstractmethod
    def draw(self, keys: Keys, side: int) -> Drawn:
        """Parameters for every cell, with the cells along the first axis; `side` is the canvas it is given, in px."""

    @abstractmethod
    def matrix(self, drawn: Drawn, side: int) -> Float[Tensor, "n 3 3"]:
        """From output to input pixels: (x, y, 1), x to the right, y down, in px from the centre of either canvas."""

    def out_side(self, side: int) -> int:
        """Side of its output in px."""
        return side

    def averages(self, side: int) -> bool:
        """Whether it averages detail away (a resize beyond twofold), which no later enlargement may bring back."""
        return False

    def sampling(self) -> Sampling:
        """The knobs `interpolation` and `fill`, where it has them."""
        return Sampling(getattr(self, "interpolation", None), getattr(self, "fill", None))


class Standalone(Plugin):
    """Changes crops by itself, without a matrix that could be joined with those of its neighbours."""

    @abstractmethod
    def draw(self, keys: Keys, channels: int) -> Drawn:
        """Parameters for every cell, with the cells along the first axis."""

    @abstractmethod
    def change(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """The changed crops, on their device; `crops` may be written over. Both lie in [0, 1]."""

    def apply(self, crops: Float[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """The changed crops; `crops` are left alone."""
        return self.change(crops.clone(), drawn)

    def apply_to_bytes(self, crops: UInt8[Tensor, "n c y x"], drawn: Drawn) -> Float[Tensor, "n c y x"]:
        """The changed crops, made of bytes; what goes cell by cell may convert them on its way."""
        return self.change(as_float(crops), drawn)

    def same_effect(self, one: Drawn, other: Drawn) -> Bool[Tensor, "n"]:
        """Cells to which both draws do the same: all numbers are equal, or neither `hit` says so."""
        import torch

        equal = torch.stack([(one[name] == other[name]).reshape(len(one[name]), -1).all(dim=1) for name in one]).all(
            dim=0
        )
        return equal | ~(one["hit"] | other["hit"]) if "hit" in one else equal


class Photometric(Standalone):
    """Changes how pixels look and leaves them where they are."""


def number_or_pair(lowest: float = -math.inf, highest: float = math.inf, *, ordered: bool = True) -> PlainValidator:
    """Validator of a knob that is a number or a pair, as in torchvision; `ordered` where the pair is [low, high]."""

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

    return PlainValidator(check)


Degrees = Annotated[float | tuple[float, float], number_or_pair()]
Factor = Annotated[float | tuple[float, float], number_or_pair(lowest=0)]


def symmetric_range(value: float | tuple[float, float], centre: float = 0.0) -> tuple[float, float]:
    """A pair as it is; a number as centre - number to centre + number."""
    return value if isinstance(value, tuple) else (centre - value, centre + value)


def factor_range(value: float | tuple[float, float]) -> tuple[float, float]:
    """The range of a factor: a pair as it is; a number around 1, and never below 0."""
    low, high = symmetric_range(value, 1.0)
    return max(low, 0.0), high


def stack_matrices(rows: list[list[Tensor | float]]) -> Float[Tensor, "n 3 3"]:
    """Stack the two upper rows of a 3 x 3 matrix, given as numbers or as one number a cell, in float64."""
    import torch

    count = next(len(entry) for row in rows for entry in row if isinstance(entry, torch.Tensor))
    rows = [*rows, [0.0, 0.0, 1.0]]
    entries = [torch.as_tensor(entry, dtype=torch.float64).expand(count) for row in rows for entry in row]
    return torch.stack(entries, dim=1).view(count, 3, 3)


def as_float(crops: Float[Tensor, "n c y x"] | UInt8[Tensor, "n c y x"]) -> Float32[Tensor, "n c y x"]:
    """Pixels in [0, 1]: bytes divided by 255, floats as they are."""
    return crops.float() if crops.is_floating_point() else crops.float().mul_(1.0 / 255.0)


def broadcast_to_crops(values: Tensor, crops: Float[Tensor, "n c y x"]) -> Tensor:
    """One value a cell (or a cell and channel), shaped and placed so that it can be multiplied with crops."""
    dtype = crops.dtype if values.is_floating_point() else None
    values = values.to(device=crops.device, dtype=dtype, non_blocking=True)  # does not wait for the device
    return values.reshape(*values.shape, *[1] * (crops.ndim - values.ndim))


def change_cells(
    crops: Float[Tensor, "n c y x"],
    which: Bool[Tensor, "n"],
    change: Callable[[Tensor, Tensor], Tensor],
    values: Tensor,
) -> None:
    """Replace some of the crops by `change(crops, values)` of these; `change` works in place.

    It gets the values shaped as `broadcast_to_crops` shapes them. `which` lies on the CPU, as all draws do.
    """
    if crops.device.type == "cpu":  # one by one: nothing is copied, and a crop stays in the cache
        shaped = broadcast_to_crops(values, crops)
        for cell in which.nonzero()[:, 0].tolist():
            change(crops[cell : cell + 1], shaped[cell : cell + 1])
    elif which.any():
        cells = which.nonzero()[:, 0]
        places = cells.to(crops.device, non_blocking=True)
        crops[places] = change(crops[places], broadcast_to_crops(values[cells], crops))


def require_rgb(name: str, channels: int, counterpart: str) -> None:
    """Raise UsageError where an operation on red, green and blue meets crops that have other channels."""
    if channels != 3:
        raise UsageError(f"{name} needs 3 channels, the crops have {channels}", hint=counterpart)


def to_gray(crops: Float[Tensor, "n 3 y x"]) -> Float[Tensor, "n 1 y x"]:
    """Weighted sum of red, green and blue."""
    red, green, blue = crops.split(1, dim=1)
    gray: Tensor = (red * GRAY[0]).add_(green, alpha=GRAY[1]).add_(blue, alpha=GRAY[2])
    return gray
