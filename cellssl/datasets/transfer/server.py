"""server: images of an archive on a web server in, files on disk out."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cellssl.datasets.base import Forecast
from cellssl.datasets.transfer.byte_ranges import (
    ByteRanges,
    ChangedError,
    HttpByteRanges,
    LocalByteRanges,
    RangesRefusedError,
    WiderRanges,
)
from cellssl.datasets.transfer.checksums import ARCHIVES_FILE, Digest, check_digest, digest_of, record_text
from cellssl.datasets.transfer.download import download
from cellssl.datasets.transfer.faults import Fault, FaultLog, readings_allowed
from cellssl.datasets.transfer.http import HttpClient, RefusedError, RetryPolicy
from cellssl.datasets.transfer.sources import (
    LARGEST_TABLE_BYTES,
    Fetching,
    PlateDestination,
    Targets,
    count_present,
    faults_of_missing,
    forecast_archive,
    join_url,
    never_stalled,
)
from cellssl.datasets.transfer.threads import result_of, run_in_thread
from cellssl.datasets.transfer.zip_directory import BrokenArchiveError, is_whole
from cellssl.datasets.transfer.zip_members import MemberResult, extract_members
from cellssl.errors import IntegrityError, NetworkError
from cellssl.events import Progress
from cellssl.files import write_text

WIDER_BYTES = 61
"""Bytes by which every further reading asks for more at both ends of a range."""


class HttpSource:
    """A web server with the official file names under one address."""

    def __init__(self, address: str, policy: RetryPolicy) -> None:
        self.address, self._policy, self._client = address, policy, HttpClient(policy)
        self._archives = FaultLog()

    def table(self, name: str, cache: Path, *, past_caches: bool = False) -> bytes:
        """Download a table, to a temporary name, because several processes may want it at once; return its bytes."""
        url, downloaded = join_url(self.address, name), cache / f"{name}.{secrets.token_hex(4)}"
        try:
            for event in download(url, downloaded, self._policy, verified_by_caller=True, past_caches=past_caches):
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
        """Fetch the images by byte ranges; if those are refused, from the whole archive, which is then removed.

        Images whose bytes are wrong are read again, past all caches: a fault is reported where the same wrong bytes
        came twice. Raises NetworkError where they are wrong in another way at every reading.
        """
        url, log = join_url(self.address, archive), FaultLog()
        whole = (destination.scratch / archive).is_file()
        left, reading, fruitless = targets, 0, 0
        while left:
            before, faults, readable = count_present(targets), dict[str, Fault](), False
            reading += 1
            try:
                faults = yield from self._read_members(archive, left, destination, reading, whole=whole)
                readable = True
            except RangesRefusedError:
                whole = True
                continue
            except ChangedError:  # another file under the same name, or a server that grants ranges only sometimes
                left = targets
            except BrokenArchiveError as error:
                faults = faults_of_missing(left, error.fault)
            if whole:
                _remove_archive(destination, archive, wrong=bool(faults))
            content = log.of_content(faults)
            if content and not (readable or whole):  # perhaps the server's ranges are wrong, and not its file
                whole = True
                continue
            yield from (MemberResult(member, reason) for member, reason in content.items())
            if readable or faults:
                left = {member: targets[member] for member in faults if member not in content}
            fruitless = 0 if content or count_present(targets) > before else fruitless + 1
            if fruitless >= readings_allowed(self._policy.tries):
                if readable or whole:
                    raise _always_different(url, faults)
                whole, fruitless = True, 0

    def _read_members(
        self, archive: str, targets: Targets, destination: PlateDestination, reading: int, *, whole: bool
    ) -> Fetching[dict[str, Fault]]:
        """Read the members that are not there yet, once; the second reading and later ones go past all caches."""
        url = join_url(self.address, archive)
        if whole:
            ranges = yield from self._whole_archive(url, destination.scratch / archive, destination, reading)
        elif reading == 1:
            ranges = yield from self._open_ranges(url)
        else:
            self._client = HttpClient(self._policy, past_caches=True)
            ranges = WiderRanges((yield from self._open_ranges(url)), WIDER_BYTES * reading)
        # a file that is on this machine already cannot stall
        raise_if_stalled = never_stalled if whole else self._client.raise_if_stalled
        return (
            yield from extract_members(ranges, targets, destination.scratch, destination.connections, raise_if_stalled)
        )

    def forecast(self, archive: str, batch: str, targets: Targets) -> Forecast:
        """Return the cost, from the archive's directory; unknown where the archive changes each time it is read.

        A directory in which images are missing must say so twice.
        """
        before: Forecast | None = None
        for _ in range(readings_allowed(self._policy.tries)):
            try:
                ranges = result_of(self._open_ranges(join_url(self.address, archive)))
                found = forecast_archive(ranges, targets)
                if not found.absent or found == before:
                    return found
                before = found
            except RangesRefusedError as refused:
                return Forecast(refused.total, None, 0, whole_archive=True)
            except ChangedError:
                continue
        return Forecast(None, None, 0)

    def _open_ranges(self, url: str) -> Fetching[ByteRanges]:
        return (
            yield from run_in_thread(partial(HttpByteRanges.open, self._client, url), self._client.raise_if_stalled)
        )

    def _whole_archive(self, url: str, kept: Path, destination: PlateDestination, reading: int) -> Fetching[ByteRanges]:
        """Download the archive to `kept`, record its checksum where it is whole, and open it."""
        if not kept.is_file():
            yield from download(url, kept, self._policy, verified_by_caller=True, past_caches=reading > 1)
        expected, record = destination.archives.get(kept.name), destination.folder / ARCHIVES_FILE
        if not record.is_file():
            digest = yield from run_in_thread(partial(digest_of, kept))
            if expected is not None or (yield from run_in_thread(partial(is_whole, kept))):
                self._check_archive(kept, digest, expected, destination.record)
                write_text(record, record_text({kept.name: digest}), destination.scratch)
        return LocalByteRanges(kept)

    def _check_archive(self, kept: Path, digest: Digest, expected: Digest | None, record: Path | None) -> None:
        """Remove an archive that differs from its record, and raise what follows.

        Raises IntegrityError where the same other bytes came twice, else ChangedError: the next download may be right.
        """
        try:
            check_digest(kept.name, digest, expected, record)
        except IntegrityError as error:
            kept.unlink()
            if self._archives.of_content({kept.name: Fault(error.message, digest.sha256)}):
                raise
            raise ChangedError(kept.name) from error


def _remove_archive(destination: PlateDestination, archive: str, *, wrong: bool) -> None:
    """Remove an archive that was downloaded whole, and its checksum where something was wrong in it."""
    (destination.scratch / archive).unlink(missing_ok=True)
    if wrong:
        (destination.folder / ARCHIVES_FILE).unlink(missing_ok=True)


def _always_different(url: str, faults: Mapping[str, Fault]) -> NetworkError:
    """Return the error for bytes that were wrong at every reading, each time in another way."""
    first = next(iter(faults.values())).reason if faults else "the file itself changes from one answer to the next"
    return NetworkError(
        f"{url} gives other bytes at every reading: {first}",
        hint="something on the way changes them: run the same command again, or try another --mirror; "
        "what has been downloaded so far is kept",
    )
