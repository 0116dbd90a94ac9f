"""vgg13: crops in, 512 numbers a cell out, by torchvision's network of that name."""

from typing import ClassVar

from cellssl.learning.encoders._vgg import VggSettings


class Settings(VggSettings):
    """VGG13, global average of the trunk."""

    architecture: ClassVar[str] = "vgg13"
