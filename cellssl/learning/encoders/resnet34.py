"""resnet34: crops in, 512 numbers a cell out, by torchvision's network of that name."""

from typing import ClassVar

from cellssl.learning.encoders._resnet import ResnetSettings


class Settings(ResnetSettings):
    """ResNet34, global average of the trunk."""

    architecture: ClassVar[str] = "resnet34"
