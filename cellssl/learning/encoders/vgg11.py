"""vgg11: crops in, 512 features per cell out, computed by torchvision's network of that name."""

from typing import ClassVar

from cellssl.learning.encoders._vgg import VggSettings


class Settings(VggSettings):
    """VGG11, with the global average of its last feature map as the representation."""

    architecture: ClassVar[str] = "vgg11"
