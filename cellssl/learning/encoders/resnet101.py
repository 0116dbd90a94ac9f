"""resnet101: crops in, 2048 numbers a cell out, by torchvision's network of that name."""

from typing import ClassVar

from cellssl.learning.encoders._resnet import ResnetSettings


class Settings(ResnetSettings):
    """ResNet101, global average of the trunk."""

    architecture: ClassVar[str] = "resnet101"
