"""siamese: the modules of `byol`, `nnbyol` and `simsiam`: the projection of one view predicted from another view."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cellssl.learning.methods.base import MethodInput, Objective, ema_update
from cellssl.learning.methods.contrastive_loss import projection_spread
from cellssl.learning.methods.heads import l2_normalize, mlp, per_view
from cellssl.learning.methods.queue import QueuedObjective

if TYPE_CHECKING:
    from jaxtyping import Float

    from cellssl.learning.methods.build_context import BuildContext


def regression_loss(predicted: Float[Tensor, "b dim"], target: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """Return |p / |p| - z / |z||^2 = 2 - 2 cos(p, z), averaged over cells (BYOL, arXiv:2006.07733, equation 2).

    The target gets no gradient.
    """
    return 2 - 2 * F.cosine_similarity(predicted, target.detach(), dim=-1).mean()


def nearest_neighbours(queries: Float[Tensor, "b dim"], among: Float[Tensor, "dim k"]) -> Float[Tensor, "b dim"]:
    """Return for each unit vector the most similar column."""
    return among.T[(queries @ among).argmax(dim=1)]


class Byol(Objective):
    """BYOL. State: a projector, a predictor, and the momentum copy of the projector."""

    momentum_views = (0, 1)

    def __init__(self, context: BuildContext, *, hidden_dim: int, dim: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        seed, branch = context.seed, context.branch
        self.projector = mlp([context.in_dim, hidden_dim, dim], seed, f"{branch}.projector")
        self.predictor = mlp([dim, hidden_dim, dim], seed, f"{branch}.predictor")
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the sum over both directions (BYOL, arXiv:2006.07733).

        It is 0 for perfect predictions, and 4 for predictions that are orthogonal to their targets.
        """
        projections = per_view(self.projector, inputs.online)
        predicted = per_view(self.predictor, projections)
        with torch.no_grad():
            targets = self.targets(per_view(self.momentum_projector, inputs.momentum), inputs)
        loss = regression_loss(predicted[0], targets[1]) + regression_loss(predicted[1], targets[0])
        return loss, {"projection_spread": projection_spread(l2_normalize(projections))}

    def targets(self, projections: Float[Tensor, "2 b dim"], inputs: MethodInput) -> Float[Tensor, "2 b dim"]:
        """Return the target that each view gives to the other view: its own momentum projection."""
        return projections

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Return projections."""
        projected: Tensor = self.projector(features)
        return projected

    def after_step(self) -> None:
        """Update the momentum projector."""
        ema_update(self.momentum_projector, self.projector, self.momentum)


class NnByol(Byol, QueuedObjective):
    """NNBYOL. State: that of BYOL, and a queue of former targets."""

    def __init__(self, context: BuildContext, *, hidden_dim: int, dim: int, queue_size: int, momentum: float) -> None:
        super().__init__(context, hidden_dim=hidden_dim, dim=dim, momentum=momentum)
        self.init_queues(1, dim, queue_size, context.seed, context.branch)

    def targets(self, projections: Float[Tensor, "2 b dim"], inputs: MethodInput) -> Float[Tensor, "2 b dim"]:
        """Return in place of each projection the most similar entry of the queue of former first views."""
        views = l2_normalize(projections)
        self.stage_for_queue(views[:1], inputs.cells)
        return torch.stack([nearest_neighbours(view, self.queue[0]) for view in views])

    def after_step(self) -> None:
        """Update the momentum projector, then put the targets of this step into the queue."""
        super().after_step()
        self.enqueue()


class SimSiam(Objective):
    """SimSiam. State: a projector and a predictor."""

    uses_stop_gradient = True  # targets

    def __init__(self, context: BuildContext, *, hidden_dim: int, dim: int, predictor_dim: int) -> None:
        super().__init__()
        seed, branch = context.seed, context.branch
        widths = [context.in_dim, hidden_dim, hidden_dim, dim]
        self.projector = mlp(widths, seed, f"{branch}.projector", last_norm=True)
        self.predictor = mlp([dim, predictor_dim, dim], seed, f"{branch}.predictor")

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return -(cos(p1, z2) + cos(p2, z1)) / 2; the targets z get no gradient (arXiv:2011.10566, equation 2)."""
        projections = per_view(self.projector, inputs.online)
        predicted = per_view(self.predictor, projections)
        similarity = F.cosine_similarity(predicted, projections.flip(0).detach(), dim=-1)
        return -similarity.mean(), {"projection_spread": projection_spread(l2_normalize(projections))}

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Return projections."""
        projected: Tensor = self.projector(features)
        return projected
