"""A web server on this machine that serves a folder, and misbehaves as it is told to."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


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
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and range of every request."""
    sent: int = 0
    """Bytes of bodies."""


class Handler(BaseHTTPRequestHandler):
    manners: Manners
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # the name is http.server's
        manners = self.manners
        wanted = self.headers.get("Range")
        manners.asked.append((self.path, wanted))
        path = manners.folder / self.path.lstrip("/")
        if manners.busy > 0:
            manners.busy -= 1
            self.answer(503, b"busy", {"Retry-After": "0"})
        elif manners.page:
            self.answer(200, b"<!DOCTYPE html><html>please log in</html>", {"Content-Type": "text/html"})
        elif not path.is_file():
            self.answer(404, b"no", {})
        else:
            self.file(path.read_bytes(), wanted)

    def file(self, content: bytes, wanted: str | None) -> None:
        etag = f'"{sha256(content).hexdigest()[:16]}"'
        granted = self.manners.ranges and wanted and self.headers.get("If-Range", etag) == etag
        if not granted:
            self.answer(200, content, {"ETag": etag})
            return
        start = int(str(wanted).removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        place = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.answer(206, content[start:], {"ETag": etag, "Content-Range": place})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        manners = self.manners
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if manners.sized:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        breaks = manners.breaks_after is not None and manners.breaks > 0 and len(body) > manners.breaks_after
        self.body(body[: manners.breaks_after] if breaks else body, whole=not breaks)
        if breaks:
            manners.breaks -= 1
            time.sleep(60 if manners.stalls else 0)
            self.close_connection = True

    def body(self, content: bytes, *, whole: bool) -> None:
        self.manners.sent += len(content)
        if self.manners.sized:
            self.wfile.write(content)
            return
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n" if content else b"")
        self.wfile.write(b"0\r\n\r\n" if whole else b"")

    def log_message(self, format: str, *args: object) -> None:  # the names are http.server's
        """Say nothing."""


@contextmanager
def serving(manners: Manners) -> Iterator[str]:
    """The address of a server with these manners."""
    handler = type("Mannered", (Handler,), {"manners": manners})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
