"""_vgg: settings of a VGG in, torchvision's convolutional part `features` with a global average out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cellssl.learning.encoder import TensorNames
from cellssl.learning.encoders._features import averaged
from cellssl.learning.encoders._torchvision import TorchvisionSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


LETTERS = {"vgg11": "A", "vgg13": "B", "vgg16": "D"}
"""Names of the layouts in the paper. The classifier, nine tenths of a VGG, is never built."""


class VggSettings(TorchvisionSettings):
    """Settings of a torchvision VGG without its classifier (Simonyan and Zisserman 2015, arXiv:1409.1556)."""

    tensors: ClassVar[TensorNames] = TensorNames(classifier=("classifier",), first=("features.0",))

    def feature_map(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return the convolutional part."""
        return network.features  # type: ignore[return-value]

    def trunk(self, channels: int) -> nn.Module:
        """Build the network with a first convolution for `channels`; it gives 512 features per cell."""
        from torch import nn
        from torchvision.models.vgg import cfgs, make_layers

        depth, _, batch_norm = self.architecture.partition("_")
        features: nn.Sequential = make_layers(cfgs[LETTERS[depth]], batch_norm=bool(batch_norm))
        if channels != 3:
            features[0] = nn.Conv2d(channels, 64, kernel_size=3, padding=1)
        return averaged(features, 512)

    def parts(self, network: nn.Module) -> list[tuple[str, ...]]:
        """Return the layers between two poolings, as parts."""
        from torch import nn

        parts: list[tuple[str, ...]] = [()]
        for name, layer in network.features.named_children():  # type: ignore[union-attr]
            parts[-1] += (f"features.{name}",)
            if isinstance(layer, nn.MaxPool2d):
                parts.append(())
        return parts[:-1]
