"""vgg16_bn: crops in, 512 numbers a cell out, by torchvision's network of that name."""

from typing import ClassVar

from cellssl.learning.encoders._vgg import VggSettings


class Settings(VggSettings):
    """VGG16 with batch norm, global average of the trunk."""

    architecture: ClassVar[str] = "vgg16_bn"
