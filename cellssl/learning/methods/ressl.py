"""ressl: the module behind `ressl`: a cell's similarities to former cells, as one view has them told by the other."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellssl.learning.methods.base import MethodInput, ema_update
from cellssl.learning.methods.contrastive_loss import spread_of
from cellssl.learning.methods.heads import l2_normalize, mlp
from cellssl.learning.methods.queue import Queued

if TYPE_CHECKING:
    from jaxtyping import Float

    from cellssl.learning.methods.build_context import BuildContext
    from cellssl.learning.objectives.ressl import Settings


def relational(
    student: Float[Tensor, "b k"],
    teacher: Float[Tensor, "b k"],
    student_temperature: float,
    teacher_temperature: float,
) -> Float[Tensor, ""]:
    """H(softmax(teacher / τt), softmax(student / τs)), averaged over cells (ReSSL, arXiv:2107.09282)."""
    target = (teacher / teacher_temperature).softmax(dim=1).detach()
    return -(target * (student / student_temperature).log_softmax(dim=1)).sum(dim=1).mean()


class ReSsl(Queued):
    """State: projectors, and a queue of former keys."""

    online_views = (0,)
    momentum_views = (1,)

    def __init__(self, settings: Settings, task: BuildContext) -> None:
        super().__init__()
        self.settings = settings
        widths = [task.in_dim, settings.hidden_dim, settings.dim]
        self.projector = mlp(widths, task.seed, f"{task.branch}.projector")
        self.momentum_projector = copy.deepcopy(self.projector).requires_grad_(False)
        self.begin_queues(1, settings.dim, settings.queue, task.seed, task.branch)

    @property
    def momentum(self) -> float:
        """How slowly the teacher follows."""
        return self.settings.momentum

    def forward(self, seen: MethodInput) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """The student sees the query, the teacher the key."""
        query = self.project(seen.online[0])
        with torch.no_grad():
            key = l2_normalize(self.momentum_projector(seen.momentum[0]))
        knobs, queue = self.settings, self.queue[0]
        loss = relational(query @ queue, key @ queue, knobs.temperature, knobs.teacher_temperature)
        self.keep(key[None], seen.cells)
        return loss, {"projection_spread": spread_of(query[None])}

    def project(self, features: Float[Tensor, "b dim"]) -> Float[Tensor, "b out"]:
        """Unit projections."""
        return l2_normalize(self.projector(features))

    def after_step(self) -> None:
        """Move the teacher's projector, then fill the queue."""
        ema_update(self.momentum_projector, self.projector, self.momentum)
        self.enqueue()
