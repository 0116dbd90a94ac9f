"""_vgg: what the VGG encoders share: torchvision's `features` and a global average."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cellssl.learning.encoder import Names
from cellssl.learning.encoders._torchvision import TorchvisionSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


LETTERS = {"vgg11": "A", "vgg13": "B", "vgg16": "D"}
"""The paper's names of the layouts; the classifier, nine tenths of a VGG, is never built."""


class VggSettings(TorchvisionSettings):
    """A VGG of torchvision without its classifier (Simonyan and Zisserman 2015, arXiv:1409.1556)."""

    tensors: ClassVar[Names] = Names(classifier=("classifier",), first=("features.0",))

    def last_map(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Its convolutions."""
        return network.features  # type: ignore[return-value]

    def trunk(self, channels: int) -> nn.Module:
        """Its first convolution made for `channels`; 512 numbers a cell."""
        from torch import nn
        from torchvision.models.vgg import cfgs, make_layers

        class Vgg(nn.Module):
            out_dim = 512

            def __init__(self, features: nn.Sequential) -> None:
                super().__init__()
                self.features = features

            def forward(self, crops: Tensor) -> Tensor:
                pooled: Tensor = self.features(crops).mean(dim=(-2, -1))
                return pooled

        depth, _, batch_norm = self.architecture.partition("_")
        features: nn.Sequential = make_layers(cfgs[LETTERS[depth]], batch_norm=bool(batch_norm))
        if channels != 3:
            features[0] = nn.Conv2d(channels, 64, kernel_size=3, padding=1)
        return Vgg(features)
