"""nnbyol: features of two views of each cell from two encoders in, the error of predicting the other's neighbour out.

BYOL (arXiv:2006.07733) whose target is the nearest former target, as in NNCLR (arXiv:2104.14548); solo-learn's name.
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
    """Predict the former cell that is most similar to the other view (NNBYOL: BYOL, arXiv:2006.07733, with the
    neighbours of NNCLR, arXiv:2104.14548)."""

    hidden_dim: int = Field(1024, ge=1)
    """Width of the hidden layers of projector and predictor."""
    dim: int = Field(256, ge=2)
    """Size of a projection."""
    queue: int = Field(1024, ge=1)
    """Number of former targets among which the nearest neighbour is searched. Where the recipe does not name it, fewer
    training cells get a shorter one."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """Momentum of the momentum encoder: the nearer to 1, the more slowly it follows."""

    def check(self, cells: int) -> None:
        """Raise UsageError where every cell would find itself in the queue."""
        check_queue(self, self.queue, cells, holds="targets")

    def encoder_momentum(self) -> float:
        """Return `momentum`."""
        return self.momentum

    def fitted_queue(self, cells: int, batch: int) -> int:
        """Return the length of the queue for so many training cells."""
        return fitted_queue(self.queue, cells, batch)

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own heads and queue."""
        from cellssl.learning.methods.siamese import NnByol

        return NnByol(
            context,
            hidden_dim=self.hidden_dim,
            dim=self.dim,
            queue_size=self.fitted_queue(len(context.cells), context.batch),
            momentum=self.momentum,
        )
