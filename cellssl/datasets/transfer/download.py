"""download: an address in -> a whole file; after a break the download continues where it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import requests

from cellssl.datasets.transfer.http import (
    RETRYABLE_ERRORS,
    HttpClient,
    InterruptedTransferError,
    RefusedError,
    RemoteFile,
    RetryPolicy,
    describe_remote,
    error_for_status,
    give_up,
    has_marked_end,
    is_compressed,
    length_of,
    raise_if_web_page,
    range_of,
)
from cellssl.datasets.transfer.threads import POLL_S, iterate_in_thread, run_in_thread
from cellssl.events import Event, Progress, Waiting
from cellssl.files import check_space


def download(
    url: str,
    target: Path,
    policy: RetryPolicy,
    *,
    verified_by_caller: bool = False,
    past_caches: bool = False,
    token: str | None = None,
) -> Generator[Event, None, None]:
    """Download the file at `url` to `target`, which appears when it is whole; until then it grows as `target.part`.

    `verified_by_caller` says that the caller checks the content. Without it, a part is not continued where the server
    sends neither an ETag nor a date, and a body is not accepted whose end is not marked. `past_caches` asks caches on
    the way for the server's own bytes, after other bytes turned out to be wrong. `token` goes to the server of
    `url`, and not to another one that it redirects to.

    Raises NetworkError where the server cannot be reached, refuses, breaks off again and again, or sends a web page.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    client, faults = HttpClient(policy, past_caches=past_caches, token=token), 0
    while not _is_whole(part, url):
        before = _size(part)
        try:
            yield from _continue(client, url, part, verified_by_caller)
        except RETRYABLE_ERRORS as error:
            faults = 1 if _size(part) - before >= min_progress_bytes(policy) else faults + 1
            if faults >= policy.tries:
                raise give_up(url, "downloaded", error) from error
            yield from run_in_thread(partial(policy.wait, faults))
    part.replace(target)
    _state_file(part).unlink()


def min_progress_bytes(policy: RetryPolicy) -> int:
    """Return the bytes that a try must transfer to count as progress, however often it breaks off."""
    return int(policy.min_bytes_per_s * policy.timeout_s)


def _continue(client: HttpClient, url: str, part: Path, verified_by_caller: bool) -> Generator[Event, None, None]:
    """Send one request: for the rest of the file where that is safe, else for the whole file."""
    kept, known = _size(part), _load_state(part, url)
    resume = kept > 0 and known is not None and (known.validator is not None or verified_by_caller)
    headers = {"Range": f"bytes={kept}-"} if resume else {}
    if resume and known and known.validator:
        headers["If-Range"] = known.validator
    answer = yield from run_in_thread(lambda: client.get(url, headers), client.raise_if_stalled)
    with answer:
        start, total = _first_byte(answer, url, kept if resume else 0, part)
        remote = describe_remote(answer, url, total)
        if start and known and not known.is_same(remote):
            _discard(part)
            raise InterruptedTransferError("the file on the server changed meanwhile")
        written = yield from _write(client, answer, part, start, remote)
    if total is None:
        if not has_marked_end(answer) and not verified_by_caller:
            raise RefusedError(
                f"{url}: the server does not say how long the file is, so an incomplete download could not be detected",
                hint="download it by other means, and give its path",
            )
        _save_state(part, RemoteFile(url, remote.etag, remote.modified, written))
    elif written > total:
        _discard(part)
        raise InterruptedTransferError(f"{written:,} bytes arrived, but the server promised {total:,}")
    elif written < total:
        raise InterruptedTransferError(f"{written:,} of {total:,} bytes arrived")
    elif known is None or known.total != total:  # the first answer had no length, but the answer with the rest had one
        _save_state(part, RemoteFile(url, remote.etag, remote.modified, total))


def _write(
    client: HttpClient, answer: requests.Response, part: Path, start: int, remote: RemoteFile
) -> Generator[Event, None, int]:
    """Append the body to the part, or start the part again; return its size."""
    name, written, reported_s = remote.url.rsplit("/", 1)[-1], start, 0.0
    chunks = iterate_in_thread(client.body(answer))
    first = yield from _first_chunk(chunks, client)
    if start == 0:
        raise_if_web_page(answer, first, remote.url)
        part.unlink(missing_ok=True)
        _save_state(part, remote)
    check_space(part.parent, (remote.total or 0) - start)
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        chunk: bytes | None = first
        while chunk != b"":
            if chunk is None:
                client.raise_if_stalled()
                yield Waiting()
            else:
                file.write(chunk)
                written += len(chunk)
                if time.monotonic() - reported_s >= POLL_S or written == remote.total:
                    reported_s = time.monotonic()
                    yield Progress(written, remote.total or written, "bytes", name)
            chunk = next(chunks, b"")
    return written


def _first_chunk(chunks: Generator[bytes | None, None, None], client: HttpClient) -> Generator[Event, None, bytes]:
    while (chunk := next(chunks, b"")) is None:
        client.raise_if_stalled()
        yield Waiting()
    return chunk


def _first_byte(answer: requests.Response, url: str, asked: int, part: Path) -> tuple[int, int | None]:
    """Return the byte of the file at which the answer begins, and the size of the file where the answer gives it."""
    if answer.status_code == 200:
        return 0, length_of(answer)
    if answer.status_code == 206 and asked:
        given = range_of(answer)
        if given and given[0] == asked and not is_compressed(answer):
            return asked, given[2] or given[1]
    if answer.status_code in (206, 416):
        _discard(part)
        raise InterruptedTransferError("the server sent another range than it was asked for")
    raise error_for_status(answer, url)


def _is_whole(part: Path, url: str) -> bool:
    known = _load_state(part, url)
    return known is not None and known.total is not None and part.is_file() and _size(part) == known.total


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _state_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _save_state(part: Path, remote: RemoteFile) -> None:
    """Write what is known of the file, before the bytes that it describes."""
    _state_file(part).write_text(json.dumps(asdict(remote)), encoding="utf-8")


def _load_state(part: Path, url: str) -> RemoteFile | None:
    try:
        known = RemoteFile(**json.loads(_state_file(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return known if known.url == url else None


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_file(part).unlink(missing_ok=True)
