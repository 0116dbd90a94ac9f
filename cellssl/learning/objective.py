"""objective: what every file in the room `objectives` can do; representations of views in, a loss out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float, Int64


@dataclass(frozen=True)
class Seen:
    """What an objective is shown in one step: the views it asked for of the same b cells, as both encoders see them."""

    online: Float[Tensor, "queries b dim"]
    momentum: Float[Tensor, "keys b dim"]
    cells: Int64[Tensor, "b"]


class Objective(nn.Module, ABC):
    """Heads, queues and a loss; everything it must remember is a parameter or a buffer."""

    views = 2
    """How many views of a cell it wants."""
    online_views: tuple[int, ...] = (0, 1)
    """Which of them the trained encoder looks at."""
    momentum_views: tuple[int, ...] = (0, 1)
    """Which of them the momentum encoder looks at."""

    @abstractmethod
    def forward(self, seen: Seen) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The loss of one batch, and gauges to write down beside it."""

    @property
    def warm(self) -> bool:
        """Whether all that it compares with is real; before that its loss means little."""
        return True

    @abstractmethod
    def after_step(self) -> None:
        """Called once the optimiser has stepped: move momentum heads, fill queues."""

    def head(self, *, momentum: bool) -> nn.Module:
        """What representations go through before they are compared, the trained one or the one that follows it."""
        return nn.Identity()

    @property
    @abstractmethod
    def momentum(self) -> float:
        """How slowly the shared momentum encoder follows."""


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Move `slow` towards `fast`: slow = momentum * slow + (1 - momentum) * fast (MoCo, arXiv:1911.05722, equation 2).

    Running statistics of batch norm are each network's own and stay.
    """
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1 - momentum)  # one fused pass
