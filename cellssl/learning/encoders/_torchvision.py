"""_torchvision: what the encoders of torchvision share: their published weights, and the photographs behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cellssl.learning.encoder import Names
from cellssl.learning.pretrained import PublishedSettings

if TYPE_CHECKING:
    from torch import nn


class TorchvisionSettings(PublishedSettings):
    """A network of torchvision without its classifier."""

    architecture: ClassVar[str]
    tensors: ClassVar[Names]

    def shortest_side_px(self) -> int:
        """Five halvings leave one pixel."""
        return 32

    def url(self) -> str:
        """Where torchvision publishes the first of its ImageNet weights, the ones that papers mean."""
        from torchvision.models import get_model_weights

        address: str = get_model_weights(self.architecture)["IMAGENET1K_V1"].url
        return address

    def names(self, network: nn.Module) -> Names:
        """Alike in all of a family."""
        return self.tensors

    def photographs(self, network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """ImageNet's training images, as torchvision has them."""
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
