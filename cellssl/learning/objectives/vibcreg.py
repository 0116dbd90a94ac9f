"""vibcreg: two views of each cell in, variance, invariance and normalised covariance out.

VIbCReg (Lee and Aune 2021, arXiv:2109.00783), without its iterative normalisation layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """VICReg whose covariance does not depend on the length of features (VIbCReg, arXiv:2109.00783)."""

    hidden_dim: int = Field(2048, ge=1)
    """Width of the projector's two hidden layers."""
    dim: int = Field(2048, ge=2)
    """Numbers in a projection; wide, because none may repeat another."""
    invariance: float = Field(25.0, ge=0)
    """Weight of the squared distance of both views."""
    variance: float = Field(25.0, ge=0)
    """Weight of the hinge that keeps every feature's standard deviation at 1."""
    covariance: float = Field(200.0, ge=0)
    """Weight of the squared correlation between features."""

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own projector."""
        from cellssl.learning.methods.decorrelation import VibcReg

        return VibcReg(self, task)
