"""siamese: the modules behind `byol`, `nnbyol` and `simsiam`: one view's projection told from the other's."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cellssl.learning.methods.base import MethodInput, Objective, ema_update
from cellssl.learning.methods.contrastive_loss import spread_of
from cellssl.learning.methods.heads import l2_normalize, mlp, per_view
from cellssl.learning.methods.queue import Queued

if TYPE_CHECKING:
    from jaxtyping import Float

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.objectives import byol, nnbyol, simsiam


def told(predicted: Float[Tensor, "b dim"], target: Float[Tensor, "b dim"]) -> Float[Tensor, ""]:
    """|p / |p| - z / |z||^2 = 2 - 2 cos(p, z), averaged over cells (BYOL, arXiv:2006.07733, equation 2).

    The target is held still.
    """
    return 2 - 2 * F.cosine_similarity(predicted, target.detach(), dim=-1).mean()


def nearest(asked: Float[Tensor, "b dim"], among: Float[Tensor, "dim k"]) -> Float[Tensor, "b dim"]:
    """For each unit vector the most similar column."""
    return among.T[(asked @ among).argmax(dim=1)]


class Byol(Objective):
    """State: projector, predictor, momentum projector."""

    momentum_views = (0, 1)

    def __init__(self, settings: byol.Settings | nnbyol.Settings, task: BuildContext) -> None:
        super().__init__()
        self.settings = settings
        wide, dim = settings.hidden_dim, settings.dim
        self.projector = mlp([task.in_dim, wide, dim], task.seed, f"{task.branch}.projector")
        self.predictor = mlp([dim, wide, dim], task.seed, f"{task.branch}.predictor")
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)

    @property
    def momentum(self) -> float:
        """How slowly the target follows."""
        return self.settings.momentum

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The sum over both directions (BYOL, arXiv:2006.07733): 0 when each is told, 4 when told nothing."""
        projections = per_view(self.projector, seen.online)
        predicted = per_view(self.predictor, projections)
        with torch.no_grad():
            targets = self.targets(per_view(self.momentum_projector, seen.momentum), seen)
        loss = told(predicted[0], targets[1]) + told(predicted[1], targets[0])
        return loss, {"projection_spread": spread_of(l2_normalize(projections))}

    def targets(self, projections: Float[Tensor, "2 b dim"], seen: MethodInput) -> Float[Tensor, "2 b dim"]:
        """What is to be told of each view."""
        return projections

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Projections."""
        projected: Tensor = self.projector(features)
        return projected

    def after_step(self) -> None:
        """Move the momentum projector."""
        ema_update(self.momentum_projector, self.projector, self.momentum)


class NnByol(Byol, Queued):
    """State: besides, a queue of former targets."""

    def __init__(self, settings: nnbyol.Settings, task: BuildContext) -> None:
        super().__init__(settings, task)
        self.begin_queues(1, settings.dim, settings.queue, task.seed, task.branch)

    def targets(self, projections: Float[Tensor, "2 b dim"], seen: MethodInput) -> Float[Tensor, "2 b dim"]:
        """In the place of each projection, the most similar former one of a first view."""
        views = l2_normalize(projections)
        self.keep(views[:1], seen.cells)
        return torch.stack([nearest(view, self.queue[0]) for view in views])

    def after_step(self) -> None:
        """Move the momentum projector, then fill the queue."""
        super().after_step()
        self.enqueue()


class SimSiam(Objective):
    """State: projector, predictor."""

    uses_stop_gradient = True  # targets

    def __init__(self, settings: simsiam.Settings, task: BuildContext) -> None:
        super().__init__()
        wide, dim = settings.hidden_dim, settings.dim
        name = f"{task.branch}.projector"
        self.projector = mlp([task.in_dim, wide, wide, dim], task.seed, name, last_norm=True)
        self.predictor = mlp([dim, settings.predictor_dim, dim], task.seed, f"{task.branch}.predictor")

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """-(cos(p1, z2) + cos(p2, z1)) / 2, the z held still (SimSiam, arXiv:2011.10566, equation 2)."""
        projections = per_view(self.projector, seen.online)
        predicted = per_view(self.predictor, projections)
        alike = F.cosine_similarity(predicted, projections.flip(0).detach(), dim=-1)
        return -alike.mean(), {"projection_spread": spread_of(l2_normalize(projections))}

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Projections."""
        projected: Tensor = self.projector(features)
        return projected
