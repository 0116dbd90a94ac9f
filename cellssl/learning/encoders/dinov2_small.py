"""dinov2_small: crops in, 384 features per cell out, computed by timm's vit_small_patch14_dinov2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from cellssl.learning.encoders._dino import DinoSettings

if TYPE_CHECKING:
    from collections.abc import Mapping


class Settings(DinoSettings):
    """DINOv2 small, a ViT-S/14 (arXiv:2304.07193). The published weights, trained on 142 million photographs without
    labels, have the licence Apache-2.0. Crops whose side is not a multiple of 14 px are resized to the next multiple.
    Needs pip install "cellssl[timm]"."""

    patch_px: ClassVar[int] = 14

    def timm_name(self) -> str:
        """Return the name in timm, and of the weights."""
        return "vit_small_patch14_dinov2.lvd142m"

    def timm_options(self) -> Mapping[str, Any]:
        """Return the options; the norm stays where the class token has it, whatever the representation."""
        return {**super().timm_options(), "fc_norm": False}
