"""_resnet: settings of a ResNet in, torchvision's network without its classifier `fc` out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import model_validator

from cellssl.learning.encoder import TensorNames
from cellssl.learning.encoders._torchvision import TorchvisionSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn


class ResnetSettings(TorchvisionSettings):
    """Settings of a torchvision ResNet without its classifier (He et al. 2016, arXiv:1512.03385)."""

    tensors: ClassVar[TensorNames] = TensorNames(classifier=("fc",), first=("conv1",))

    stem: Literal["large", "small"] = "large"
    """First layers: `large` is torchvision's 7 x 7 convolution and max pooling, which reduce the side of the image to a
    quarter; `small`, for images of about 32 px, is a 3 x 3 convolution that keeps their size, without pooling (He et
    al., section 4.2)."""

    @model_validator(mode="after")
    def _check_stem(self) -> ResnetSettings:
        if self.stem == "small" and self.weights == "imagenet":
            raise ValueError('the weights "imagenet" belong to the stem "large": leave out weights or stem')
        return self

    def min_side_px(self) -> int:
        """Return the side that the network reduces to one pixel; it halves five times, with the small stem three."""
        return 8 if self.stem == "small" else super().min_side_px()

    def feature_map(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """Return all layers except the last two, `avgpool` and `fc`."""
        from torch import nn

        return nn.Sequential(*list(network.children())[:-2])

    def parts(self, network: nn.Module) -> list[tuple[str, ...]]:
        """Return the stem and the four stages."""
        return [("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",)]

    def trunk(self, channels: int) -> nn.Module:
        """Build the network with a first convolution for `channels`."""
        import torchvision
        from torch import nn

        resnet: nn.Module = torchvision.models.get_model(self.architecture, weights=None)
        if self.stem == "small":
            resnet.conv1 = nn.Conv2d(channels, 64, kernel_size=3, stride=1, padding=1, bias=False)
            resnet.maxpool = nn.Identity()
        elif channels != 3:
            resnet.conv1 = nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        fc = resnet.fc
        assert isinstance(fc, nn.Linear)
        resnet.out_dim = fc.in_features  # type: ignore[assignment]
        resnet.fc = nn.Identity()
        return resnet
