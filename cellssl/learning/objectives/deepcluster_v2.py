"""deepcluster_v2: two whole and some small views of each cell in, how badly they tell the cell's cluster out.

DeepCluster v2 (Caron et al. 2020, arXiv:2006.09882, appendix): after each epoch all cells are clustered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from cellssl.learning.objectives._shared_settings import MultiCropped

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(MultiCropped):
    """Tell the cluster of a cell, clusters being found anew after each epoch (DeepCluster v2, arXiv:2006.09882)."""

    RENAMED: ClassVar[Mapping[str, str]] = {**MultiCropped.RENAMED, "rounds": "n_iterations"}
    hidden_dim: int = Field(1024, ge=1)
    """Width of the projector's hidden layer."""
    dim: int = Field(128, ge=2)
    """Numbers in a projection."""
    prototypes: int = Field(300, ge=2)
    """Clusters, in each head."""
    heads: int = Field(3, ge=1)
    """Clusterings side by side."""
    n_iterations: int = Field(10, ge=1)
    """Of K-Means."""
    temperature: float = Field(0.1, gt=0)
    """Similarities are divided by it before the softmax."""

    def check(self, cells: int) -> None:
        """Raise UsageError for more clusters than cells."""
        from cellssl.errors import UsageError

        if self.prototypes > cells:
            raise UsageError(
                f"{self.prototypes:,} clusters were asked of {cells:,} training cells",
                hint=f"set prototypes to {cells:,} or less in the branch's objective",
            )

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own projector, bank and clusters."""
        from cellssl.learning.methods.prototypes import DeepCluster

        return DeepCluster(self, task)
