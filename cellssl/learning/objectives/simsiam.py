"""simsiam: two views of each cell in, the error of predicting the projection of one view from the other out.

SimSiam (Chen and He 2021, arXiv:2011.10566): no negatives and no momentum encoder; the target gets no gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """Predict the projection of the other view, which gets no gradient (SimSiam, arXiv:2011.10566)."""

    hidden_dim: int = Field(2048, ge=1)
    """Width of the projector's two hidden layers."""
    dim: int = Field(2048, ge=2)
    """Size of a projection."""
    predictor_dim: int = Field(512, ge=1)
    """Width of the predictor's hidden layer, a bottleneck."""

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own heads."""
        from cellssl.learning.methods.siamese import SimSiam

        return SimSiam(context, hidden_dim=self.hidden_dim, dim=self.dim, predictor_dim=self.predictor_dim)
