"""vit: crops in, the mean over the tokens of their patches out; a vision transformer that a CPU can train."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from cellssl.errors import UsageError
from cellssl.learning.encoder import EncoderSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


class Settings(EncoderSettings):
    """A small vision transformer (arXiv:2010.11929) without a class token. The objective `mae` needs this encoder."""

    patch_px: int = Field(8, ge=1)
    """Side of a patch; the side of a crop (input_px) must be a multiple of it."""
    dim: int = Field(128, ge=4, multiple_of=4)
    """Size of a token, and of the representation."""
    depth: int = Field(4, ge=1)
    """Number of transformer blocks."""
    heads: int = Field(4, ge=1)
    """Attention heads in each block."""

    @model_validator(mode="after")
    def _divides(self) -> Settings:
        if self.dim % self.heads:
            raise ValueError(f"dim must be a multiple of heads, got {self.dim} and {self.heads}")
        return self

    def min_side_px(self) -> int:
        """Return the side of two patches."""
        return 2 * self.patch_px

    def check_side(self, side_px: int) -> None:
        """Raise UsageError where patches do not fill a crop of this side."""
        super().check_side(side_px)
        if side_px % self.patch_px:
            raise UsageError(
                f"patches of {self.patch_px} px do not fill crops of {side_px} px",
                hint=f"set pretrain.input_px = {side_px - side_px % self.patch_px}, or another patch_px",
            )

    def feature_map(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return the function that computes the tokens, each at the position of its patch."""

        def tokens(crops: Tensor) -> Tensor:
            side = crops.shape[-1] // self.patch_px
            flat = network.tokens(crops)  # type: ignore[operator]
            square: Tensor = flat.transpose(1, 2).unflatten(2, (side, side))
            return square

        return tokens

    def build(self, channels: int) -> nn.Module:
        """Build the network; it gives `dim` features per cell."""
        from cellssl.learning.transformer import VisionTransformer

        return VisionTransformer(channels, patch_px=self.patch_px, dim=self.dim, depth=self.depth, heads=self.heads)
