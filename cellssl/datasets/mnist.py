"""mnist: the publisher's four files, downloaded or from a folder, in -> 70,000 handwritten digits, 28 x 28 px."""

from __future__ import annotations

from typing import Any

from cellssl.datasets.crops.torchvision_sets import Published, PublishedFile, PublishedSettings


class Settings(PublishedSettings):
    """MNIST (LeCun et al. 1998): 60,000 digits for training and 10,000 for testing, 28 x 28 px, from 0 to 255."""

    def published(self) -> Published:
        """Four packed files, from either mirror."""
        from torchvision.datasets import MNIST

        files = (
            PublishedFile(name, md5, tuple(mirror + name for mirror in MNIST.mirrors)) for name, md5 in MNIST.resources
        )
        return Published(MNIST, tuple(files), "MNIST/raw")

    def class_count(self) -> int:
        """The ten digits."""
        return 10

    def download_bytes(self) -> int:
        """Of the four files together."""
        return 11_594_722

    def class_name(self, read: Any, number: int) -> str:
        """The digit itself, as `digits` has it; torchvision says "0 - zero"."""
        return str(number)
