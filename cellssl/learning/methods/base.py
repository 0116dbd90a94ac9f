"""base: the base class of every objective's module; features of a batch's views in, a loss and diagnostics out."""

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
    """Input of an objective in one training step: features of the views that it asks for, all of the same b cells.

    It holds the whole batch, and is the same in every process, however many processes there are.
    """

    online: Float[Tensor, "queries b dim"]
    """Features from the trained encoder, one slice per view in `online_views`."""
    momentum: Float[Tensor, "keys b dim"]
    """Features from the momentum encoder, one slice per view in `momentum_views`."""
    cells: Int64[Tensor, "b"]
    """Keys of the cells."""
    metadata: Mapping[str, Tensor] = field(default_factory=dict)
    """One value per cell, for each column that the objective's settings ask for."""
    pixels: Float[Tensor, "targets b pixels"] | None = None
    """Pixels of the views in `pixel_views`, channel by channel and row by row."""
    keys: Keys | None = None
    """Random keys of this step and branch, one per cell."""
    same_draw: Callable[[int, str], Bool[Tensor, "b"]] | None = None
    """`same_draw(view, transform)`: the cells to which a transform does the same in a view as in view 0; on the CPU."""
    same: Int64[Tensor, "b"] | None = None
    """With positives from metadata: equal numbers for cells of one treatment, which are no negatives of each other."""

    @property
    def identities(self) -> Int64[Tensor, "b"]:
        """Equal numbers for cells that are no negatives of each other: `same`, or else the keys of the cells."""
        return self.cells if self.same is None else self.same


class Objective(nn.Module, ABC):
    """Base class of all objectives: heads, queues and a loss.

    Everything that an objective must remember between steps is a parameter or a buffer. With positives from metadata,
    views besides the first are of another cell of the same treatment; the batch still has the cells of the first view.
    """

    n_views = 2
    """Number of views per cell."""
    online_views: tuple[int, ...] = (0, 1)
    """Views that the trained encoder gets."""
    momentum_views: tuple[int, ...] = ()
    """Views that the momentum encoder gets."""
    pixel_views: tuple[int, ...] = ()
    """Views whose pixels the objective itself needs."""
    momentum: float = 0.0
    """Momentum of the shared momentum encoder; 0 for an objective that does not use one."""
    uses_stop_gradient = False
    """Whether a target is computed from the same features that the loss trains, and then detached, as in SimSiam: the
    gradient is then not the derivative of the loss."""
    has_projector = True
    """Whether there is a projector; a classifier or a decoder is not a projector."""

    def make_views(self, query: ViewSettings, key: ViewSettings) -> tuple[View, ...]:
        """Return the views of a cell, made of the transforms of the branch: first the query, then the keys.

        Raises UsageError for transforms that make the task impossible.
        """
        return (View(query), *[View(key)] * (self.n_views - 1))

    def encode(
        self, encoder: nn.Module, crops: Float[Tensor, "v share c y x"], keys: Keys
    ) -> Float[Tensor, "v share dim"]:
        """Return the features of some views; crops and random keys are those of this process' share of the batch."""
        features: Tensor = encoder(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])
        return features

    @abstractmethod
    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss of one batch, and diagnostics to log with it."""

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Return projections of features, which `embed` can write in place of the features."""
        raise NotImplementedError

    @property
    def queue_is_full(self) -> bool:
        """Whether everything that the loss compares with is real data; before that, the loss means little."""
        return True

    def after_step(self) -> None:
        """Update momentum heads and queues; called once after every step of the optimiser."""


@torch.no_grad()
def ema_update(slow: nn.Module, fast: nn.Module, momentum: float) -> None:
    """Move `slow` towards `fast`: slow = momentum * slow + (1 - momentum) * fast (MoCo, arXiv:1911.05722, equation 2).

    Running statistics of batch norm are not touched: each network keeps its own.
    """
    torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), 1 - momentum)  # one fused pass
