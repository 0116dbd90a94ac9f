"""cifar100: the publisher's archive, downloaded or from a folder, in -> 60,000 photographs of 100 classes."""

from __future__ import annotations

from cellssl.datasets.crops.torchvision_sets import Published, PublishedFile, TorchvisionDataset


class Settings(TorchvisionDataset):
    """CIFAR-100 (Krizhevsky 2009): 50,000 colour photographs for training and 10,000 for testing, 32 x 32 px."""

    def published(self) -> Published:
        """Return the one archive."""
        from torchvision.datasets import CIFAR100

        return Published(CIFAR100, (PublishedFile(CIFAR100.filename, CIFAR100.tgz_md5, (CIFAR100.url,)),))

    def class_count(self) -> int:
        """Return the number of fine classes, 100."""
        return 100

    def download_bytes(self) -> int:
        """Return the size of the archive."""
        return 169_001_437
