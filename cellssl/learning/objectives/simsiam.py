"""simsiam: two views of each cell in, how badly each view's projection is told from the other's out.

SimSiam (Chen and He 2021, arXiv:2011.10566): no negatives, no twin; the gradient stops at what is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """Tell the other view's projection, which is held still (SimSiam, arXiv:2011.10566)."""

    hidden_dim: int = Field(2048, ge=1)
    """Width of the projector's two hidden layers."""
    dim: int = Field(2048, ge=2)
    """Numbers in a projection."""
    predictor_dim: int = Field(512, ge=1)
    """Width of the predictor's hidden layer, a bottleneck."""

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own heads."""
        from cellssl.learning.methods.siamese import SimSiam

        return SimSiam(self, task)
