"""nnclr: two views of each cell in, InfoNCE between the nearest former cell of one view and the other view out.

NNCLR (Dwibedi et al. 2021, arXiv:2104.14548).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objectives._shared_settings import ContrastiveSettings, check_queue, fitted_queue

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ContrastiveSettings):
    """Recognise a view from the former cell that is most similar to the other view (NNCLR, arXiv:2104.14548)."""

    hidden_dim: int = Field(1024, ge=1)
    """Width of the projector's two hidden layers."""
    dim: int = Field(256, ge=2)
    """Size of a projection."""
    predictor_dim: int = Field(1024, ge=1)
    """Width of the predictor's hidden layer."""
    queue: int = Field(1024, ge=1)
    """Number of former projections among which the nearest neighbour is searched. Where the recipe does not name it,
    fewer training cells get a shorter one."""
    temperature: float = Field(0.2, gt=0)
    """Similarities are divided by it before the softmax."""

    def check(self, cells: int) -> None:
        """Raise UsageError where every cell would find itself in the queue."""
        check_queue(self, self.queue, cells, holds="projections")

    def fitted_queue(self, cells: int, batch: int) -> int:
        """Return the length of the queue for so many training cells."""
        return fitted_queue(self.queue, cells, batch)

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own heads and queue."""
        from cellssl.learning.methods.nnclr import NnClr

        return NnClr(
            context,
            hidden_dim=self.hidden_dim,
            dim=self.dim,
            predictor_dim=self.predictor_dim,
            queue_size=self.fitted_queue(len(context.cells), context.batch),
            options=self.options(self.temperature),
        )
