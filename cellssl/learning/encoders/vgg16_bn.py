"""vgg16_bn: crops in, 512 features per cell out, computed by torchvision's network of that name."""

from typing import ClassVar

from cellssl.learning.encoders._vgg import VggSettings


class Settings(VggSettings):
    """VGG16 with batch norm, with the global average of its last feature map as the representation."""

    architecture: ClassVar[str] = "vgg16_bn"
