"""ressl: one view for the student and one for the teacher in, the difference of their relations to former cells out.

ReSSL (Zheng et al. 2021, arXiv:2107.09282). In the paper the teacher gets the weaker augmentations: `views.key` of the
branch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objective import ObjectiveSettings
from cellssl.learning.objectives._shared_settings import check_queue, fitted_queue

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """Predict the similarities of a cell to former cells that a momentum teacher finds in another view (ReSSL,
    arXiv:2107.09282). The teacher gets views.key, which should have the weaker transforms."""

    hidden_dim: int = Field(1024, ge=1)
    """Width of the projector's hidden layer."""
    dim: int = Field(256, ge=2)
    """Size of a projection."""
    queue: int = Field(1024, ge=1)
    """Number of former keys with which cells are compared. Where the recipe does not name it, fewer training cells get
    a shorter one."""
    temperature: float = Field(0.1, gt=0)
    """Temperature of the student's softmax."""
    teacher_temperature: float = Field(0.04, gt=0)
    """Temperature of the teacher's softmax; a lower value gives sharper targets."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """Momentum of the teacher: the nearer to 1, the more slowly it follows."""

    def check(self, cells: int) -> None:
        """Raise UsageError where every cell would be compared with itself."""
        check_queue(self, self.queue, cells, holds="keys")

    def encoder_momentum(self) -> float:
        """Return `momentum`."""
        return self.momentum

    def fitted_queue(self, cells: int, batch: int) -> int:
        """Return the length of the queue for so many training cells."""
        return fitted_queue(self.queue, cells, batch)

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own projector and queue."""
        from cellssl.learning.methods.ressl import ReSsl

        return ReSsl(
            context,
            hidden_dim=self.hidden_dim,
            dim=self.dim,
            queue_size=self.fitted_queue(len(context.cells), context.batch),
            temperature=self.temperature,
            teacher_temperature=self.teacher_temperature,
            momentum=self.momentum,
        )
