"""byte_ranges: a file on this machine or on a server in -> any range of its bytes, exactly as asked for."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

import requests

from cellssl.datasets.transfer.http import (
    CHUNK_BYTES,
    RETRYABLE_ERRORS,
    HttpClient,
    InterruptedTransferError,
    RemoteFile,
    describe_remote,
    error_for_status,
    give_up,
    is_compressed,
    length_of,
    raise_if_web_page,
    range_of,
)
from cellssl.disk import raise_fault
from cellssl.errors import DataError

IN_MEMORY_BYTES = 1 << 23
"""Size up to which a range is held in memory; a larger one goes through a temporary file."""
OnBytes = Callable[[int], None]
"""Called with the number of further bytes that arrived; may raise to stop the transfer."""


class ByteRanges(Protocol):
    """A file of which any range of bytes can be read, from several threads at once."""

    name: str
    size: int

    def copy(self, start: int, stop: int, into: IO[bytes], on_bytes: OnBytes) -> None:
        """Write the bytes from `start` to before `stop` into an open file.

        Raises NetworkError where they cannot be read, ChangedError where the file has changed.
        """


class RangesRefusedError(Exception):
    """The server sends whole files only; `total` is the size in bytes where it says so."""

    def __init__(self, url: str, total: int | None = None) -> None:
        super().__init__(url)
        self.total = total


class ChangedError(Exception):
    """The file on the server has changed."""


class LocalByteRanges:
    """Byte ranges of a file on this machine.

    Raises DataError where it may not be read.
    """

    def __init__(self, path: Path) -> None:
        self.name, self.size, self._path = path.name, path.stat().st_size, path
        if not os.access(path, os.R_OK):
            raise DataError(f"{path} may not be read", hint="change its permissions so that you can read it")

    def copy(self, start: int, stop: int, into: IO[bytes], on_bytes: OnBytes) -> None:
        """Write a range; a file that was shortened meanwhile gives fewer bytes, which its checksum detects.

        Raises FailedError where the file system fails to give them.
        """
        left = stop - start
        try:
            with self._path.open("rb") as file:
                file.seek(start)
                while left and (chunk := file.read(min(left, 1 << 20))):
                    into.write(chunk)
                    left -= len(chunk)
                    on_bytes(len(chunk))
        except OSError as error:
            raise_fault(error, self._path)
            raise

    def forget(self) -> None:
        """Drop what the system holds of the file in memory, where it can, so that the next reading is from the disk."""
        if hasattr(os, "posix_fadvise"):
            with self._path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class WiderRanges:
    """Byte ranges for another reading, which asks for some bytes more at both ends and drops them.

    So neither a cache that keeps a damaged answer, nor a server that damages the same place of every answer, gives the
    same wrong bytes again.
    """

    def __init__(self, ranges: ByteRanges, wider_bytes: int) -> None:
        self.name, self.size, self._ranges, self._wider_bytes = ranges.name, ranges.size, ranges, wider_bytes

    def copy(self, start: int, stop: int, into: IO[bytes], on_bytes: OnBytes) -> None:
        """Write a range; raises what the ranges that it reads raise."""
        wide_start, wide_stop = max(0, start - self._wider_bytes), min(self.size, stop + self._wider_bytes)
        with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as wide:
            self._ranges.copy(wide_start, wide_stop, wide, on_bytes)
            wide.seek(start - wide_start)
            left = stop - start
            while left and (chunk := wide.read(min(left, 1 << 20))):
                into.write(chunk)
                left -= len(chunk)


class HttpByteRanges:
    """Byte ranges of a file on a server that grants them."""

    def __init__(self, client: HttpClient, remote: RemoteFile, size: int) -> None:
        self.name, self.size = remote.url.rsplit("/", 1)[-1], size
        self._client, self._remote = client, remote

    @classmethod
    def open(cls, client: HttpClient, url: str) -> HttpByteRanges:
        """Request one byte, to find out the size of the file and whether the server grants ranges.

        Raises RangesRefusedError, NetworkError.
        """
        faults = 0
        while True:
            try:
                return cls._try_open(client, url)
            except RETRYABLE_ERRORS as error:
                faults += 1
                if faults >= client.policy.tries:
                    raise give_up(url, "read", error) from error
                client.policy.wait(faults)

    @classmethod
    def _try_open(cls, client: HttpClient, url: str) -> HttpByteRanges:
        with client.get(url, {"Range": "bytes=0-0"}) as answer:
            given = range_of(answer) if answer.status_code == 206 else None
            if given and given[:2] == (0, 1) and given[2] and not is_compressed(answer):
                b"".join(_at_most(client.body(answer), 1))  # read it, so that the connection can be used again
                return cls(client, describe_remote(answer, url, given[2]), given[2])
            if answer.status_code == 200:
                raise_if_web_page(answer, next(client.body(answer), b""), url)
            if answer.status_code in (200, 206, 416):
                raise RangesRefusedError(url, length_of(answer) if answer.status_code == 200 else None)
            raise error_for_status(answer, url)

    def copy(self, start: int, stop: int, into: IO[bytes], on_bytes: OnBytes) -> None:
        """Write a range; after a break, continue where it broke, and give up when the server sends nothing new.

        Raises RangesRefusedError where the server sends other bytes than those asked for, again and again.
        """
        policy, faults, wrong_ranges, received = self._client.policy, 0, 0, 0
        while received < stop - start:
            before = received
            try:
                for chunk in self._chunks(start + received, stop):
                    into.write(chunk)
                    received += len(chunk)
                    on_bytes(len(chunk))
            except RETRYABLE_ERRORS as error:
                if received == stop - start:
                    return  # only the end of the answer is missing
                wrong_ranges += isinstance(error, _WrongRangeError)
                faults = 1 if received - before >= CHUNK_BYTES else faults + 1
                if wrong_ranges >= policy.tries:
                    raise RangesRefusedError(self._remote.url) from error
                if faults >= policy.tries:
                    raise give_up(self._remote.url, "read", error) from error
                policy.wait(faults)

    def _chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """Send one request and yield its bytes; a server may send fewer than asked for, if it says so."""
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        if self._remote.validator:
            headers["If-Range"] = self._remote.validator
        with self._client.get(self._remote.url, headers) as answer:
            if answer.status_code == 200:
                raise_if_web_page(answer, next(self._client.body(answer), b""), self._remote.url)
                raise ChangedError(self._remote.url)
            given = range_of(answer)
            if answer.status_code == 416 or (given and not self._remote.is_same(self._described(answer, given[2]))):
                raise ChangedError(self._remote.url)
            if answer.status_code != 206:
                raise error_for_status(answer, self._remote.url)
            if given is None or given[0] != start or given[1] > stop:
                raise _WrongRangeError("the server sent another range than it was asked for")
            promised = given[1] - given[0]
            if length_of(answer) not in (None, promised):
                raise _WrongRangeError(f"the server sends {length_of(answer):,} bytes as a range of {promised:,}")
            yield from _exactly(self._client.body(answer), promised)

    def _described(self, answer: requests.Response, total: int | None) -> RemoteFile:
        return describe_remote(answer, self._remote.url, total)


class _WrongRangeError(InterruptedTransferError):
    """The server sent other bytes than those that were requested."""


def _exactly(chunks: Iterator[bytes], promised: int) -> Iterator[bytes]:
    """Yield the chunks; raise where they are more or fewer bytes than promised."""
    received = 0
    for chunk in chunks:
        received += len(chunk)
        if received > promised:
            raise _WrongRangeError(f"the server sent more than the {promised:,} bytes that it promised")
        yield chunk
    if received < promised:
        raise InterruptedTransferError(f"{received:,} of {promised:,} bytes arrived")


def _at_most(chunks: Iterator[bytes], limit: int) -> Iterator[bytes]:
    """Yield chunks until more than `limit` bytes have arrived."""
    for chunk in chunks:
        yield chunk
        limit -= len(chunk)
        if limit < 0:
            return


TAIL_SIZES = (98, 1 << 10, (1 << 16) + 22)
"""Bytes that are read of an archive's end: without a comment, with a short one, and with the longest that can be."""
END_RECORD = b"PK\x05\x06"
"""Signature of the end record of a zip archive."""
LARGEST_DIRECTORY_BYTES = 1 << 28


