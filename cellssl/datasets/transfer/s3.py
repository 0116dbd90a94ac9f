"""s3: an s3:// address in -> byte ranges of the object there, through fsspec."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import IO, Any

from cellssl.datasets.base import Forecast
from cellssl.datasets.transfer.byte_ranges import ByteRanges, OnBytes
from cellssl.datasets.transfer.http import HINT_RUN_AGAIN, NotFoundError, RefusedError, RetryPolicy
from cellssl.datasets.transfer.server import HttpSource
from cellssl.datasets.transfer.sources import Fetching, Targets, forecast_archive, join_url
from cellssl.datasets.transfer.threads import run_in_thread
from cellssl.errors import NetworkError, UsageError
from cellssl.files import atomic_path

PIECE_BYTES = 1 << 24
"""Bytes held in memory at a time."""


class S3Source(HttpSource):
    """A bucket, or a folder in one, with the official file names; it always grants ranges."""

    def __init__(self, address: str, policy: RetryPolicy) -> None:
        super().__init__(address, policy)
        file_system()

    def table(self, name: str, cache: Path, *, past_caches: bool = False) -> bytes:
        """Return the bytes of a table, read into memory."""
        url = join_url(self.address, name)
        with readable_errors(url):
            content: bytes = file_system().cat_file(url)
        return content

    def forecast(self, archive: str, batch: str, targets: Targets) -> Forecast:
        """Return the cost, from the archive's directory."""
        return forecast_archive(S3ByteRanges(join_url(self.address, archive)), targets)

    def _open_ranges(self, url: str) -> Fetching[ByteRanges]:
        return (yield from run_in_thread(partial(S3ByteRanges, url)))


class S3ByteRanges:
    """Byte ranges of an object in a bucket."""

    def __init__(self, url: str) -> None:
        self.name, self._url = url.rsplit("/", 1)[-1], url
        with readable_errors(url):
            self.size = int(file_system().info(url)["size"])

    def copy(self, start: int, stop: int, into: IO[bytes], on_bytes: OnBytes) -> None:
        """Write a range; the library itself asks again where a request fails."""
        while start < stop:
            end = min(stop, start + PIECE_BYTES)
            with readable_errors(self._url):
                content = file_system().cat_file(self._url, start=start, end=end)
            if len(content) != end - start:
                raise NetworkError(f"{self._url}: {len(content):,} of {end - start:,} bytes came", hint=HINT_RUN_AGAIN)
            into.write(content)
            on_bytes(len(content))
            start = end

    def save(self, target: Path) -> None:
        """Write the whole object to a file."""
        with atomic_path(target, target.parent) as written, written.open("wb") as file:
            self.copy(0, self.size, file, lambda _: None)


@cache
def file_system() -> Any:  # fsspec has no types
    """Return fsspec's S3 file system; without credentials in the usual places it reads public objects only.

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
def readable_errors(url: str) -> Iterator[None]:
    """Turn what the libraries raise into NetworkError with one sentence."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except FileNotFoundError as error:
        raise NotFoundError(f"{url} is not there", hint="check the names of the bucket and the folder") from error
    except PermissionError as error:
        raise RefusedError(
            f"{url} may not be read: {error}", hint="give credentials in the usual variables, such as AWS_PROFILE"
        ) from error
    except (OSError, TimeoutError, BotoCoreError, ClientError) as error:
        raise NetworkError(f"{url} cannot be read: {error}", hint=HINT_RUN_AGAIN) from error
