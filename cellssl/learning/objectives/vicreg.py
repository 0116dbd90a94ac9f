"""vicreg: two views of each cell in, a sum of variance, invariance and covariance of their projections out.

VICReg (Bardes, Ponce and LeCun 2022, arXiv:2105.04906).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """Make views of a cell similar, keep every feature spread out, and features uncorrelated (VICReg,
    arXiv:2105.04906)."""

    hidden_dim: int = Field(2048, ge=1)
    """Width of the projector's two hidden layers."""
    dim: int = Field(2048, ge=2)
    """Size of a projection. It is large because no feature may repeat another."""
    invariance: float = Field(25.0, ge=0)
    """Weight of the squared distance between both views."""
    variance: float = Field(25.0, ge=0)
    """Weight of the hinge loss that keeps the standard deviation of every feature at 1 or more."""
    covariance: float = Field(1.0, ge=0)
    """Weight of the squared covariance between features."""

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own projector."""
        from cellssl.learning.methods.decorrelation import VicReg

        return VicReg(
            context,
            hidden_dim=self.hidden_dim,
            dim=self.dim,
            invariance=self.invariance,
            variance=self.variance,
            covariance=self.covariance,
        )
