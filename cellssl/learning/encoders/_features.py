"""_features: settings of a torchvision network with a part `features` in; that part with a global average out."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from cellssl.learning.encoder import TensorNames
from cellssl.learning.encoders._torchvision import TorchvisionSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


class FeaturesSettings(TorchvisionSettings):
    """Settings of a torchvision network whose convolutional part is called `features`, without its classifier."""

    tensors: ClassVar[TensorNames] = TensorNames(classifier=("classifier",), first=("features.0.0",))

    def feature_map(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return the convolutional part."""
        return network.features  # type: ignore[return-value]

    def trunk(self, channels: int) -> nn.Module:
        """Build the network with a first convolution for `channels`; stochastic depth is off."""
        import torchvision

        whole = torchvision.models.get_model(self.architecture, weights=None, stochastic_depth_prob=0.0)
        if channels != 3:
            whole.features[0][0] = self.first_convolution(channels)
        return averaged(whole.features, whole.classifier[-1].in_features)

    @abstractmethod
    def first_convolution(self, channels: int) -> nn.Module:
        """Build the first convolution for another number of channels, with weights drawn as the library draws them."""


def averaged(features: nn.Module, dim: int) -> nn.Module:
    """Return a network that averages the `dim` maps of its part `features` over the crop."""
    from torch import nn

    class Averaged(nn.Module):
        out_dim = dim

        def __init__(self) -> None:
            super().__init__()
            self.features = features

        def forward(self, crops: Tensor) -> Tensor:
            pooled: Tensor = self.features(crops).mean(dim=(-2, -1))
            return pooled

    return Averaged()
