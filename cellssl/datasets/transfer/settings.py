"""settings: the settings of data sets that download -> when servers are asked again, and a record of checksums."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field as Setting

from cellssl.config.paths import InputPath
from cellssl.config.settings import NOT_IN_FINGERPRINT
from cellssl.datasets.base import Dataset
from cellssl.errors import IntegrityError
from cellssl.events import Event, Note

if TYPE_CHECKING:
    from cellssl.datasets.transfer.http import RetryPolicy


class OnlineDataset(Dataset):
    """Settings that all data sets with downloads share; none of them changes a result."""

    RENAMED: ClassVar[Mapping[str, str]] = {"record": "checksums"}
    connections: int = Setting(8, ge=1, le=64, json_schema_extra=NOT_IN_FINGERPRINT)
    """Number of images that are fetched at once."""
    tries: int = Setting(4, ge=1, le=100, json_schema_extra=NOT_IN_FINGERPRINT)
    """How often a server that sends nothing new is asked before the fetch fails."""
    timeout_s: float = Setting(20.0, gt=0, json_schema_extra=NOT_IN_FINGERPRINT)
    """Seconds without a byte after which a connection counts as broken."""
    checksums: InputPath | None = Setting(None, json_schema_extra=NOT_IN_FINGERPRINT)
    """The record.csv of an earlier fetch: images with other bytes than it lists are an error."""

    def retry_policy(self) -> RetryPolicy:
        """Return how often, and with which pauses, a server is asked again."""
        from cellssl.datasets.transfer.http import RetryPolicy

        return RetryPolicy(tries=self.tries, timeout_s=self.timeout_s)

    def write_record(self, images: Mapping[str, Path], folder: Path) -> Generator[Event, None, None]:
        """Write the record of the images (name -> path) into `folder`, and compare it with the record that was given.

        An image that differs is removed, so that the next run fetches it again, perhaps from elsewhere; then
        IntegrityError is raised.
        """
        from cellssl.datasets.transfer.checksums import RECORD_FILE, check_digest, digest_of, read_record, record_text
        from cellssl.datasets.transfer.threads import run_in_thread
        from cellssl.files import write_text

        expected, unlisted = read_record(self.checksums), 0
        digests = yield from run_in_thread(lambda: {name: digest_of(path) for name, path in images.items()})
        for name, digest in digests.items():
            try:
                check_digest(name, digest, expected.get(name), self.checksums)
            except IntegrityError:
                images[name].unlink()
                raise
            unlisted += name not in expected
        if self.checksums and unlisted:
            yield Note(f"{unlisted:,} of {len(images):,} images are not in {self.checksums}, so they are not compared")
        write_text(folder / RECORD_FILE, record_text(digests), folder / "scratch")
