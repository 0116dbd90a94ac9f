"""mae: patches that the encoder sees in, how far the hidden ones are from being drawn anew out.

Masked autoencoder (He et al. 2022, arXiv:2111.06377). The encoder must be one that sees patches: `vit`.
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
    """Redraw the patches of a cell that the encoder is not shown (masked autoencoder, arXiv:2111.06377)."""

    RENAMED: ClassVar[Mapping[str, str]] = {"hidden_share": "mask_ratio"}
    mask_ratio: float = Field(0.75, gt=0, lt=1)
    """Share of the patches that are hidden; others for each cell and step."""
    normalise: bool = True
    """Redraw each patch with a mean of 0 and a spread of 1."""
    dim: int = Field(64, ge=4, multiple_of=4)
    """Numbers in a token of the decoder."""
    depth: int = Field(1, ge=1)
    """Blocks of the decoder."""
    heads: int = Field(4, ge=1)
    """Heads of attention in each."""

    @model_validator(mode="after")
    def _divides(self) -> Settings:
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads, got {self.dim} and {self.heads}")
        return self

    def build(self, task: BuildContext) -> Objective:
        """The objective with its own decoder."""
        from cellssl.learning.methods.mae import Mae

        return Mae(self, task)
