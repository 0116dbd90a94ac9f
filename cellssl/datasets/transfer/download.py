"""download: an address in -> a whole file; what a broken connection leaves is kept and gone on with."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import requests

from cellssl.datasets.transfer.http import (
    AGAIN,
    FAULTS,
    CutOffError,
    Patience,
    RefusedError,
    Remote,
    Web,
    described,
    has_marked_end,
    is_packed,
    length_of,
    range_of,
    reason,
    refusal,
    refuse_page,
)
from cellssl.datasets.transfer.threads import TICK_S, attended, attending
from cellssl.errors import NetworkError
from cellssl.events import Event, Progress, Waiting
from cellssl.files import check_space

__all__ = ["Patience", "download"]


def download(
    url: str, target: Path, patience: Patience, *, proves_itself: bool = False
) -> Generator[Event, None, None]:
    """Bring the file at `url` to `target`, which appears when it is whole; `target.part` is where it grows.

    `proves_itself` says that whoever asks checks the content. Only then is a part gone on with that the server gives no
    means to recognise, and a body taken whose end is not marked.

    Raises NetworkError where the server cannot be reached, refuses, breaks off again and again, or sends a web page.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    web, faults = Web(patience), 0
    while not _is_whole(part, url):
        before = _size(part)
        try:
            yield from _go_on(web, url, part, proves_itself)
        except FAULTS as error:
            faults = 1 if _size(part) - before >= least_gain(patience) else faults + 1
            if faults >= patience.tries:
                raise NetworkError(f"{url} cannot be downloaded: {reason(error)}", hint=AGAIN) from error
            yield from attending(partial(patience.wait, faults))
    part.replace(target)
    _note_of(part).unlink()


def least_gain(patience: Patience) -> int:
    """Bytes that a try must bring to count as getting on, however often it breaks off."""
    return int(patience.least_bytes_per_s * patience.timeout_s)


def _go_on(web: Web, url: str, part: Path, proves_itself: bool) -> Generator[Event, None, None]:
    """One request: the rest of the file where the server grants it, else the file from its beginning."""
    kept, known = _size(part), _remembered(part, url)
    resume = kept > 0 and known is not None and (known.validator is not None or proves_itself)
    headers = {"Range": f"bytes={kept}-"} if resume else {}
    if resume and known and known.validator:
        headers["If-Range"] = known.validator
    answer = yield from attending(lambda: web.get(url, headers), web.check_alive)
    with answer:
        start, total = _start(answer, url, kept if resume else 0, part)
        remote = described(answer, url, total)
        if start and known and not known.is_same(remote):
            _forget(part)
            raise CutOffError("the file on the server changed meanwhile")
        written = yield from _write(web, answer, part, start, remote)
    if total is None:
        if not has_marked_end(answer) and not proves_itself:
            raise RefusedError(
                f"{url}: the server does not say how long the file is, so that half of it would look like all of it",
                hint="fetch it by other means, and give its path",
            )
        _remember(part, Remote(url, remote.etag, remote.modified, written))
    elif written > total:
        _forget(part)
        raise CutOffError(f"{written:,} bytes came where the server promised {total:,}")
    elif written < total:
        raise CutOffError(f"{written:,} of {total:,} bytes came")
    elif known is None or known.total != total:  # a part that began without a length, and was told it with its rest
        _remember(part, Remote(url, remote.etag, remote.modified, total))


def _write(web: Web, answer: requests.Response, part: Path, start: int, remote: Remote) -> Generator[Event, None, int]:
    """Append the body to the part, or begin it anew; returns its size."""
    name, written, said_s = remote.url.rsplit("/", 1)[-1], start, 0.0
    chunks = attended(web.body(answer))
    first = yield from _first(chunks, web)
    if start == 0:
        refuse_page(answer, first, remote.url)
        part.unlink(missing_ok=True)
        _remember(part, remote)
    check_space(part.parent, (remote.total or 0) - start)
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        chunk: bytes | None = first
        while chunk != b"":
            if chunk is None:
                web.check_alive()
                yield Waiting()
            else:
                file.write(chunk)
                written += len(chunk)
                if time.monotonic() - said_s >= TICK_S or written == remote.total:
                    said_s = time.monotonic()
                    yield Progress(written, remote.total or written, "bytes", name)
            chunk = next(chunks, b"")
    return written


def _first(chunks: Generator[bytes | None, None, None], web: Web) -> Generator[Event, None, bytes]:
    while (chunk := next(chunks, b"")) is None:
        web.check_alive()
        yield Waiting()
    return chunk


def _start(answer: requests.Response, url: str, asked: int, part: Path) -> tuple[int, int | None]:
    """At which byte of the file the answer begins, and the size of the file where it is told."""
    if answer.status_code == 200:
        return 0, length_of(answer)
    if answer.status_code == 206 and asked:
        given = range_of(answer)
        if given and given[0] == asked and not is_packed(answer):
            return asked, given[2] or given[1]
    if answer.status_code in (206, 416):
        _forget(part)
        raise CutOffError("the server sent another range than it was asked for")
    raise refusal(answer, url)


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
