"""_torchvision: settings of a torchvision network in, the URL and the pixel statistics of its published weights out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cellssl.learning.encoder import TensorNames
from cellssl.learning.pretrained import Licence, PretrainedSettings

if TYPE_CHECKING:
    from torch import nn


class TorchvisionSettings(PretrainedSettings):
    """Settings of a torchvision network without its classifier."""

    architecture: ClassVar[str]
    tensors: ClassVar[TensorNames]

    def min_side_px(self) -> int:
        """Return the side that the network reduces to one pixel: it halves five times."""
        return 32

    def url(self) -> str:
        """Return the address of torchvision's first ImageNet weights, the ones that papers use."""
        from torchvision.models import get_model_weights

        address: str = get_model_weights(self.architecture)["IMAGENET1K_V1"].url
        return address

    def published_licence(self) -> Licence:
        """Return what torchvision says of its weights: it names no licence besides that of its code."""
        return Licence(
            "BSD-3-Clause (torchvision's code); the weights may have terms that follow from those of ImageNet",
            "torchvision's README",
        )

    def tensor_names(self, network: nn.Module) -> TensorNames:
        """Return the names, which are the same for all networks of a family."""
        return self.tensors

    def pixel_statistics(self, network: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation of ImageNet's training images, as torchvision gives them."""
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
