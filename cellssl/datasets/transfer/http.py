"""http: an address in -> answers of its server, and one readable error for everything that can go wrong with them."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.response import BaseHTTPResponse
from urllib3.util.retry import Retry

from cellssl.errors import NetworkError

CHUNK_BYTES = 1 << 16
"""Bytes read at a time, and so the most that is lost when the process is killed."""
PAST_CACHES = {"Cache-Control": "no-cache", "Pragma": "no-cache"}
"""Headers by which caches on the way, new and old ones, fetch a file from its server again."""
RETRY_STATUSES = (408, 425, 429, *range(500, 600))
"""Status codes after which the same request may succeed a little later."""
HINT_RUN_AGAIN = "check the connection and run the same command again; what has been downloaded so far is kept"
HINT_CHECK_ADDRESS = "open the address in a browser: it may be wrong, or a proxy or login page may stand in between"


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and with which pauses, a server that sends nothing new is asked again."""

    tries: int = 4
    pause_s: float = 0.5
    """Pause before the second try; it doubles before every further one."""
    max_pause_s: float = 30.0
    """The longest pause that the client chooses by itself."""
    timeout_s: float = 20.0
    """Seconds without a byte after which an answer counts as broken off."""
    min_bytes_per_s: float = 500.0
    """Mean rate over `timeout_s` below which an answer counts as broken off."""
    max_retry_after_s: float = 300.0
    """The longest pause that a server may ask for; a longer one is an error."""

    def wait(self, faults: int) -> None:
        """Sleep before the next try; twice as long after every fault."""
        time.sleep(min(self.max_pause_s, self.pause_s * 2 ** (faults - 1)))


@dataclass(frozen=True)
class RemoteFile:
    """What a server says about a file: ETag or date show whether it is still the same; `total` is its size in bytes."""

    url: str
    etag: str | None
    modified: str | None
    total: int | None

    @property
    def validator(self) -> str | None:
        """Return the value for If-Range: a strong ETag, else the date; a weak ETag does not promise the same bytes."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def is_same(self, other: RemoteFile) -> bool:
        """Return whether both are the same file, by what is known of both; the date counts where there is no ETag."""
        sizes, etags = (self.total, other.total), (self.etag, other.etag)
        pairs = (sizes, (self.modified, other.modified) if None in etags else etags)
        return all(own == others for own, others in pairs if own is not None and others is not None)


class InterruptedTransferError(Exception):
    """A transfer ended early, or must begin anew; another try may succeed."""


class WebPageError(InterruptedTransferError):
    """A web page came in place of the file; a gateway sends one while the server behind it restarts."""


class RefusedError(NetworkError):
    """The server refused; it would give the same answer again."""


class NotFoundError(RefusedError):
    """The server does not have the file."""


RETRYABLE_ERRORS = (HTTPError, InterruptedTransferError)
"""Errors after which another try may succeed."""


class HttpClient:
    """Sends requests to servers; every thread has its own connections.

    With `past_caches`, the caches on the way are asked to fetch the file from the server again. A `token` is sent to
    the server that is asked, and to no other one that it redirects to.
    """

    def __init__(self, policy: RetryPolicy, *, past_caches: bool = False, token: str | None = None) -> None:
        self.policy, self._past_caches, self._token = policy, past_caches, token
        self._thread = _ThreadState()
        self._last_activity_s = time.monotonic()

    def get(self, url: str, headers: dict[str, str] | None = None) -> requests.Response:
        """Return the head of an answer; a server that does not answer, or is busy, is asked several times.

        Raises RefusedError where asking again is of no use, else NetworkError.
        """
        self.note_activity()  # time before this, such as for checking local files, is not the server's silence
        try:
            timeout = self.policy.timeout_s
            auth = None if self._token is None else _Bearer(self._token)
            return self._session().get(url, headers=headers, stream=True, timeout=(timeout, timeout), auth=auth)
        except _RetryAfterTooLongError as error:
            raise RefusedError(
                f"{url}: the server is busy, and asks to wait for {error.seconds:,.0f} s",
                hint="run the same command again after that time; what has been downloaded so far is kept",
            ) from error
        except requests.exceptions.TooManyRedirects as error:
            raise RefusedError(
                f"{url}: the server redirects from one address to another without end", hint=HINT_CHECK_ADDRESS
            ) from error
        except (
            requests.RequestException,
            HTTPError,
            ValueError,
        ) as error:  # ValueError: a redirect to an invalid address
            raise NetworkError(
                f"{url} cannot be reached: {innermost_reason(error)}",
                hint="check the address and the connection, and run the same command again; "
                "what has been downloaded so far is kept",
            ) from error

    def body(self, answer: requests.Response) -> Iterator[bytes]:
        """Yield the bytes of an answer as they come, decompressed where a proxy compressed them on the way.

        Raises InterruptedTransferError or urllib3's HTTPError where they break off, stall or arrive too slowly.
        """
        since_s, received = time.monotonic(), 0
        while chunk := answer.raw.read1(CHUNK_BYTES, decode_content=True):
            yield chunk
            received += len(chunk)
            self.note_activity()
            seconds = time.monotonic() - since_s
            if seconds >= self.policy.timeout_s:
                if received < self.policy.min_bytes_per_s * seconds:
                    raise InterruptedTransferError(f"only {received:,} bytes arrived in {seconds:.0f} s")
                since_s, received = time.monotonic(), 0

    def note_activity(self, pause_s: float = 0.0) -> None:
        """Note that bytes arrived, or that the server asked for a pause of so many seconds."""
        self._last_activity_s = max(self._last_activity_s, time.monotonic() + pause_s)

    def raise_if_stalled(self) -> None:
        """Raise NetworkError where nothing at all has arrived for longer than all tries take.

        A server may send its head byte by byte, which the time-out of a single read does not notice.
        """
        policy = self.policy
        limit_s = policy.tries * (policy.timeout_s + policy.max_pause_s)
        if time.monotonic() - self._last_activity_s > limit_s:
            raise NetworkError(f"nothing has arrived for {limit_s:.0f} s", hint=HINT_RUN_AGAIN)

    def _session(self) -> requests.Session:
        if self._thread.session is None:
            self._thread.session = _new_session(self)
            if self._past_caches:
                self._thread.session.headers.update(PAST_CACHES)
        return self._thread.session


class _Bearer(requests.auth.AuthBase):
    """Sends a token, whatever a .netrc file says; requests leaves the header out where another server is asked."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header to a request."""
        r.headers["Authorization"] = f"Bearer {self._token}"
        return r


