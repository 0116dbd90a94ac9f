"""http: an address in -> answers of its server, and words for all that can be wrong with one but its content."""

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
"""Taken at a time, and so the most that a kill costs."""
BUSY = (408, 425, 429, *range(500, 600))
"""Answers of a server that may do better a little later."""
AGAIN = "check the connection and run the same command again; what came so far is kept"


@dataclass(frozen=True)
class Patience:
    """How long and how often a server is waited for that gives nothing new."""

    tries: int = 4
    pause_s: float = 0.5
    """Before the second try; twice as long before every further one."""
    longest_s: float = 30.0
    """No pause of ours is longer."""
    timeout_s: float = 20.0
    """Without a byte for so long, an answer counts as broken off."""
    least_bytes_per_s: float = 500.0
    """Over `timeout_s`; an answer that trickles in more slowly counts as broken off."""
    longest_retry_after_s: float = 300.0
    """Of a server that asks to be left alone for longer, the person hears."""

    def wait(self, faults: int) -> None:
        """Twice as long after every fault."""
        time.sleep(min(self.longest_s, self.pause_s * 2 ** (faults - 1)))


@dataclass(frozen=True)
class Remote:
    """What a server said of a file: by ETag or date one knows whether it is still the same; `total` is its size."""

    url: str
    etag: str | None
    modified: str | None
    total: int | None

    @property
    def validator(self) -> str | None:
        """For If-Range; a weak ETag promises too little to go on by, and a date will do."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def is_same(self, other: Remote) -> bool:
        """Whether both are the same file, by what is known of both; a date counts where there is no ETag."""
        sizes, etags = (self.total, other.total), (self.etag, other.etag)
        pairs = (sizes, (self.modified, other.modified) if None in etags else etags)
        return all(mine == its for mine, its in pairs if mine is not None and its is not None)


class CutOffError(Exception):
    """A transfer that ended early, or has to begin anew; worth another try."""


class RefusedError(NetworkError):
    """An answer that will not be another one when asked again."""


class GoneError(RefusedError):
    """There is no such file."""


FAULTS = (HTTPError, CutOffError)
"""What another try may mend."""


class Web:
    """Asks servers; every thread has connections of its own."""

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._own = threading.local()
        self._alive_s = time.monotonic()

    def get(self, url: str, headers: dict[str, str] | None = None) -> requests.Response:
        """The head of an answer; a server that does not answer, or is busy, has been asked several times by then."""
        self.hears()  # what went before, such as looking through files that are here, was no silence of the server
        try:
            timeout = self.patience.timeout_s
            return self._session().get(url, headers=headers, stream=True, timeout=(timeout, timeout))
        except _SentAwayError as error:
            raise RefusedError(
                f"{url}: the server is busy, and asks to be left alone for {error.seconds:,.0f} s",
                hint="run the same command again then; what came so far is kept",
            ) from error
        except requests.exceptions.TooManyRedirects as error:
            raise RefusedError(f"{url}: the server sends from one address to another", hint=LOOK) from error
        except (requests.RequestException, HTTPError, ValueError) as error:  # ValueError: a redirect to no address
            raise NetworkError(
                f"{url} cannot be reached: {reason(error)}",
                hint="check the address and the connection, and run the same command again; what came so far is kept",
            ) from error

    def body(self, answer: requests.Response) -> Iterator[bytes]:
        """The bytes of an answer as they come, unpacked where a proxy packed them on the way.

        Raises CutOffError or urllib3's HTTPError where they break off, stand still or trickle.
        """
        since, came = time.monotonic(), 0
        while chunk := answer.raw.read1(CHUNK_BYTES, decode_content=True):
            yield chunk
            came += len(chunk)
            self.hears()
            seconds = time.monotonic() - since
            if seconds >= self.patience.timeout_s:
                if came < self.patience.least_bytes_per_s * seconds:
                    raise CutOffError(f"only {came:,} bytes came in {seconds:.0f} s")
                since, came = time.monotonic(), 0

    def hears(self, silence_s: float = 0.0) -> None:
        """Something came, or the server asked for a pause."""
        self._alive_s = max(self._alive_s, time.monotonic() + silence_s)

    def check_alive(self) -> None:
        """Raise NetworkError where nothing at all has come for longer than all tries take.

        A server may send its head byte by byte, which no time-out of a single read notices.
        """
        patience = self.patience
        limit_s = patience.tries * (patience.timeout_s + patience.longest_s)
        if time.monotonic() - self._alive_s > limit_s:
            raise NetworkError(f"nothing has come for {limit_s:.0f} s", hint=AGAIN)

    def _session(self) -> requests.Session:
        if not hasattr(self._own, "session"):
            self._own.session = _session(self)
        session: requests.Session = self._own.session
        return session


LOOK = "look at the address in a browser; a proxy or portal may stand between, or it may be wrong"


class _Session(requests.Session):
    """Follows redirects within the web only, and from https to https only."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target is not None:
            here, there = urlsplit(resp.url).scheme, urlsplit(urljoin(resp.url, target)).scheme
            if there not in ("http", "https") or (here, there) == ("https", "http"):
                raise RefusedError(
                    f"{resp.url}: the server redirects from {here} to {target}, which is not followed",
                    hint="give an http or https address that you trust as the source",
                )
        return target


