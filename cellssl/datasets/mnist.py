"""mnist: the publisher's four files, downloaded or from a folder, in -> 70,000 handwritten digits, 28 x 28 px."""

from __future__ import annotations

from cellssl.datasets.crops.torchvision_sets import (
    Published,
    PublishedFile,
    TorchvisionDataset,
    TorchvisionPart,
)


class Settings(TorchvisionDataset):
    """MNIST (LeCun et al. 1998): 60,000 digits for training and 10,000 for testing, 28 x 28 px, from 0 to 255."""

    def published(self) -> Published:
        """Return the four compressed files, each with the addresses of both mirrors."""
        from torchvision.datasets import MNIST

        files = (
            PublishedFile(name, md5, tuple(mirror + name for mirror in MNIST.mirrors)) for name, md5 in MNIST.resources
        )
        return Published(MNIST, tuple(files), "MNIST/raw")

    def class_count(self) -> int:
        """Return the number of digits, 10."""
        return 10

    def download_bytes(self) -> int:
        """Return the size of the four files together."""
        return 11_594_722

    def class_name(self, part: TorchvisionPart, number: int) -> str:
        """Return the digit itself, as the data set `digits` names it; torchvision says "0 - zero"."""
        return str(number)
