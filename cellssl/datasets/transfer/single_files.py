"""single_files: addresses of single files in -> the same files here, several at once, or what is wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path

from cellssl.datasets.transfer.byte_ranges import HttpByteRanges, RangesRefusedError
from cellssl.datasets.transfer.download import download
from cellssl.datasets.transfer.http import HttpClient, NotFoundError, RefusedError, RetryPolicy
from cellssl.datasets.transfer.threads import worker_threads
from cellssl.datasets.transfer.tiff_check import missing_bytes
from cellssl.errors import NetworkError
from cellssl.events import Event, Progress, Waiting
from cellssl.files import move_into_place


class _TruncatedImageError(Exception):
    """The answer was whole, but the image in it is cut off."""


def fetch_files(
    addresses: Mapping[str, str], targets: Mapping[str, Path], scratch: Path, workers: int, policy: RetryPolicy
) -> Generator[Event, None, dict[str, str]]:
    """Fetch every file that is not there yet; `addresses` and `targets` give its address and its path by its name.

    Returns name -> reason for those that cannot be downloaded. A file that is missing or cut off is requested twice.
    Raises NetworkError where a server does not answer as it should.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    missing = [name for name in addresses if not targets[name].is_file()]
    faults: dict[str, str] = {}
    done, network_errors = len(addresses) - len(missing), 0
    with worker_threads(partial(_fetch_one, addresses, targets, scratch, policy), workers) as threads:
        for name in missing:
            threads.submit(name)
        for result in threads.results():
            if result is None:
                yield Waiting()
                continue
            name, fault = result
            if isinstance(fault, NetworkError) and not isinstance(fault, NotFoundError):
                network_errors += 1
                if network_errors >= max(2, min(workers, len(missing))):
                    raise fault
                threads.submit(name)
            elif fault is not None and name not in faults:
                faults[name] = str(fault)
                threads.submit(name)
            else:
                network_errors, done = 0, done + 1
                if fault is None:
                    faults.pop(name, None)
                yield Progress(done, len(addresses), "images", name)
    return faults


def file_sizes(addresses: Mapping[str, str], workers: int, policy: RetryPolicy) -> dict[str, int | None]:
    """Return the size in bytes of every file that its server has, by its name; None where the server does not say."""
    client, found = HttpClient(policy), {}
    with worker_threads(partial(_size, client), workers) as threads:
        for url in addresses.values():
            threads.submit(url)
        for result in threads.results():
            if result is not None and not isinstance(result[1], NotFoundError):
                found[result[0]] = result[1]
    return {name: found[url] for name, url in addresses.items() if url in found}


def _size(client: HttpClient, url: str) -> int | NotFoundError | None:
    try:
        if url.startswith("s3://"):
            from cellssl.datasets.transfer.s3 import S3ByteRanges

            return S3ByteRanges(url).size
        return HttpByteRanges.open(client, url).size
    except RangesRefusedError as refused:
        return refused.total
    except NotFoundError as error:
        return error


def _fetch_one(
    addresses: Mapping[str, str], targets: Mapping[str, Path], scratch: Path, policy: RetryPolicy, name: str
) -> Exception | None:
    """Fetch one file; return the error where other files may still be fetched, and raise RefusedError."""
    url = addresses[name]
    downloaded = scratch / hashlib.sha256(f"{name} {url}".encode()).hexdigest()[:24]
    try:
        if url.startswith("s3://"):
            from cellssl.datasets.transfer.s3 import S3ByteRanges

            S3ByteRanges(url).save(downloaded)
        else:
            for _ in download(url, downloaded, policy):
                pass
        missing = missing_bytes(downloaded)
        if missing:
            downloaded.unlink()
            return _TruncatedImageError(f"{url} is cut off: {missing:,} bytes are missing at its end")
        move_into_place(downloaded, targets[name])
    except NotFoundError as error:
        return error
    except RefusedError:
        raise
    except NetworkError as error:
        return error
    return None
