"""base: what every file in the room `objectives` can do; representations of views in, a loss out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cellssl.learning.view import View
from cellssl.randomness import Keys

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64

    from cellssl.learning.view import ViewSettings


@dataclass(frozen=True)
class MethodInput:
    """What an objective is shown in one step: the views it asked for of the same b cells, as both encoders see them.

    The same in every process, whatever their number.
    """

    online: Float[Tensor, "queries b dim"]
    momentum: Float[Tensor, "keys b dim"]
    cells: Int64[Tensor, "b"]
    known: Mapping[str, Tensor] = field(default_factory=dict)
    """A value a cell of each column that its settings ask for."""
    pixels: Float[Tensor, "targets b pixels"] | None = None
    """The views that it wants to see itself, channel by channel and row by row."""
    keys: Keys | None = None
    """Chance of this step and branch, a key a cell."""
    alike: Callable[[int, str], Bool[Tensor, "b"]] | None = None
    """Cells to which a transform, by name, does the same in a view, by number, as in the first; on the CPU."""


class Objective(nn.Module, ABC):
    """Heads, queues and a loss; everything it must remember is a parameter or a buffer."""

    views = 2
    """How many views of a cell it wants."""
    online_views: tuple[int, ...] = (0, 1)
    """Which of them the trained encoder looks at."""
    momentum_views: tuple[int, ...] = ()
    """Which of them the momentum encoder looks at."""
    pixel_views: tuple[int, ...] = ()
    """Which of them it wants to see itself."""

    def shown(self, query: ViewSettings, key: ViewSettings) -> tuple[View, ...]:
        """The views of a cell, made of the transforms of its branch: the first is the query, all others are keys.

        Raises UsageError for transforms that make its task impossible.
        """
        return (View(query), *[View(key)] * (self.views - 1))

    def encode(self, encoder: nn.Module, crops: Float[Tensor, "v own c y x"], keys: Keys) -> Float[Tensor, "v own dim"]:
        """What an encoder makes of some views; `keys` are the chance of this process' own cells."""
        features: Tensor = encoder(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])
        return features

    @abstractmethod
    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss of one batch, and gauges to write down beside it."""

    uses_stop_gradient = False
    """Whether it learns from something that it makes of the very features and holds still, as SimSiam does its target:
    then its gradient is not that of its loss."""

    projects = True
    """Whether it has a projector; a classifier or a decoder is none."""

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """What its projector makes of representations, which `embed` can give in their place."""
        raise NotImplementedError

    @property
    def queue_is_full(self) -> bool:
        """Whether all that it compares with is real; before that its loss means little."""
        return True

    def after_step(self) -> None:
        """Called once the optimiser has stepped: move momentum heads, fill queues."""

    @property
    def momentum(self) -> float:
        """How slowly the shared momentum encoder follows; 0 where nobody looks at it."""
        return 0.0


@torch.no_grad()
def ema_update(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Move `slow` towards `fast`: slow = momentum * slow + (1 - momentum) * fast (MoCo, arXiv:1911.05722, equation 2).

    Running statistics of batch norm are each network's own and stay.
    """
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1 - momentum)  # one fused pass
