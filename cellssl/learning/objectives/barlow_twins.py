"""barlow_twins: two views of each cell in, how far their cross-correlation is from the identity out.

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
    """Features agree between views, and none repeats another (Barlow Twins, arXiv:2103.03230)."""

    hidden_dim: int = Field(2048, ge=1)
    """Width of the projector's two hidden layers."""
    dim: int = Field(2048, ge=2)
    """Numbers in a projection; wide, because none may repeat another."""
    redundancy: float = Field(0.005, ge=0)
    """Weight of what is off the diagonal."""

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own projector."""
        from cellssl.learning.methods.decorrelation import BarlowTwins

        return BarlowTwins(self, task)
