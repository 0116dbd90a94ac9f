"""single_files: single files on servers -> the same files here, several at once, or what is wrong with them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from functools import partial
from pathlib import Path

from cellssl.datasets.transfer.byte_ranges import RangesRefusedError, WebPieces
from cellssl.datasets.transfer.download import download
from cellssl.datasets.transfer.http import GoneError, Patience, RefusedError, Web
from cellssl.datasets.transfer.threads import crew
from cellssl.datasets.transfer.tiff_check import missing_bytes
from cellssl.errors import NetworkError
from cellssl.events import Event, Progress, Waiting
from cellssl.files import move_into_place


class _CutOffImageError(Exception):
    """A whole answer, and half an image."""


def bring(
    addresses: Mapping[str, str], places: Mapping[str, Path], scratch: Path, hands: int, patience: Patience
) -> Generator[Event, None, dict[str, str]]:
    """Bring every file that is not there yet; returns the faults, by the file's name, of those that cannot be had.

    A file that is missing or cut off is asked for twice. Raises NetworkError where a server does not answer as it
    should.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    missing = [place for place in addresses if not places[place].is_file()]
    faults: dict[str, str] = {}
    done, denied = len(addresses) - len(missing), 0
    with crew(partial(_bring_one, addresses, places, scratch, patience), hands) as hired:
        for place in missing:
            hired.give(place)
        for result in hired.results():
            if result is None:
                yield Waiting()
                continue
            place, fault = result
            if isinstance(fault, NetworkError) and not isinstance(fault, GoneError):
                denied += 1
                if denied >= max(2, min(hands, len(missing))):
                    raise fault
                hired.give(place)
            elif fault is not None and place not in faults:
                faults[place] = str(fault)
                hired.give(place)
            else:
                denied, done = 0, done + 1
                if fault is None:
                    faults.pop(place, None)
                yield Progress(done, len(addresses), "images", place)
    return faults


def sizes(addresses: Mapping[str, str], hands: int, patience: Patience) -> dict[str, int | None]:
    """The bytes of every file that is there; None where its server does not say."""
    web, found = Web(patience), {}
    with crew(partial(_size, web), hands) as hired:
        for url in addresses.values():
            hired.give(url)
        for result in hired.results():
            if result is not None and not isinstance(result[1], GoneError):
                found[result[0]] = result[1]
    return {place: found[url] for place, url in addresses.items() if url in found}


def _size(web: Web, url: str) -> int | GoneError | None:
    try:
        if url.startswith("s3://"):
            from cellssl.datasets.transfer.s3 import BucketPieces

            return BucketPieces(url).size
        return WebPieces.open(web, url).size
    except RangesRefusedError as refused:
        return refused.total
    except GoneError as gone:
        return gone


def _bring_one(
    addresses: Mapping[str, str], places: Mapping[str, Path], scratch: Path, patience: Patience, place: str
) -> Exception | None:
    url = addresses[place]
    arrived = scratch / hashlib.sha256(f"{place} {url}".encode()).hexdigest()[:24]
    try:
        if url.startswith("s3://"):
            from cellssl.datasets.transfer.s3 import BucketPieces

            BucketPieces(url).save(arrived)
        else:
            for _ in download(url, arrived, patience):
                pass
        lacking = missing_bytes(arrived)
        if lacking:
            arrived.unlink()
            return _CutOffImageError(f"{url} is cut off: {lacking:,} bytes are missing at its end")
        move_into_place(arrived, places[place])
    except GoneError as error:
        return error
    except RefusedError:
        raise
    except NetworkError as error:
        return error
    return None
