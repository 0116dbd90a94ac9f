"""A web server on this machine that serves a folder, and misbehaves as a test asks it to."""

import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

Framing = Literal["length", "chunks"] | None
"""How an answer marks the end of its body: Content-Length, chunks, or None: the connection is closed at the end."""


@dataclass
class Reply:
    """What the server is about to send; `ServerBehaviour.alter` may change all of it."""

    path: str
    requested_range: str | None
    """The Range header of the request."""
    status: int
    body: bytes
    headers: dict[str, str]
    whole: bytes = b""
    """The whole file."""
    framing: Framing = "length"
    breaks_after: int | None = None
    """Bytes of the body after which the connection is dropped."""
    resets: bool = False
    """Whether it is dropped with a reset instead of an end."""
    stalls: bool = False
    """Whether an answer that was broken off keeps its connection open."""
    drip_s: float = 0.0
    """Seconds between one byte of the body and the next."""
    skips_caches: bool = False
    """Whether the request asked caches on the way to fetch the file again."""
    connection: int = 0
    """Number of the connection that the request came over."""


@dataclass
class ServerBehaviour:
    """What the server does wrong, and what it was asked for."""

    folder: Path
    breaks_after: int | None = None
    """Bytes of a body after which the connection is dropped, in the first `breaks` answers that are longer."""
    breaks: int = 1
    grants_ranges: bool = True
    web_page: bool = False
    """Whether every address gives a web page, with status 200."""
    busy: int = 0
    """Number of answers that are 503."""
    sends_length: bool = True
    """Whether Content-Length is sent; otherwise the answer comes in chunks."""
    stalls: bool = False
    """Whether an answer that was broken off keeps its connection open."""
    latency_s: float = 0.0
    """Seconds until an answer begins."""
    connect_s: float = 0.0
    """Seconds that a new connection takes."""
    alter: Callable[[Reply], None] | None = None
    """Changes every answer with a file."""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range header of every request."""
    connections: int = 0
    """Number of connections so far."""
    sent_bytes: int = 0
    """Bytes of all bodies."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _read: dict[tuple[Path, int, int], tuple[bytes, str]] = field(default_factory=dict, repr=False)

    def content(self, file: Path) -> tuple[bytes, str]:
        """Return the bytes of a file and its ETag; the file is read again when it has changed."""
        stat = file.stat()
        key = (file, stat.st_size, stat.st_mtime_ns)
        with self.lock:
            if key not in self._read:
                content = file.read_bytes()
                self._read[key] = content, f'"{sha256(content).hexdigest()[:16]}"'
            return self._read[key]


def alter_first(
    times: int, alter: Callable[[Reply], None], when: Callable[[Reply], bool] = lambda _: True
) -> Callable[[Reply], None]:
    """Return a function that alters only the first answers for which `when` holds."""
    left, lock = [times], threading.Lock()

    def alter_some(reply: Reply) -> None:
        with lock:
            now = left[0] > 0 and when(reply)
            left[0] -= now
        if now:
            alter(reply)

    return alter_some


def alter_some(share: float, seed: int, *alterations: Callable[[Reply], None]) -> Callable[[Reply], None]:
    """Return a function that alters this share of the answers, each in one of these ways; the seed draws both."""
    draws, lock = random.Random(seed), threading.Lock()

    def alter(reply: Reply) -> None:
        with lock:
            now, alteration = draws.random() < share, draws.choice(alterations)
        if now:
            alteration(reply)

    return alter


def flips_a_bit(seed: int) -> Callable[[Reply], None]:
    """Return a function that flips one bit of a body, drawn by the seed; its length and its head stay right."""
    draws, lock = random.Random(f"bit {seed}"), threading.Lock()

    def flip(reply: Reply) -> None:
        if reply.body:
            with lock:
                place, bit = draws.randrange(len(reply.body)), draws.randrange(8)
            flipped = bytes([reply.body[place] ^ 1 << bit])
            reply.body = reply.body[:place] + flipped + reply.body[place + 1 :]

    return flip