class _ThreadState(threading.local):
    """The session of one thread."""

    session: requests.Session | None = None


class _Session(requests.Session):
    """Follows redirects to http and https addresses only, and from https to https only."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return the address that an answer redirects to; RefusedError where it is not followed."""
        target = super().get_redirect_target(resp)
        if target is not None:
            scheme, target_scheme = urlsplit(resp.url).scheme, urlsplit(urljoin(resp.url, target)).scheme
            if target_scheme not in ("http", "https") or (scheme, target_scheme) == ("https", "http"):
                raise RefusedError(
                    f"{resp.url}: the server redirects from {scheme} to {target}, which is not followed",
                    hint="give an http or https address that you trust as the source",
                )
        return target


class _RetryAfterTooLongError(Exception):
    """A server asks to wait for more seconds than the policy allows."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _BoundedRetry(Retry):
    """urllib3's Retry, which here also accepts invalid values of Retry-After."""

    client: HttpClient

    def new(self, **kw: Any) -> _BoundedRetry:
        """Copy with other values, as urllib3 does at every try."""
        made = super().new(**kw)
        made.client = self.client
        return made

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Return the seconds, given as such or as a date; None where neither can be read."""
        try:
            seconds = super().get_retry_after(response)
        except (InvalidHeader, ValueError, OverflowError):
            return None
        if seconds and seconds > self.client.policy.max_retry_after_s:
            raise _RetryAfterTooLongError(seconds)
        self.client.note_activity(seconds or 0.0)
        return seconds


def _new_session(client: HttpClient) -> requests.Session:
    policy = client.policy
    retry = _BoundedRetry(
        total=policy.tries - 1,
        backoff_factor=policy.pause_s,
        backoff_max=policy.max_pause_s,
        backoff_jitter=policy.pause_s,
        status_forcelist=RETRY_STATUSES,
        respect_retry_after_header=True,
        raise_on_status=False,
    )
    retry.client = client
    session = _Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    session.headers["Accept-Encoding"] = "identity"  # ranges count the bytes as they lie on the server
    return session


def describe_remote(answer: requests.Response, url: str, total: int | None) -> RemoteFile:
    """Return what the head of an answer says about the file at `url`, which may have led to another address."""
    return RemoteFile(url, answer.headers.get("ETag"), answer.headers.get("Last-Modified"), total)


def length_of(answer: requests.Response) -> int | None:
    """Return the number of bytes that the body promises; None where it is not given, or the body is compressed."""
    length = answer.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"\d+", length) and not is_compressed(answer) else None


def is_compressed(answer: requests.Response) -> bool:
    """Return whether the body was compressed on the way, though it was asked for as it is."""
    return answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity")


def has_marked_end(answer: requests.Response) -> bool:
    """Return whether the body says where it ends; otherwise a part of it looks complete."""
    chunked = "chunked" in answer.headers.get("Transfer-Encoding", "").lower()
    return chunked or answer.headers.get("Content-Length", "").isdigit()


def range_of(answer: requests.Response) -> tuple[int, int, int | None] | None:
    """Return the first byte, the end and the file size from an answer's Content-Range; None where there is none."""
    given = re.fullmatch(r"\s*bytes\s+(\d+)-(\d+)/(\d+|\*)\s*", answer.headers.get("Content-Range", "").lower())
    if given is None or int(given.group(2)) < int(given.group(1)):
        return None
    total = None if given.group(3) == "*" else int(given.group(3))
    return int(given.group(1)), int(given.group(2)) + 1, total


def error_for_status(answer: requests.Response, url: str) -> NetworkError:
    """Return the error for an answer without the file."""
    message = f"{url}: the server answered {answer.status_code} {answer.reason}"
    if answer.status_code in RETRY_STATUSES:
        return NetworkError(message, hint=HINT_RUN_AGAIN)
    kind = NotFoundError if answer.status_code in (404, 410) else RefusedError
    return kind(message, hint="check that the file is at that address; fetch.dataset or --mirror gives the address")


HTML_START = re.compile(rb"(?is)(\xef\xbb\xbf)?(\s|<!--.*?-->|<\?xml.*?\?>)*(<!doctype html|<html)")
"""How a web page begins, after blanks and comments."""


def raise_if_web_page(answer: requests.Response, first: bytes, url: str) -> None:
    """Raise WebPageError for a web page: login portals and gateways send one with status 200."""
    if HTML_START.match(first[:4096]) or answer.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise WebPageError("the server sent a web page instead of the file")


def give_up(url: str, failed: str, error: Exception) -> NetworkError:
    """Return the error for a file that could not be read at any try, with what the last one met."""
    hint = HINT_CHECK_ADDRESS if isinstance(error, WebPageError) else HINT_RUN_AGAIN
    return NetworkError(f"{url} cannot be {failed}: {innermost_reason(error)}", hint=hint)


def innermost_reason(error: BaseException) -> str:
    """Return the text of the innermost cause, which says most."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__
