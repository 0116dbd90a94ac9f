"""server: images of an archive on a web server in, files on disk out."""

from __future__ import annotations

import secrets
from functools import partial
from pathlib import Path

from cellssl.datasets.base import Forecast
from cellssl.datasets.transfer.byte_ranges import (
    ByteRanges,
    ChangedError,
    HttpByteRanges,
    LocalByteRanges,
    RangesRefusedError,
)
from cellssl.datasets.transfer.checksums import ARCHIVES_FILE, check_digest, digest_of, record_text
from cellssl.datasets.transfer.download import download
from cellssl.datasets.transfer.http import HttpClient, RefusedError, RetryPolicy
from cellssl.datasets.transfer.sources import (
    LARGEST_TABLE_BYTES,
    Fetching,
    PlateDestination,
    Targets,
    count_present,
    forecast_archive,
    join_url,
    never_stalled,
    reasons_for_missing,
)
from cellssl.datasets.transfer.threads import result_of, run_in_thread
from cellssl.datasets.transfer.zip_directory import BrokenArchiveError
from cellssl.datasets.transfer.zip_members import MemberResult, extract_members
from cellssl.errors import IntegrityError
from cellssl.events import Progress
from cellssl.files import write_text


class HttpSource:
    """A web server with the official file names under one address."""

    def __init__(self, address: str, policy: RetryPolicy) -> None:
        self.address, self._policy, self._client = address, policy, HttpClient(policy)

    def table(self, name: str, cache: Path) -> bytes:
        """Download a table, to a temporary name, because several processes may want it at once; return its bytes."""
        downloaded = cache / f"{name}.{secrets.token_hex(4)}"
        try:
            for event in download(join_url(self.address, name), downloaded, self._policy, verified_by_caller=True):
                if isinstance(event, Progress) and event.done > LARGEST_TABLE_BYTES:
                    raise RefusedError(
                        f"{name} has more than {LARGEST_TABLE_BYTES:,} bytes at {self.address}",
                        hint="check what is at that address; it is not a table of this set",
                    )
            return downloaded.read_bytes()
        finally:
            for left in cache.glob(f"{downloaded.name}*"):
                left.unlink()

    def images(self, archive: str, batch: str, targets: Targets, destination: PlateDestination) -> Fetching[None]:
        """Fetch the images by byte ranges; if those are refused, from the whole archive, which is then removed."""
        url, left, without_progress, readings = join_url(self.address, archive), targets, 0, 0
        kept = destination.scratch / archive
        whole = kept.is_file()
        while True:
            present, unreadable = count_present(targets), False
            try:
                ranges = yield from (self._whole_archive(url, kept, destination) if whole else self._open_ranges(url))
                # a file that is on this machine already cannot stall
                raise_if_stalled = never_stalled if whole else self._client.raise_if_stalled
                faults = yield from extract_members(
                    ranges, left, destination.scratch, destination.connections, raise_if_stalled
                )
            except RangesRefusedError:
                whole = True
                continue
            except ChangedError:  # another file under the same name, or a server that grants ranges only sometimes
                without_progress = 0 if count_present(targets) > present else without_progress + 1
                whole, left = without_progress >= self._policy.tries, targets
                continue
            except BrokenArchiveError as error:
                faults, unreadable = reasons_for_missing(targets, str(error)), True
            if whole:
                kept.unlink()
                if faults:
                    (destination.folder / ARCHIVES_FILE).unlink(missing_ok=True)
            readings += 1
            if not faults or readings == 2:
                break
            left = {member: targets[member] for member in faults}
            whole = whole or unreadable  # perhaps the server's ranges are wrong
        yield from (MemberResult(member, reason) for member, reason in faults.items())

    def forecast(self, archive: str, batch: str, targets: Targets) -> Forecast:
        """Return the cost, from the archive's directory; unknown where the archive changes each time it is read."""
        for _ in range(self._policy.tries):
            try:
                return forecast_archive(result_of(self._open_ranges(join_url(self.address, archive))), targets)
            except RangesRefusedError as refused:
                return Forecast(refused.total, None, 0, whole_archive=True)
            except ChangedError:
                continue
        return Forecast(None, None, 0)

    def _open_ranges(self, url: str) -> Fetching[ByteRanges]:
        return (
            yield from run_in_thread(partial(HttpByteRanges.open, self._client, url), self._client.raise_if_stalled)
        )

    def _whole_archive(self, url: str, kept: Path, destination: PlateDestination) -> Fetching[ByteRanges]:
        """Download the archive to `kept`, record its checksum, and open it."""
        if not kept.is_file():
            yield from download(url, kept, self._policy, verified_by_caller=True)
        record = destination.folder / ARCHIVES_FILE
        if not record.is_file():
            digest = yield from run_in_thread(partial(digest_of, kept))
            try:
                check_digest(kept.name, digest, destination.archives.get(kept.name), destination.record)
            except IntegrityError:
                kept.unlink()
                raise
            write_text(record, record_text({kept.name: digest}), destination.scratch)
        return LocalByteRanges(kept)
