"""moco: the module of `moco`: a projector, its momentum copy, queues of keys, and a loss of the InfoNCE family."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cellssl.learning.methods.base import MethodInput, ema_update
from cellssl.learning.methods.contrastive_loss import contrastive_loss, diagnostics
from cellssl.learning.methods.queue import QueuedObjective
from cellssl.learning.weight_init import init_weights

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.methods.contrastive_loss import ContrastiveOptions


def logits(
    queries: Float[Tensor, "b dim"],
    keys: Float[Tensor, "b dim"],
    queue: Float[Tensor, "dim k"],
    same_cell: Bool[Tensor, "b k"] | None,
    temperature: float,
) -> Float[Tensor, "b k+1"]:
    """Return the similarity of each query to its key, then to every key of the queue, divided by the temperature.

    All vectors have length 1. Pairs with `same_cell` are left out: their score is -inf.
    """
    positive = (queries * keys).sum(dim=1, keepdim=True)  # (b, 1)
    negative = queries @ queue  # (b, k)
    if same_cell is not None:
        negative = negative.masked_fill(same_cell, -torch.inf)
    return torch.cat([positive, negative], dim=1) / temperature


class Moco(QueuedObjective):
    """MoCo v2 and v2+. State: a projector, its momentum copy, and one queue per direction."""

    momentum_views: tuple[int, ...] = (0, 1)

    def __init__(
        self,
        context: BuildContext,
        *,
        hidden_dim: int,
        dim: int,
        queue_size: int,
        momentum: float,
        symmetric: bool,
        mask_same_cell: bool,
        options: ContrastiveOptions,
    ) -> None:
        super().__init__()
        self.momentum, self.symmetric, self.mask_same_cell = momentum, symmetric, mask_same_cell
        self.options = options
        self.projector = nn.Sequential(
            nn.Linear(context.in_dim, hidden_dim), nn.ReLU(inplace=True), nn.Linear(hidden_dim, dim)
        )
        init_weights(self.projector, context.seed, f"{context.branch}.projector")
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)
        if not symmetric:
            self.online_views, self.momentum_views = (0,), (1,)
        self.init_queues(len(self.momentum_views), dim, queue_size, context.seed, context.branch)

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the loss of view 0 against keys of view 1, averaged with the other direction where symmetric."""
        queries = F.normalize(self.projector(inputs.online), dim=-1)  # (q, b, dim)
        with torch.no_grad():
            keys = F.normalize(self.momentum_projector(inputs.momentum), dim=-1)
        keys = keys.flip(0)  # (q, b, dim): key i, of the other view, is the positive of query i
        masks = self.mask_same_cell or inputs.same is not None
        scores = self._scores(queries, keys, inputs.identities if masks else None)
        loss = torch.stack([contrastive_loss(one, self.options) for one in scores]).mean()
        self.stage_for_queue(keys, inputs.identities)
        return loss, diagnostics(scores, queries)

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Return unit projections."""
        return F.normalize(self.projector(features), dim=-1)

    def after_step(self) -> None:
        """Update the momentum projector, then put the keys of this step into the queues."""
        ema_update(self.momentum_projector, self.projector, self.momentum)
        self.enqueue()

    def _scores(
        self, queries: Float[Tensor, "q b dim"], keys: Float[Tensor, "q b dim"], masked: Int64[Tensor, "b"] | None
    ) -> list[Float[Tensor, "b k+1"]]:
        """Return scores per direction; queue i holds former positives of queries i.

        Queue 0 thus holds keys of second views, queue 1 keys of first views. Former keys of the cells `masked`, or of
        their treatments, are left out.
        """
        same_cell = None if masked is None else masked[:, None] == self.queue_cells[None, :]
        return [
            logits(query, key, queue, same_cell, self.options.temperature)
            for query, key, queue in zip(queries, keys, self.queue, strict=True)
        ]
