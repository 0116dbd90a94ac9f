"""dinov3_small: crops in, 384 features per cell out, computed by timm's vit_small_patch16_dinov3."""

from __future__ import annotations

from typing import ClassVar

from cellssl.learning.encoders._dino import DinoSettings


class Settings(DinoSettings):
    """DINOv3 small, a ViT-S/16 (arXiv:2508.10104). The published weights, trained on 1.7 billion photographs without
    labels, have the DINOv3 License of Meta, which is not an open-source licence: it has conditions for passing on the
    weights or what is derived from them, and excludes some uses. Read it before you use or share such a model:
    https://ai.meta.com/resources/models-and-libraries/dinov3-license. Crops whose side is not a multiple of 16 px are
    resized to the next multiple. Needs pip install "cellssl[timm]"."""

    patch_px: ClassVar[int] = 16

    def timm_name(self) -> str:
        """Return the name in timm, and of the weights."""
        return "vit_small_patch16_dinov3.lvd1689m"
