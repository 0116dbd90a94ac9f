"""_download: an address in -> a whole file; what a broken connection leaves is kept and gone on with."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError
from urllib3.util.retry import Retry

from cellssl.errors import FailedError, NetworkError
from cellssl.events import Progress

CHUNK_BYTES = 1 << 16
"""Written at a time, and so the most that a kill costs."""
CONNECT_S, READ_S = 15, 60
BUSY = (429, 500, 502, 503, 504)
"""Answers of a server that may do better a little later."""


@dataclass(frozen=True)
class Patience:
    """How often a server is asked again that gives nothing new, and how long is waited before."""

    tries: int = 5
    pause_s: float = 0.5
    longest_s: float = 30.0

    def wait(self, faults: int) -> None:
        """Twice as long after every fault."""
        time.sleep(min(self.longest_s, self.pause_s * 2 ** (faults - 1)))


@dataclass(frozen=True)
class Remote:
    """What a server said of a file: by `validator` (ETag or date) it knows whether the file is still the same."""

    url: str
    validator: str | None
    total: int | None


class CutOffError(Exception):
    """A transfer that ended early, or has to begin anew; worth another try."""


def download(url: str, target: Path, patience: Patience) -> Iterator[Progress]:
    """Bring the file at `url` to `target`, which appears when it is whole; `target.part` is where it grows.

    Raises NetworkError where the server cannot be reached, refuses, breaks off again and again, or sends a web page.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _session(patience) as session:
        faults = 0
        while not _is_whole(part, url):
            before = _size(part)
            try:
                yield from _go_on(session, url, part)
            except (HTTPError, CutOffError) as error:
                faults = 1 if _size(part) > before else faults + 1
                if faults >= patience.tries:
                    raise NetworkError(
                        f"{url} cannot be downloaded: {_reason(error)}",
                        hint="check the connection and run the same command again; what came so far is kept",
                    ) from error
                patience.wait(faults)
    part.replace(target)
    _note_of(part).unlink()


def _session(patience: Patience) -> requests.Session:
    retry = Retry(
        total=patience.tries,
        backoff_factor=patience.pause_s,
        backoff_max=patience.longest_s,
        backoff_jitter=patience.pause_s,
        status_forcelist=BUSY,
        respect_retry_after_header=True,
        raise_on_status=False,
    )
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    session.headers["Accept-Encoding"] = "identity"  # ranges count the bytes that lie on the server
    return session


def _go_on(session: requests.Session, url: str, part: Path) -> Iterator[Progress]:
    """One request: the rest of the file where the server grants it, else the file from its beginning."""
    kept, known = _size(part), _remembered(part, url)
    resume = kept > 0 and known is not None and known.validator is not None
    headers = {"Range": f"bytes={kept}-", "If-Range": str(known.validator)} if resume and known else {}
    with _answer(session, url, headers) as answer:
        start = _start(answer, url, kept if resume else 0, part)
        remote = _described(answer, url, start)
        if start and known and not _same(known, remote):
            _forget(part)
            raise CutOffError("the file on the server changed meanwhile")
        chunks = answer.raw.stream(CHUNK_BYTES, decode_content=False)
        first = next(chunks, b"")
        if start == 0:
            _refuse_page(answer, first, url)
            part.unlink(missing_ok=True)
            _remember(part, remote)
        _check_space(part, (remote.total or 0) - start)
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            written = start
            while first:
                file.write(first)
                written += len(first)
                yield Progress(written, remote.total or written, "bytes", url.rsplit("/", 1)[-1])
                first = next(chunks, b"")
    if remote.total is None:
        _remember(part, Remote(url, remote.validator, written))  # its end was marked, so now the size is known
    elif written != remote.total:
        raise CutOffError(f"{written:,} of {remote.total:,} bytes came")


def _answer(session: requests.Session, url: str, headers: dict[str, str]) -> requests.Response:
    """The head of an answer; a server that does not answer, or is busy, has been asked several times by then."""
    try:
        return session.get(url, headers=headers, stream=True, timeout=(CONNECT_S, READ_S))
    except requests.RequestException as error:
        raise NetworkError(
            f"{url} cannot be reached: {_reason(error)}",
            hint="check the address and the connection, and run the same command again",
        ) from error


def _same(known: Remote, remote: Remote) -> bool:
    """Whether both are the same file, by what is known of both."""
    pairs = ((known.total, remote.total), (known.validator, remote.validator))
    return all(before == now for before, now in pairs if before is not None and now is not None)


def _start(answer: requests.Response, url: str, asked: int, part: Path) -> int:
    """At which byte of the file the answer begins."""
    if answer.status_code == 200:
        return 0
    if answer.status_code == 206 and asked:
        given = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if given and int(given.group(1)) == asked:
            return asked
    if answer.status_code in (206, 416):
        _forget(part)
        raise CutOffError("the server sent another range than it was asked for")
    raise NetworkError(
        f"{url}: the server answered {answer.status_code} {answer.reason}",
        hint="check fetch.dataset.source, an address under which the official file names are found",
    )


def _described(answer: requests.Response, url: str, start: int) -> Remote:
    """A weak ETag promises too little to go on by; a date will do."""
    etag = answer.headers.get("ETag")
    validator = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified")
    length = answer.headers.get("Content-Length")
    return Remote(url, validator, start + int(length) if length and length.isdigit() else None)


def _refuse_page(answer: requests.Response, first: bytes, url: str) -> None:
    """Portals and gateways answer 200 with a page for people."""
    opening = first[:512].lstrip().lower()
    is_page = opening.startswith((b"<!doctype html", b"<html"))
    if is_page or answer.headers.get("Content-Type", "").startswith("text/html"):
        raise NetworkError(
            f"{url}: the server sent a web page instead of the file",
            hint="look at the address in a browser; a proxy or portal may stand between, or source may be wrong",
        )


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise FailedError(
            f"{needed:,} bytes are still to come, and {part.parent} has room for {free:,}",
            hint="make room, or choose another --store",
        )


def _is_whole(part: Path, url: str) -> bool:
    known = _remembered(part, url)
    return known is not None and known.total is not None and part.is_file() and _size(part) == known.total


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _remember(part: Path, remote: Remote) -> None:
    """Written before the bytes that it speaks of."""
    _note_of(part).write_text(json.dumps(asdict(remote)), encoding="utf-8")


def _remembered(part: Path, url: str) -> Remote | None:
    try:
        known = Remote(**json.loads(_note_of(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return known if known.url == url else None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """The innermost cause, which says most."""
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    return str(cause) or type(cause).__name__
