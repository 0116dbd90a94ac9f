"""s3: an s3:// address in -> pieces of the object there, through fsspec."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import IO, Any

from cellssl.datasets.base import Forecast
from cellssl.datasets.transfer.byte_ranges import Heard, Pieces
from cellssl.datasets.transfer.http import AGAIN, GoneError, Patience, RefusedError
from cellssl.datasets.transfer.server import Server
from cellssl.datasets.transfer.sources import Images, at, of_archive
from cellssl.datasets.transfer.threads import attending
from cellssl.datasets.transfer.zip_members import Taken
from cellssl.errors import NetworkError, UsageError
from cellssl.events import Event
from cellssl.files import atomic_path

PIECE_BYTES = 1 << 24
"""Held in memory at a time."""


class Bucket(Server):
    """A bucket, or a folder in one, with the official file names; it always grants ranges."""

    def __init__(self, address: str, patience: Patience) -> None:
        super().__init__(address, patience)
        file_system()

    def table(self, name: str, cache: Path) -> bytes:
        """Held in memory."""
        url = at(self.address, name)
        with in_words(url):
            content: bytes = file_system().cat_file(url)
        return content

    def forecast(self, archive: str, batch: str, wanted: Images) -> Forecast:
        """By the archive's directory."""
        return of_archive(BucketPieces(at(self.address, archive)), wanted)

    def _ranges(self, url: str) -> Generator[Event | Taken, None, Pieces]:
        return (yield from attending(partial(BucketPieces, url)))


class BucketPieces:
    """An object in a bucket."""

    def __init__(self, url: str) -> None:
        self.name, self._url = url.rsplit("/", 1)[-1], url
        with in_words(url):
            self.size = int(file_system().info(url)["size"])

    def copy(self, start: int, stop: int, into: IO[bytes], heard: Heard) -> None:
        """The library asks again by itself where a request fails."""
        while start < stop:
            end = min(stop, start + PIECE_BYTES)
            with in_words(self._url):
                content = file_system().cat_file(self._url, start=start, end=end)
            if len(content) != end - start:
                raise NetworkError(f"{self._url}: {len(content):,} of {end - start:,} bytes came", hint=AGAIN)
            into.write(content)
            heard(len(content))
            start = end

    def save(self, target: Path) -> None:
        """The whole object as a file."""
        with atomic_path(target, target.parent) as written, written.open("wb") as file:
            self.copy(0, self.size, file, lambda _: None)


@cache
def file_system() -> Any:
    """fsspec's; without credentials in the usual places only what is public can be read.

    Raises UsageError where it is not installed.
    """
    try:
        import botocore.session
        import fsspec
        import s3fs  # noqa: F401
    except ImportError as error:
        raise UsageError(f"s3 addresses need {error.name}", hint='pip install "cellssl[s3]"') from error
    public = botocore.session.Session().get_credentials() is None
    return fsspec.filesystem("s3", anon=public, use_listings_cache=False)


@contextmanager
def in_words(url: str) -> Iterator[None]:
    """What the libraries raise, as errors of the network."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except FileNotFoundError as error:
        raise GoneError(f"{url} is not there", hint="look whether the bucket and the folder are right") from error
    except PermissionError as error:
        raise RefusedError(
            f"{url} may not be read: {error}", hint="give credentials in the usual variables, such as AWS_PROFILE"
        ) from error
    except (OSError, TimeoutError, BotoCoreError, ClientError) as error:
        raise NetworkError(f"{url} cannot be read: {error}", hint=AGAIN) from error
