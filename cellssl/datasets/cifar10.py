"""cifar10: the publisher's archive, downloaded or from a folder, in -> 60,000 photographs of 10 classes, 32 x 32 px."""

from __future__ import annotations

from cellssl.datasets.crops.torchvision_sets import Published, PublishedFile, TorchvisionDataset


class Settings(TorchvisionDataset):
    """CIFAR-10 (Krizhevsky 2009): 50,000 colour photographs for training and 10,000 for testing, 32 x 32 px."""

    def published(self) -> Published:
        """Return the one archive."""
        from torchvision.datasets import CIFAR10

        return Published(CIFAR10, (PublishedFile(CIFAR10.filename, CIFAR10.tgz_md5, (CIFAR10.url,)),))

    def class_count(self) -> int:
        """Return the number of classes, 10."""
        return 10

    def download_bytes(self) -> int:
        """Return the size of the archive."""
        return 170_498_071
