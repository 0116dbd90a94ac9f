"""nnclr: two views of each cell in, InfoNCE between one view's nearest former cell and the other view out.

NNCLR (Dwibedi et al. 2021, arXiv:2104.14548).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objectives._shared_settings import Contrastive, check_queue

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(Contrastive):
    """Recognise a view by the former cell most similar to the other view (NNCLR, arXiv:2104.14548)."""

    hidden_dim: int = Field(1024, ge=1)
    """Width of the projector's two hidden layers."""
    dim: int = Field(256, ge=2)
    """Numbers in a projection."""
    predictor_dim: int = Field(1024, ge=1)
    """Width of the predictor's hidden layer."""
    queue: int = Field(1024, ge=1)
    """Former projections among which neighbours are looked for."""
    temperature: float = Field(0.2, gt=0)
    """Similarities are divided by it before the softmax."""

    def check(self, cells: int) -> None:
        """Raise UsageError where every cell would find itself in the queue."""
        check_queue(self.queue, cells, holds="projections")

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own heads and queue."""
        from cellssl.learning.methods.nnclr import NnClr

        return NnClr(self, task)
