"""byte_ranges: a file here or on a server in -> any piece of it, in exactly the bytes that were asked for."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

import requests

from cellssl.datasets.transfer.http import (
    AGAIN,
    CHUNK_BYTES,
    FAULTS,
    CutOffError,
    Remote,
    Web,
    described,
    is_packed,
    length_of,
    range_of,
    reason,
    refusal,
    refuse_page,
)
from cellssl.errors import DataError, NetworkError

Heard = Callable[[int], None]
"""Told how many further bytes came; may raise, where nobody wants them any more."""


class Pieces(Protocol):
    """A file of which any piece can be had, from several threads at once."""

    name: str
    size: int

    def copy(self, start: int, stop: int, into: IO[bytes], heard: Heard) -> None:
        """Write the bytes from `start` to before `stop` into an empty file.

        Raises NetworkError where they cannot be had, ChangedError where the file is another one by now.
        """


class RangesRefusedError(Exception):
    """The server gives whole files only, of `total` bytes where it says so."""

    def __init__(self, url: str, total: int | None = None) -> None:
        super().__init__(url)
        self.total = total


class ChangedError(Exception):
    """The file on the server is another one than it was."""


class LocalPieces:
    """A file on this machine.

    Raises DataError where it may not be read.
    """

    def __init__(self, path: Path) -> None:
        self.name, self.size, self._path = path.name, path.stat().st_size, path
        if not os.access(path, os.R_OK):
            raise DataError(f"{path} may not be read", hint="give yourself the right to read it")

    def copy(self, start: int, stop: int, into: IO[bytes], heard: Heard) -> None:
        """A file that became shorter meanwhile gives fewer bytes, which its checksum will tell."""
        with self._path.open("rb") as file:
            file.seek(start)
            left = stop - start
            while left and (chunk := file.read(min(left, 1 << 20))):
                into.write(chunk)
                left -= len(chunk)
                heard(len(chunk))


class WebPieces:
    """A file on a server that grants ranges."""

    def __init__(self, web: Web, remote: Remote, size: int) -> None:
        self.name, self.size = remote.url.rsplit("/", 1)[-1], size
        self._web, self._remote = web, remote

    @classmethod
    def open(cls, web: Web, url: str) -> WebPieces:
        """Ask for one byte, and learn what the file is.

        Raises RangesRefusedError, NetworkError.
        """
        faults = 0
        while True:
            try:
                return cls._opened(web, url)
            except FAULTS as error:
                faults += 1
                if faults >= web.patience.tries:
                    raise NetworkError(f"{url} cannot be read: {reason(error)}", hint=AGAIN) from error
                web.patience.wait(faults)

    @classmethod
    def _opened(cls, web: Web, url: str) -> WebPieces:
        with web.get(url, {"Range": "bytes=0-0"}) as answer:
            given = range_of(answer) if answer.status_code == 206 else None
            if given and given[:2] == (0, 1) and given[2] and not is_packed(answer):
                b"".join(_at_most(web.body(answer), 1))  # taken, so that the connection can be used again
                return cls(web, described(answer, url, given[2]), given[2])
            if answer.status_code == 200:
                refuse_page(answer, next(web.body(answer), b""), url)
            if answer.status_code in (200, 206, 416):
                raise RangesRefusedError(url, length_of(answer) if answer.status_code == 200 else None)
            raise refusal(answer, url)

    def copy(self, start: int, stop: int, into: IO[bytes], heard: Heard) -> None:
        """Breaks are gone on with where they were; a server that gives nothing new is given up.

        Raises RangesRefusedError where other bytes than those asked for come again and again.
        """
        patience, faults, wrong, came = self._web.patience, 0, 0, 0
        while came < stop - start:
            before = came
            try:
                for chunk in self._chunks(start + came, stop):
                    into.write(chunk)
                    came += len(chunk)
                    heard(len(chunk))
            except FAULTS as error:
                if came == stop - start:
                    return  # only the end of the answer is missing
                wrong += isinstance(error, _WrongRangeError)
                faults = 1 if came - before >= CHUNK_BYTES else faults + 1
                if wrong >= patience.tries:
                    raise RangesRefusedError(self._remote.url) from error
                if faults >= patience.tries:
                    raise NetworkError(f"{self._remote.url} cannot be read: {reason(error)}", hint=AGAIN) from error
                patience.wait(faults)

    def _chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """One request; a server may give less than it was asked for, if it says so."""
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if self._remote.validator:
            headers["If-Range"] = self._remote.validator
        with self._web.get(self._remote.url, headers) as answer:
            if answer.status_code == 200:
                refuse_page(answer, next(self._web.body(answer), b""), self._remote.url)
                raise ChangedError(self._remote.url)
            given = range_of(answer)
            if answer.status_code == 416 or (given and not self._remote.is_same(self._now(answer, given[2]))):
                raise ChangedError(self._remote.url)
            if answer.status_code != 206:
                raise refusal(answer, self._remote.url)
            if given is None or given[0] != start or given[1] > stop:
                raise _WrongRangeError("the server sent another range than it was asked for")
            promised = given[1] - given[0]
            if length_of(answer) not in (None, promised):
                raise _WrongRangeError(f"the server sends {length_of(answer):,} bytes as a range of {promised:,}")
            yield from _exactly(self._web.body(answer), promised)

    def _now(self, answer: requests.Response, total: int | None) -> Remote:
        return described(answer, self._remote.url, total)


class _WrongRangeError(CutOffError):
    """Other bytes than those that were asked for."""


def _exactly(chunks: Iterator[bytes], promised: int) -> Iterator[bytes]:
    came = 0
    for chunk in chunks:
        came += len(chunk)
        if came > promised:
            raise _WrongRangeError(f"the server sent more than the {promised:,} bytes that it promised")
        yield chunk
    if came < promised:
        raise CutOffError(f"{came:,} of {promised:,} bytes came")


def _at_most(chunks: Iterator[bytes], most: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        most -= len(chunk)
        if most < 0:
            return


TAILS = (98, 1 << 10, (1 << 16) + 22)
"""How much of an archive's end is looked at: without a comment, with a short one, and with the longest there can be."""
END = b"PK\x05\x06"
LARGEST_DIRECTORY_BYTES = 1 << 28