class _SentAwayError(Exception):
    """A server wants no question for so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _Waiting(Retry):
    """urllib3's Retry, which stands out against senseless values of Retry-After."""

    web: Web

    def new(self, **kw: Any) -> _Waiting:
        made = super().new(**kw)
        made.web = self.web
        return made

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Seconds, given as such or as a date; None where neither can be read."""
        try:
            seconds = super().get_retry_after(response)
        except (InvalidHeader, ValueError, OverflowError):
            return None
        if seconds and seconds > self.web.patience.longest_retry_after_s:
            raise _SentAwayError(seconds)
        self.web.hears(seconds or 0.0)
        return seconds


def _session(web: Web) -> requests.Session:
    patience = web.patience
    retry = _Waiting(
        total=patience.tries - 1,
        backoff_factor=patience.pause_s,
        backoff_max=patience.longest_s,
        backoff_jitter=patience.pause_s,
        status_forcelist=BUSY,
        respect_retry_after_header=True,
        raise_on_status=False,
    )
    retry.web = web
    session = _Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    session.headers["Accept-Encoding"] = "identity"  # ranges count the bytes that lie on the server
    return session


def described(answer: requests.Response, url: str, total: int | None) -> Remote:
    """What the head of an answer says of the file at `url`, which may have led on to another address."""
    return Remote(url, answer.headers.get("ETag"), answer.headers.get("Last-Modified"), total)


def length_of(answer: requests.Response) -> int | None:
    """The bytes that its body promises; None where it does not say, or where they are packed on the way."""
    length = answer.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"\d+", length) and not is_packed(answer) else None


def is_packed(answer: requests.Response) -> bool:
    """Whether somebody packed the body on the way, though it was asked for as it is."""
    return answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity")


def has_marked_end(answer: requests.Response) -> bool:
    """Whether the body says where it ends; without, half of it looks like all of it."""
    chunked = "chunked" in answer.headers.get("Transfer-Encoding", "").lower()
    return chunked or answer.headers.get("Content-Length", "").isdigit()


def range_of(answer: requests.Response) -> tuple[int, int, int | None] | None:
    """First byte, end and size of the file, of the range that an answer says it holds; None where it says none."""
    given = re.fullmatch(r"\s*bytes\s+(\d+)-(\d+)/(\d+|\*)\s*", answer.headers.get("Content-Range", "").lower())
    if given is None or int(given.group(2)) < int(given.group(1)):
        return None
    total = None if given.group(3) == "*" else int(given.group(3))
    return int(given.group(1)), int(given.group(2)) + 1, total


def refusal(answer: requests.Response, url: str) -> NetworkError:
    """The error for an answer without the file."""
    words = f"{url}: the server answered {answer.status_code} {answer.reason}"
    if answer.status_code in BUSY:
        return NetworkError(words, hint=AGAIN)
    kind = GoneError if answer.status_code in (404, 410) else RefusedError
    return kind(words, hint="look whether the file is at that address; fetch.dataset or --mirror says where to look")


PAGE = re.compile(rb"(?is)(\xef\xbb\xbf)?(\s|<!--.*?-->|<\?xml.*?\?>)*(<!doctype html|<html)")
"""How a page for people begins, whatever stands before that."""


def refuse_page(answer: requests.Response, first: bytes, url: str) -> None:
    """Portals and gateways answer 200 with a page for people."""
    if PAGE.match(first[:4096]) or answer.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise RefusedError(f"{url}: the server sent a web page instead of the file", hint=LOOK)


def reason(error: BaseException) -> str:
    """The innermost cause, which says most."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__
