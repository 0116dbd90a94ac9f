"""deepcluster_v2: two global views and some local crops of each cell in, the loss of predicting its cluster out.

DeepCluster v2 (Caron et al. 2020, arXiv:2006.09882, appendix): after each epoch all cells are clustered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from cellssl.learning.objectives._shared_settings import MultiCropSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(MultiCropSettings):
    """Predict the cluster of a cell; all cells are clustered again after each epoch (DeepCluster v2,
    arXiv:2006.09882)."""

    RENAMED: ClassVar[Mapping[str, str]] = {**MultiCropSettings.RENAMED, "rounds": "n_iterations"}
    hidden_dim: int = Field(1024, ge=1)
    """Width of the projector's hidden layer."""
    dim: int = Field(128, ge=2)
    """Size of a projection."""
    prototypes: int = Field(300, ge=2)
    """Number of clusters in each head."""
    heads: int = Field(3, ge=1)
    """Number of independent clusterings."""
    n_iterations: int = Field(10, ge=1)
    """Iterations of K-Means."""
    temperature: float = Field(0.1, gt=0)
    """Similarities are divided by it before the softmax."""

    def check(self, cells: int) -> None:
        """Raise UsageError for more clusters than cells."""
        from cellssl.errors import UsageError

        if self.prototypes > cells:
            raise UsageError(
                f"deepcluster_v2 with prototypes = {self.prototypes:,} needs as many training cells, "
                f"but there are {cells:,}",
                hint=f"set prototypes to {cells:,} or less in the branch's objective",
            )

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own projector, bank and clusters."""
        from cellssl.learning.methods.prototypes import DeepCluster

        return DeepCluster(
            context,
            local_crops=self.crops(),
            hidden_dim=self.hidden_dim,
            dim=self.dim,
            prototypes=self.prototypes,
            heads=self.heads,
            n_iterations=self.n_iterations,
            temperature=self.temperature,
        )