class TooLargeError(ValueError):
    """A directory that says it is larger than any that is true."""


class Reader(io.RawIOBase):
    """Pieces as a file that `zipfile` can read a directory from, in two small pieces where there is no comment."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces, self._at = pieces, 0
        self._tail = b""

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; before the beginning there is nothing."""
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._pieces.size}[whence]
        if at < 0:
            raise OSError("before the beginning of the file")
        self._at = at
        return at

    def read(self, size: int | None = -1) -> bytes:
        """The bytes from here on; of the last 64 KiB, what stands before the end record is not fetched and reads as 0.

        `zipfile` asks for so much where there is a comment, and looks at nothing but that record and what follows.
        """
        start, end = self._at, self._pieces.size
        stop = end if size is None or size < 0 else min(end, start + size)
        if start >= stop:
            return b""
        if stop - start > LARGEST_DIRECTORY_BYTES:
            raise TooLargeError(f"its directory says that it has {stop - start:,} bytes")
        self._at = stop
        if stop == end and end - start <= TAILS[-1]:
            return self._end(end - start)
        if start >= end - len(self._tail):
            return self._tail[start - end : stop - end or None]
        return self._piece(start, stop)

    def _end(self, length: int) -> bytes:
        for tail in TAILS:
            enough = len(self._tail) >= min(length, self._pieces.size) or _has_end(self._tail)
            if tail > len(self._tail) and not enough:
                self._tail = self._piece(max(0, self._pieces.size - tail), self._pieces.size)
        return self._tail[-length:].rjust(length, b"\0")

    def _piece(self, start: int, stop: int) -> bytes:
        into = io.BytesIO()
        self._pieces.copy(start, stop, into, lambda _: None)
        return into.getvalue()


def _has_end(tail: bytes) -> bool:
    """Whether the end record stands in these last bytes of an archive, with a comment that ends with them."""
    at = tail.rfind(END)
    return at >= 0 and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail)
