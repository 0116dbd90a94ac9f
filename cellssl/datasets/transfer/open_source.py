"""open_source: the address or folder of a published set in, the source that reads it out."""

from __future__ import annotations

from pathlib import Path

from cellssl.datasets.transfer.folder import FolderSource
from cellssl.datasets.transfer.http import RetryPolicy
from cellssl.datasets.transfer.server import HttpSource
from cellssl.datasets.transfer.sources import Source


def open_source(place: str | Path, policy: RetryPolicy) -> Source:
    """Return the source for a folder (a Path) or an http, https or s3 address (a str)."""
    if isinstance(place, Path):
        return FolderSource(place)
    if place.startswith("s3://"):
        from cellssl.datasets.transfer.s3 import S3Source

        return S3Source(place, policy)
    return HttpSource(place, policy)
