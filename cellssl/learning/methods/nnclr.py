"""nnclr: the module behind `nnclr`: InfoNCE whose anchors are former cells most similar to a view."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellssl.learning.methods.base import MethodInput
from cellssl.learning.methods.contrastive_loss import contrast, gauges
from cellssl.learning.methods.heads import l2_normalize, mlp, per_view
from cellssl.learning.methods.queue import Queued
from cellssl.learning.methods.siamese import nearest

if TYPE_CHECKING:
    from jaxtyping import Float, Int64

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.objectives.nnclr import Settings


class NnClr(Queued):
    """State: projector, predictor, a queue of former projections of first views."""

    def __init__(self, settings: Settings, task: BuildContext) -> None:
        super().__init__()
        self.settings = settings
        self.options = settings.options(settings.temperature)
        wide, dim = settings.hidden_dim, settings.dim
        self.projector = mlp([task.in_dim, wide, wide, dim], task.seed, f"{task.branch}.projector", last_norm=True)
        self.predictor = mlp([dim, settings.predictor_dim, dim], task.seed, f"{task.branch}.predictor")
        self.begin_queues(1, dim, settings.queue, task.seed, task.branch)

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The mean of both directions: the neighbour of one view against the predictions of the other."""
        projections = per_view(self.projector, seen.online)
        predicted = l2_normalize(per_view(self.predictor, projections))
        views = l2_normalize(projections).detach()
        neighbours = [nearest(view, self.queue[0]) for view in views]
        scores = [self._scores(neighbours[i], predicted[1 - i], seen.cells) for i in (0, 1)]
        loss = torch.stack([contrast(one, self.options) for one in scores]).mean()
        self.keep(views[:1], seen.cells)
        return loss, gauges(scores, views)

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Unit projections."""
        return l2_normalize(self.projector(features))

    def after_step(self) -> None:
        """Fill the queue."""
        self.enqueue()

    def _scores(
        self, neighbours: Float[Tensor, "b dim"], predicted: Float[Tensor, "b dim"], cells: Int64[Tensor, "b"]
    ) -> Float[Tensor, "b 1+b"]:
        """NN(z_i) . p_i, then NN(z_i) . p_k for the other cells k (NNCLR, arXiv:2104.14548)."""
        every = neighbours @ predicted.T / self.settings.temperature
        others = every.masked_fill(cells[:, None] == cells[None, :], -torch.inf)
        return torch.cat([every.diagonal()[:, None], others], dim=1)
