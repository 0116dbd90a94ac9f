"""resnet50: crops in, 2048 features per cell out, computed by torchvision's network of that name."""

from typing import ClassVar

from cellssl.learning.encoders._resnet import ResnetSettings


class Settings(ResnetSettings):
    """ResNet50, with the global average of its last feature map as the representation."""

    architecture: ClassVar[str] = "resnet50"
