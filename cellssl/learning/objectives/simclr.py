"""simclr: two views of each cell in, InfoNCE of every view against all other views of the batch out.

SimCLR (Chen et al. 2020, arXiv:2002.05709), with its loss NT-Xent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objectives._shared_settings import ContrastiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ContrastiveSettings):
    """Recognise the other view of the same cell within the batch (SimCLR, arXiv:2002.05709)."""

    hidden_dim: int = Field(512, ge=1)
    """Width of the projector's hidden layer."""
    dim: int = Field(128, ge=2)
    """Size of a projection."""
    temperature: float = Field(0.2, gt=0)
    """Similarities are divided by it before the softmax."""

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own projector."""
        from cellssl.learning.methods.simclr import SimClr

        return SimClr(context, hidden_dim=self.hidden_dim, dim=self.dim, options=self.options(self.temperature))
