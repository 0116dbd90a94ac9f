"""byol: features of two views of each cell from two encoders in, the error of predicting one view from the other out.

BYOL (Grill et al. 2020, arXiv:2006.07733), with a constant momentum.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """Predict the momentum encoder's projection of the other view; no negatives (BYOL, arXiv:2006.07733)."""

    hidden_dim: int = Field(1024, ge=1)
    """Width of the hidden layers of projector and predictor."""
    dim: int = Field(256, ge=2)
    """Size of a projection."""
    momentum: float = Field(0.99, ge=0, lt=1)
    """Momentum of the momentum encoder: the nearer to 1, the more slowly it follows."""

    def encoder_momentum(self) -> float:
        """Return `momentum`."""
        return self.momentum

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own heads."""
        from cellssl.learning.methods.siamese import Byol

        return Byol(context, hidden_dim=self.hidden_dim, dim=self.dim, momentum=self.momentum)
