"""single_files: addresses of single files in -> the same files here, several at once, or what is wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from cellssl.datasets.transfer.byte_ranges import HttpByteRanges, RangesRefusedError
from cellssl.datasets.transfer.checksums import Digest, digest_of
from cellssl.datasets.transfer.download import download
from cellssl.datasets.transfer.faults import readings_allowed
from cellssl.datasets.transfer.http import HINT_CHECK_ADDRESS, HttpClient, NotFoundError, RefusedError, RetryPolicy
from cellssl.datasets.transfer.threads import worker_threads
from cellssl.datasets.transfer.tiff_check import missing_bytes
from cellssl.errors import NetworkError
from cellssl.events import Event, Progress, Waiting
from cellssl.files import move_into_place

HINT_OTHER_BYTES = "something on the way changes them: run the same command again, or use an https address"


@dataclass(frozen=True)
class FilesToFetch:
    """Files by their name: the address of each, the path that it gets, and its checksums where they are known."""

    addresses: Mapping[str, str]
    targets: Mapping[str, Path]
    scratch: Path
    expected: Mapping[str, Digest] = field(default_factory=dict)


def fetch_files(files: FilesToFetch, workers: int, policy: RetryPolicy) -> Generator[Event, None, dict[str, str]]:
    """Fetch every file that is not there yet.

    Returns name -> reason for those whose content is at fault: the server answers again and again that it has no such
    file, or the same image that is cut off came twice. Raises NetworkError where a server does not answer as it should.
    """
    files.scratch.mkdir(parents=True, exist_ok=True)
    missing = [name for name in files.addresses if not files.targets[name].is_file()]
    faults: dict[str, str] = {}
    done, network_errors = len(files.addresses) - len(missing), 0
    with worker_threads(partial(_fetch_one, files, policy), workers) as threads:
        for name in missing:
            threads.submit(name)
        for result in threads.results():
            if result is None:
                yield Waiting()
                continue
            name, fault = result
            if isinstance(fault, NetworkError):
                network_errors += 1
                if network_errors >= max(2, min(workers, len(missing))):
                    raise fault
                threads.submit(name)
                continue
            network_errors, done = 0, done + 1
            if fault is not None:
                faults[name] = fault
            yield Progress(done, len(files.addresses), "images", name)
    return faults


def times_moved(url: str) -> int:
    """Return how often a file is fetched until its bytes are believed: over https the connection itself checks them."""
    return 2 if urlsplit(url).scheme == "http" else 1


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


def _fetch_one(files: FilesToFetch, policy: RetryPolicy, name: str) -> str | NetworkError | None:
    """Fetch one file, as often as it takes to believe its bytes; return what is wrong with it, None if nothing is.

    Bytes are believed that have the expected checksum, that came twice, or that came over a connection with checksums
    of its own and are a whole image. A NetworkError is returned where other files may still come, and else raised.
    """
    url, expected, seen = files.addresses[name], files.expected.get(name), set[Digest]()
    fault = NetworkError(f"{url} gives other bytes at every reading", hint=HINT_OTHER_BYTES)
    downloaded = files.scratch / hashlib.sha256(f"{name} {url}".encode()).hexdigest()[:24]
    for reading in range(1, readings_allowed(policy.tries) + 1):
        try:
            _download(url, downloaded, policy, past_caches=reading > 1)
        except NotFoundError as error:
            if reading >= readings_allowed(policy.tries):
                return error.message
            continue
        except RefusedError:
            raise
        except NetworkError as error:
            return error
        if text := _text_of(downloaded):
            fault = NetworkError(f"{url}: the server sent text instead of an image: {text!r}", hint=HINT_CHECK_ADDRESS)
            downloaded.unlink()
            continue
        digest, missing = digest_of(downloaded), missing_bytes(downloaded)
        believed = digest in seen or (expected is None and not missing and times_moved(url) == 1)
        if believed or digest == expected:
            if missing:
                downloaded.unlink()
                return f"{url} is cut off: {missing:,} bytes are missing at its end"
            move_into_place(downloaded, files.targets[name])
            return None
        seen.add(digest)
        downloaded.unlink()
    return fault


def _text_of(path: Path) -> str:
    """Return the first words of a file that is text, such as an error of a gateway in JSON; "" for any image."""
    with path.open("rb") as file:
        head = file.read(60)
    return head.decode() if head.isascii() and b"\0" not in head else ""


def _download(url: str, target: Path, policy: RetryPolicy, *, past_caches: bool) -> None:
    """Download a file, whose connection is a new one."""
    if url.startswith("s3://"):
        from cellssl.datasets.transfer.s3 import S3ByteRanges

        S3ByteRanges(url).save(target)
        return
    for _ in download(url, target, policy, past_caches=past_caches):
        pass