def truncate(reply: Reply) -> None:
    """Send half of the body as if it were all of it: the end of the connection is the end of the body."""
    reply.body, reply.framing = reply.body[: len(reply.body) // 2], None


def reset(reply: Reply) -> None:
    """Drop the connection in the middle of the body, with a reset."""
    reply.breaks_after, reply.resets = len(reply.body) // 2, True


def send_a_page(reply: Reply) -> None:
    """Send the page of a gateway in place of the file, with status 200."""
    reply.status, reply.body = 200, b"<!DOCTYPE html><html>the service is being started</html>"
    reply.headers = {"Content-Type": "text/html"}


def cached(alter: Callable[[Reply], None], *, heeds_requests: bool = True) -> Callable[[Reply], None]:
    """Return a function that alters an answer once, and then sends the same answer to the same request again.

    `heeds_requests` says whether a request that skips caches gets an answer of its own.
    """
    kept: dict[tuple[str, str | None], tuple[int, bytes, dict[str, str]]] = {}
    lock = threading.Lock()

    def send(reply: Reply) -> None:
        key = (reply.path, reply.requested_range)
        if heeds_requests and reply.skips_caches:
            return
        with lock:
            if key not in kept:
                alter(reply)
                kept[key] = (reply.status, reply.body, reply.headers)
            reply.status, reply.body, reply.headers = kept[key]

    return send


class Handler(BaseHTTPRequestHandler):
    behaviour: ServerBehaviour
    protocol_version = "HTTP/1.1"
    timeout = 30

    def setup(self) -> None:
        """Accept a new connection."""
        super().setup()
        with self.behaviour.lock:
            self.behaviour.connections += 1
            self.connection_number = self.behaviour.connections
        time.sleep(self.behaviour.connect_s)

    def do_GET(self) -> None:  # the name is http.server's
        behaviour = self.behaviour
        requested_range = self.headers.get("Range")
        path = unquote(urlsplit(self.path).path)
        with behaviour.lock:
            behaviour.requests.append((path, requested_range))
        time.sleep(behaviour.latency_s)
        file = behaviour.folder / path.lstrip("/")
        if behaviour.busy > 0:
            behaviour.busy -= 1
            self.send(Reply(path, requested_range, 503, b"busy", {"Retry-After": "0"}))
        elif behaviour.web_page:
            page = b"<!DOCTYPE html><html>please log in</html>"
            self.send(Reply(path, requested_range, 200, page, {"Content-Type": "text/html"}))
        elif not file.is_file():
            self.send(Reply(path, requested_range, 404, b"no", {}))
        else:
            reply = self.reply_with(path, *behaviour.content(file), requested_range)
            reply.skips_caches = self.headers.get("Cache-Control") == "no-cache"
            reply.connection = self.connection_number
            if behaviour.alter is not None:
                behaviour.alter(reply)
            self.send(reply)

    def do_HEAD(self) -> None:  # the name is http.server's
        file = self.behaviour.folder / unquote(urlsplit(self.path).path).lstrip("/")
        self.send_response(200 if file.is_file() else 404)
        if file.is_file():
            content, etag = self.behaviour.content(file)
            self.send_header("ETag", etag)
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def reply_with(self, path: str, content: bytes, etag: str, requested: str | None) -> Reply:
        """Return the right answer: the range that was asked for, or the whole file."""
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", requested or "")
        granted = self.behaviour.grants_ranges and asked and self.headers.get("If-Range", etag) == etag
        framing: Framing = "length" if self.behaviour.sends_length else "chunks"
        if not granted or asked is None:
            return Reply(path, requested, 200, content, {"ETag": etag}, content, framing)
        start, stop = start_and_stop(asked.group(1), asked.group(2), len(content))
        if start >= len(content):
            return Reply(path, requested, 416, b"", {"Content-Range": f"bytes */{len(content)}"}, content, framing)
        headers = {"ETag": etag, "Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
        return Reply(path, requested, 206, content[start:stop], headers, content, framing)

    def send(self, reply: Reply) -> None:
        behaviour = self.behaviour
        with behaviour.lock:
            if behaviour.breaks_after is not None and behaviour.breaks > 0 and len(reply.body) > behaviour.breaks_after:
                behaviour.breaks -= 1
                reply.breaks_after, reply.stalls = behaviour.breaks_after, behaviour.stalls
        self.send_response(reply.status)
        headers = dict(reply.headers)
        if reply.framing == "length":
            headers = {"Content-Length": str(len(reply.body)), **headers}
        elif reply.framing == "chunks":
            headers = {"Transfer-Encoding": "chunked", **headers}
        else:
            headers = {"Connection": "close", **headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        breaks = reply.breaks_after is not None
        self.send_body(reply, reply.body[: reply.breaks_after], whole=not breaks)
        if breaks:
            time.sleep(60 if reply.stalls else 0)
            if reply.resets:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.rfile.close()
                self.wfile.close()
                self.connection.close()
        if breaks or reply.framing is None:
            self.close_connection = True

    def send_body(self, reply: Reply, content: bytes, *, whole: bool) -> None:
        with self.behaviour.lock:
            self.behaviour.sent_bytes += len(content)
        chunked = reply.framing == "chunks"
        for place in range(len(content)) if reply.drip_s else ():
            self.wfile.write(content[place : place + 1])
            time.sleep(reply.drip_s)
        if not reply.drip_s:
            framed = f"{len(content):x}\r\n".encode() + content + b"\r\n" if chunked and content else content
            self.wfile.write(framed)
        self.wfile.write(b"0\r\n\r\n" if chunked and whole else b"")

    def handle(self) -> None:
        """Handle requests until the client closes the connection."""
        try:
            super().handle()
        except (ConnectionError, ValueError, TimeoutError):
            self.close_connection = True

    def finish(self) -> None:
        """Close the connection, which the client may have closed already."""
        with suppress(ConnectionError, ValueError, OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:  # the names are http.server's
        """Print nothing."""


def start_and_stop(first_byte: str, last_byte: str, size: int) -> tuple[int, int]:
    """Return start and end of a range, from the two numbers of a Range header."""
    if not first_byte:
        return max(0, size - int(last_byte)), size
    return int(first_byte), min(size, int(last_byte) + 1) if last_byte else size


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def serving(behaviour: ServerBehaviour) -> Iterator[str]:
    """Run a server with this behaviour and give its address."""
    handler = type("MisbehavingHandler", (Handler,), {"behaviour": behaviour})
    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