class TooLargeError(ValueError):
    """The directory claims a size that no real one has."""


class ByteRangesFile(io.RawIOBase):
    """Byte ranges as a file object for `zipfile` to read the directory; two small ranges if there is no comment."""

    def __init__(self, ranges: ByteRanges) -> None:
        self._ranges, self._position = ranges, 0
        self._tail = b""
        self._read = hashlib.sha256()

    def sha256(self) -> str:
        """Return the sha256 of all bytes that were read so far."""
        return self._read.hexdigest()

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position; OSError before the beginning."""
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._ranges.size}[whence]
        if position < 0:
            raise OSError("before the beginning of the file")
        self._position = position
        return position

    def read(self, size: int | None = -1) -> bytes:
        """Return the bytes from here on; in the last 64 KiB, those before the end record are not fetched and read as 0.

        `zipfile` asks for so many where there is a comment, and looks at nothing but that record and what follows it.
        """
        start, end = self._position, self._ranges.size
        stop = end if size is None or size < 0 else min(end, start + size)
        if start >= stop:
            return b""
        if stop - start > LARGEST_DIRECTORY_BYTES:
            raise TooLargeError(f"its directory says that it has {stop - start:,} bytes")
        self._position = stop
        if stop == end and end - start <= TAIL_SIZES[-1]:
            return self._end(end - start)
        if start >= end - len(self._tail):
            return self._tail[start - end : stop - end or None]
        return self._range(start, stop)

    def _end(self, length: int) -> bytes:
        for size in TAIL_SIZES:
            enough = len(self._tail) >= min(length, self._ranges.size) or _has_end_record(self._tail)
            if size > len(self._tail) and not enough:
                self._tail = self._range(max(0, self._ranges.size - size), self._ranges.size)
        return self._tail[-length:].rjust(length, b"\0")

    def _range(self, start: int, stop: int) -> bytes:
        into = io.BytesIO()
        self._ranges.copy(start, stop, into, lambda _: None)
        self._read.update(into.getvalue())
        return into.getvalue()


def _has_end_record(tail: bytes) -> bool:
    """Return whether the end record is in these last bytes of an archive, with a comment that ends with them."""
    place = tail.rfind(END_RECORD)
    return place >= 0 and place + 22 + int.from_bytes(tail[place + 20 : place + 22], "little") == len(tail)
