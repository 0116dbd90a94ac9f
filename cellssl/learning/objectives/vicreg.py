"""vicreg: two views of each cell in, variance, invariance and covariance of their projections out.

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
    """Views near each other, every feature spread, and none repeats another (VICReg, arXiv:2105.04906)."""

    hidden_dim: int = Field(2048, ge=1)
    """Width of the projector's two hidden layers."""
    dim: int = Field(2048, ge=2)
    """Numbers in a projection; wide, because none may repeat another."""
    invariance: float = Field(25.0, ge=0)
    """Weight of the squared distance of both views."""
    variance: float = Field(25.0, ge=0)
    """Weight of the hinge that keeps every feature's standard deviation at 1."""
    covariance: float = Field(1.0, ge=0)
    """Weight of the squared covariance between features."""

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own projector."""
        from cellssl.learning.methods.decorrelation import VicReg

        return VicReg(self, task)
