"""A web server on this machine that serves a folder, and misbehaves as it is told to."""

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
from urllib.parse import unquote, urlsplit


@dataclass
class Reply:
    """What the server is about to send; a twist may change all of it."""

    path: str
    wanted: str | None
    """The range that was asked for."""
    status: int
    body: bytes
    headers: dict[str, str]
    whole: bytes = b""
    """The file that it is about."""
    length: str | None = "told"
    """`told`, `chunks`, or None: the connection is closed at the end of the body, and nothing says where that is."""
    breaks_after: int | None = None
    """Bytes of the body after which the connection is dropped."""
    resets: bool = False
    """Whether it is dropped with a reset instead of an end."""
    stalls: bool = False
    """Whether a broken-off answer is left hanging."""
    drip_s: float = 0.0
    """Seconds between one byte of the body and the next."""


@dataclass
class Manners:
    """What the server does wrong, and what it was asked for."""

    folder: Path
    breaks_after: int | None = None
    """Bytes of a body after which the connection is dropped, in the first `breaks` answers that are longer."""
    breaks: int = 1
    ranges: bool = True
    """Whether ranges are granted."""
    page: bool = False
    """Whether every address gives a page for people, with status 200."""
    busy: int = 0
    """How many answers are 503."""
    sized: bool = True
    """Whether the length is told; without, the answer is in chunks."""
    stalls: bool = False
    """Whether a broken-off answer is left hanging."""
    latency_s: float = 0.0
    """Time that an answer is on its way."""
    connect_s: float = 0.0
    """Time that a new connection takes."""
    twist: Callable[[Reply], None] | None = None
    """Changes every answer of a file."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and range of every request."""
    sent: int = 0
    """Bytes of bodies."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _read: dict[tuple[Path, int, int], tuple[bytes, str]] = field(default_factory=dict, repr=False)

    def content(self, file: Path) -> tuple[bytes, str]:
        """The bytes of a file and its ETag, read again when it has changed."""
        stat = file.stat()
        key = (file, stat.st_size, stat.st_mtime_ns)
        with self.lock:
            if key not in self._read:
                content = file.read_bytes()
                self._read[key] = content, f'"{sha256(content).hexdigest()[:16]}"'
            return self._read[key]


def first(
    times: int, twist: Callable[[Reply], None], when: Callable[[Reply], bool] = lambda _: True
) -> Callable[[Reply], None]:
    """A twist of the first answers only that `when` holds for."""
    left, lock = [times], threading.Lock()

    def twisting(reply: Reply) -> None:
        with lock:
            now = left[0] > 0 and when(reply)
            left[0] -= now
        if now:
            twist(reply)

    return twisting


class Handler(BaseHTTPRequestHandler):
    manners: Manners
    protocol_version = "HTTP/1.1"
    timeout = 30

    def setup(self) -> None:
        """A new connection."""
        super().setup()
        time.sleep(self.manners.connect_s)

    def do_GET(self) -> None:  # the name is http.server's
        manners = self.manners
        wanted = self.headers.get("Range")
        path = unquote(urlsplit(self.path).path)
        with manners.lock:
            manners.asked.append((path, wanted))
        time.sleep(manners.latency_s)
        file = manners.folder / path.lstrip("/")
        if manners.busy > 0:
            manners.busy -= 1
            self.send(Reply(path, wanted, 503, b"busy", {"Retry-After": "0"}))
        elif manners.page:
            page = b"<!DOCTYPE html><html>please log in</html>"
            self.send(Reply(path, wanted, 200, page, {"Content-Type": "text/html"}))
        elif not file.is_file():
            self.send(Reply(path, wanted, 404, b"no", {}))
        else:
            reply = self.file(path, *manners.content(file), wanted)
            if manners.twist is not None:
                manners.twist(reply)
            self.send(reply)

    def do_HEAD(self) -> None:  # the name is http.server's
        file = self.manners.folder / unquote(urlsplit(self.path).path).lstrip("/")
        self.send_response(200 if file.is_file() else 404)
        if file.is_file():
            content, etag = self.manners.content(file)
            self.send_header("ETag", etag)
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def file(self, path: str, content: bytes, etag: str, wanted: str | None) -> Reply:
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
        granted = self.manners.ranges and asked and self.headers.get("If-Range", etag) == etag
        length = "told" if self.manners.sized else "chunks"
        if not granted or asked is None:
            return Reply(path, wanted, 200, content, {"ETag": etag}, content, length)
        start, stop = place_of(asked.group(1), asked.group(2), len(content))
        if start >= len(content):
            return Reply(path, wanted, 416, b"", {"Content-Range": f"bytes */{len(content)}"}, content, length)
        place = f"bytes {start}-{stop - 1}/{len(content)}"
        return Reply(path, wanted, 206, content[start:stop], {"ETag": etag, "Content-Range": place}, content, length)

    def send(self, reply: Reply) -> None:
        manners = self.manners
        with manners.lock:
            if manners.breaks_after is not None and manners.breaks > 0 and len(reply.body) > manners.breaks_after:
                manners.breaks -= 1
                reply.breaks_after, reply.stalls = manners.breaks_after, manners.stalls
        self.send_response(reply.status)
        headers = dict(reply.headers)
        if reply.length == "told":
            headers = {"Content-Length": str(len(reply.body)), **headers}
        elif reply.length == "chunks":
            headers = {"Transfer-Encoding": "chunked", **headers}
        else:
            headers = {"Connection": "close", **headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        breaks = reply.breaks_after is not None
        self.body(reply, reply.body[: reply.breaks_after], whole=not breaks)
        if breaks:
            time.sleep(60 if reply.stalls else 0)
            if reply.resets:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.rfile.close()
                self.wfile.close()
                self.connection.close()
        if breaks or reply.length is None:
            self.close_connection = True

    def body(self, reply: Reply, content: bytes, *, whole: bool) -> None:
        with self.manners.lock:
            self.manners.sent += len(content)
        chunked = reply.length == "chunks"
        for place in range(len(content)) if reply.drip_s else ():
            self.wfile.write(content[place : place + 1])
            time.sleep(reply.drip_s)
        if not reply.drip_s:
            framed = f"{len(content):x}\r\n".encode() + content + b"\r\n" if chunked and content else content
            self.wfile.write(framed)
        self.wfile.write(b"0\r\n\r\n" if chunked and whole else b"")

    def handle(self) -> None:
        """Whoever has gone, has gone."""
        try:
            super().handle()
        except (ConnectionError, ValueError, TimeoutError):
            self.close_connection = True

    def finish(self) -> None:
        """As above."""
        with suppress(ConnectionError, ValueError, OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:  # the names are http.server's
        """Say nothing."""


def place_of(first_byte: str, last_byte: str, size: int) -> tuple[int, int]:
    """Start and end of a range as a header names it."""
    if not first_byte:
        return max(0, size - int(last_byte)), size
    return int(first_byte), min(size, int(last_byte) + 1) if last_byte else size


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def serving(manners: Manners) -> Iterator[str]:
    """The address of a server with these manners."""
    handler = type("Mannered", (Handler,), {"manners": manners})
    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
