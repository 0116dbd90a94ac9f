"""open_source: the address or folder of an image source in, the source that reads it out."""

from __future__ import annotations

from pathlib import Path

from cellssl.datasets.transfer.folder import Folder
from cellssl.datasets.transfer.http import Patience
from cellssl.datasets.transfer.server import Server
from cellssl.datasets.transfer.sources import Source


def source_at(given: str | Path, patience: Patience) -> Source:
    """The source at an address or a folder."""
    if isinstance(given, Path):
        return Folder(given)
    if given.startswith("s3://"):
        from cellssl.datasets.transfer.s3 import Bucket

        return Bucket(given, patience)
    return Server(given, patience)
