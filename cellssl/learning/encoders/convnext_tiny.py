"""convnext_tiny: crops in, 768 features per cell out, computed by torchvision's network of that name."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cellssl.learning.encoders._features import FeaturesSettings

if TYPE_CHECKING:
    from torch import nn


class Settings(FeaturesSettings):
    """ConvNeXt-Tiny (arXiv:2201.03545), with the global average of its last feature map as the representation: the
    layer norm between this average and the classifier is left out with the classifier."""

    architecture: ClassVar[str] = "convnext_tiny"
    draws_weights: ClassVar[bool] = True

    def first_convolution(self, channels: int) -> nn.Module:
        """Build a convolution of patches of 4 px."""
        from torch import nn

        convolution = nn.Conv2d(channels, 96, kernel_size=4, stride=4)
        nn.init.trunc_normal_(convolution.weight, std=0.02)
        assert convolution.bias is not None
        nn.init.zeros_(convolution.bias)
        return convolution

    def parts(self, network: nn.Module) -> list[tuple[str, ...]]:
        """Return the stem, and the four stages, each with the convolution that shrinks its input."""
        return [("features.0",), ("features.1",), *((f"features.{n}", f"features.{n + 1}") for n in (2, 4, 6))]
