"""efficientnet_b0: crops in, 1,280 features per cell out, computed by torchvision's network of that name."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cellssl.learning.encoders._features import FeaturesSettings

if TYPE_CHECKING:
    from torch import nn


class Settings(FeaturesSettings):
    """EfficientNet-B0 (arXiv:1905.11946), with the global average of its last feature map as the representation."""

    architecture: ClassVar[str] = "efficientnet_b0"

    def first_convolution(self, channels: int) -> nn.Module:
        """Build a 3 x 3 convolution that halves the side."""
        from torch import nn

        return nn.Conv2d(channels, 32, kernel_size=3, stride=2, padding=1, bias=False)

    def parts(self, network: nn.Module) -> list[tuple[str, ...]]:
        """Return the stem, the seven stages, and the last convolution."""
        return [(f"features.{number}",) for number in range(9)]
