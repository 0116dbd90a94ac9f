"""ressl: the module of `ressl`: similarities of one view to former cells, predicted from another view of the cell."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellssl.learning.methods.base import MethodInput, ema_update
from cellssl.learning.methods.contrastive_loss import projection_spread
from cellssl.learning.methods.heads import l2_normalize, mlp
from cellssl.learning.methods.queue import QueuedObjective

if TYPE_CHECKING:
    from jaxtyping import Float

    from cellssl.learning.methods.build_context import BuildContext


def relational_loss(
    student: Float[Tensor, "b k"],
    teacher: Float[Tensor, "b k"],
    student_temperature: float,
    teacher_temperature: float,
) -> Float[Tensor, ""]:
    """Return H(softmax(teacher / τt), softmax(student / τs)), averaged over cells (ReSSL, arXiv:2107.09282)."""
    target = (teacher / teacher_temperature).softmax(dim=1).detach()
    return -(target * (student / student_temperature).log_softmax(dim=1)).sum(dim=1).mean()


class ReSsl(QueuedObjective):
    """ReSSL. State: a projector, its momentum copy, and a queue of former keys."""

    online_views = (0,)
    momentum_views = (1,)

    def __init__(
        self,
        context: BuildContext,
        *,
        hidden_dim: int,
        dim: int,
        queue_size: int,
        temperature: float,
        teacher_temperature: float,
        momentum: float,
    ) -> None:
        super().__init__()
        self.temperature, self.teacher_temperature, self.momentum = temperature, teacher_temperature, momentum
        widths = [context.in_dim, hidden_dim, dim]
        self.projector = mlp(widths, context.seed, f"{context.branch}.projector")
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.init_queues(1, dim, queue_size, context.seed, context.branch)

    def forward(self, inputs: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Return the relational loss: the student gets the query, the teacher gets the key."""
        query = self.project(inputs.online[0])
        with torch.no_grad():
            key = l2_normalize(self.momentum_projector(inputs.momentum[0]))
        queue = self.queue[0]
        loss = relational_loss(query @ queue, key @ queue, self.temperature, self.teacher_temperature)
        self.stage_for_queue(key[None], inputs.cells)
        return loss, {"projection_spread": projection_spread(query[None])}

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Return unit projections."""
        return l2_normalize(self.projector(features))

    def after_step(self) -> None:
        """Update the teacher's projector, then put the keys of this step into the queue."""
        ema_update(self.momentum_projector, self.projector, self.momentum)
        self.enqueue()
