"""resnet34: crops in, 512 features per cell out, computed by torchvision's network of that name."""

from typing import ClassVar

from cellssl.learning.encoders._resnet import ResnetSettings


class Settings(ResnetSettings):
    """ResNet34, with the global average of its last feature map as the representation."""

    architecture: ClassVar[str] = "resnet34"
