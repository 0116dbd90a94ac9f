"""nnclr: the module of `nnclr`: InfoNCE whose anchors are the former cells that are most similar to a view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellssl.learning.methods.base import MethodInput
from cellssl.learning.methods.contrastive_loss import contrastive_loss, diagnostics
from cellssl.learning.methods.heads import l2_normalize, mlp, per_view
from cellssl.learning.methods.queue import QueuedObjective
from cellssl.learning.methods.siamese import nearest_neighbours

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.methods.contrastive_loss import ContrastiveOptions


class NnClr(QueuedObjective):
    """NNCLR. State: a projector, a predictor, and a queue of former projections of first views."""

    def __init__(
        self,
        context: BuildContext,
        *,
        hidden_dim: int,
        dim: int,
        predictor_dim: int,
        queue_size: int,
        options: ContrastiveOptions,
    ) -> None:
        super().__init__()
        self.options = options
        seed, branch = context.seed, context.branch
        widths = [context.in_dim, hidden_dim, hidden_dim, dim]
        self.projector = mlp(widths, seed, f"{branch}.projector", last_norm=True)
        self.predictor = mlp([dim, predictor_dim, dim], seed, f"{branch}.predictor")
        self.init_queues(1, dim, queue_size, seed, branch)

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the mean of both directions: neighbours of one view against predictions from the other view."""
        projections = per_view(self.projector, inputs.online)
        predicted = l2_normalize(per_view(self.predictor, projections))
        views = l2_normalize(projections).detach()
        neighbours = [nearest_neighbours(view, self.queue[0]) for view in views]
        scores = [self._scores(neighbours[i], predicted[1 - i], inputs.identities) for i in (0, 1)]
        loss = torch.stack([contrastive_loss(one, self.options) for one in scores]).mean()
        self.stage_for_queue(views[:1], inputs.cells)
        return loss, diagnostics(scores, views)

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Return unit projections."""
        return l2_normalize(self.projector(features))

    def after_step(self) -> None:
        """Put the projections of this step into the queue."""
        self.enqueue()

    def _scores(
        self, neighbours: Float[Tensor, "b dim"], predicted: Float[Tensor, "b dim"], cells: Int64[Tensor, "b"]
    ) -> Float[Tensor, "b 1+b"]:
        """Return NN(z_i) . p_i, then NN(z_i) . p_k for the other cells k (NNCLR, arXiv:2104.14548)."""
        all_pairs = neighbours @ predicted.T / self.options.temperature
        others = all_pairs.masked_fill(cells[:, None] == cells[None, :], -torch.inf)
        return torch.cat([all_pairs.diagonal()[:, None], others], dim=1)
