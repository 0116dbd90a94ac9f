"""barlow_twins: two views of each cell in, the distance of their cross-correlation from the identity matrix out.

Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """Make features agree between views and not repeat each other (Barlow Twins, arXiv:2103.03230)."""

    hidden_dim: int = Field(2048, ge=1)
    """Width of the projector's two hidden layers."""
    dim: int = Field(2048, ge=2)
    """Size of a projection. It is large because no feature may repeat another."""
    redundancy: float = Field(0.005, ge=0)
    """Weight of the off-diagonal terms, which penalise correlated features."""

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own projector."""
        from cellssl.learning.methods.decorrelation import BarlowTwins

        return BarlowTwins(context, hidden_dim=self.hidden_dim, dim=self.dim, redundancy=self.redundancy)
