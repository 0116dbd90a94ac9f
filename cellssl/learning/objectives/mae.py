"""mae: the visible patches of each cell in, the error of the reconstructed hidden patches out.

Masked autoencoder (He et al. 2022, arXiv:2111.06377). The encoder must work on patches: `vit`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, model_validator

from cellssl.learning.objective import ObjectiveSettings

if TYPE_CHECKING:
    from cellssl.learning.methods.base import Objective
    from cellssl.learning.methods.build_context import BuildContext


class Settings(ObjectiveSettings):
    """Reconstruct the patches of a cell that are hidden from the encoder (masked autoencoder, arXiv:2111.06377)."""

    NO_POSITIVES: ClassVar[str] = "it reconstructs hidden patches of the same cell"
    RENAMED: ClassVar[Mapping[str, str]] = {"hidden_share": "mask_ratio"}
    mask_ratio: float = Field(0.75, gt=0, lt=1)
    """Fraction of the patches that are hidden; they are drawn anew for each cell and step."""
    normalise: bool = True
    """Reconstruct each patch scaled to a mean of 0 and a standard deviation of 1."""
    dim: int = Field(64, ge=4, multiple_of=4)
    """Size of a token in the decoder."""
    depth: int = Field(1, ge=1)
    """Number of transformer blocks in the decoder."""
    heads: int = Field(4, ge=1)
    """Attention heads in each block."""

    @model_validator(mode="after")
    def _divides(self) -> Settings:
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads, got {self.dim} and {self.heads}")
        return self

    def build(self, context: BuildContext) -> Objective:
        """Build the objective with its own decoder."""
        from cellssl.learning.methods.mae import Mae

        return Mae(
            context,
            mask_ratio=self.mask_ratio,
            normalise=self.normalise,
            dim=self.dim,
            depth=self.depth,
            heads=self.heads,
        )
