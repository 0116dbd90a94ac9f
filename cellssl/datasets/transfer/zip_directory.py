"""zip_directory: the pieces of a zip file -> its directory, and of each wanted member its file, or what is wrong with it."""

from __future__ import annotations

import lzma
import stat
import struct
import tempfile
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cellssl.datasets.transfer.byte_ranges import Heard, Pieces, Reader
from cellssl.datasets.transfer.tiff_check import missing_bytes
from cellssl.files import atomic_path

LOCAL = struct.Struct("<4s5H3I2H")
"""The header before a member's packed bytes (APPNOTE.TXT, 4.3.7)."""
ENCRYPTED, SIZES_FOLLOW, UTF8 = 0x1, 0x8, 0x800
SLACK_BYTES = 64
"""By so much the extra field of a local header may be longer than the directory's, before it costs a second piece."""
MOST_INFLATED = 1032
"""Deflate makes at most so much of a byte (zlib's documentation)."""
IN_MEMORY_BYTES = 1 << 23
FAULTS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError, struct.error)


class BrokenArchiveError(Exception):
    """There is no directory in these bytes."""


class BrokenMemberError(Exception):
    """A member that cannot be had; another copy of the archive may hold it whole."""


@dataclass(frozen=True)
class Entry:
    """A member as the directory describes it; `stop` is where what follows it in the archive begins."""

    info: zipfile.ZipInfo
    stop: int

    @property
    def start(self) -> int:
        """Where its local header begins."""
        return self.info.header_offset

    @property
    def size(self) -> int:
        """Bytes once unpacked."""
        return self.info.file_size

    @property
    def moved(self) -> tuple[int, int]:
        """The piece of the archive that holds it."""
        likely = LOCAL.size + len(self.info.orig_filename.encode()) + len(self.info.extra) + SLACK_BYTES
        return self.start, min(self.stop, self.start + likely + self.info.compress_size)

    @property
    def moved_bytes(self) -> int:
        """The length of that piece."""
        start, stop = self.moved
        return stop - start

    def is_as(self, path: Path) -> bool:
        """Whether a file holds these very bytes, by size and CRC."""
        return path.is_file() and path.stat().st_size == self.size and crc_of(path) == self.info.CRC


class Directory:
    """What an archive says that it holds."""

    def __init__(self, infos: Sequence[zipfile.ZipInfo], begins: int) -> None:
        starts = sorted({info.header_offset for info in infos} | {begins})
        self._begins = begins
        self._exact: dict[str, list[Entry]] = {}
        self._folded: dict[str, list[Entry]] = {}
        for info in infos:
            after = bisect_right(starts, info.header_offset)
            entry = Entry(info, starts[after] if after < len(starts) else begins)
            self._exact.setdefault(info.filename, []).append(entry)
            self._folded.setdefault(_folded(info.filename), []).append(entry)

    def find(self, member: str) -> Entry:
        """The one member of that name, or of that name in other letters where there is but one.

        Raises BrokenMemberError with the reason where there is none, or what it says of itself cannot be true.
        """
        found = self._exact.get(member) or self._folded.get(_folded(member)) or []
        if not found:
            raise BrokenMemberError(f"{member} is not in its archive")
        entry = found[-1]
        if any((other.info.CRC, other.size) != (entry.info.CRC, entry.size) for other in found):
            raise BrokenMemberError(f"{member} is in its archive {len(found)} times, with different content")
        _check(entry, member, self._begins)
        return entry


def read_directory(pieces: Pieces) -> Directory:
    """The directory of an archive; BrokenArchiveError where it has none that can be read."""
    try:
        with zipfile.ZipFile(Reader(pieces)) as archive:
            return Directory(archive.infolist(), archive.start_dir)
    except (*FAULTS, OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BrokenArchiveError(f"{pieces.name} is not a whole archive: {error}") from error


def take(pieces: Pieces, entry: Entry, member: str, target: Path, scratch: Path, heard: Heard) -> None:
    """Bring one member to `target`, which appears when its size and CRC are those of the directory.

    Raises BrokenMemberError where they are not, and what `pieces` raises.
    """
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(scratch)) as packed:
        begin, stop = entry.moved
        pieces.copy(begin, stop, packed, heard)
        packed.seek(0)
        try:
            skipped = _check_header(packed.read(LOCAL.size), entry)
            ends = entry.start + skipped + entry.info.compress_size
            if ends > entry.stop:
                raise zipfile.BadZipFile("it reaches into what follows it in the archive")
            if ends > stop:  # its local header was longer than the directory's entry let expect
                packed.seek(0, 2)
                pieces.copy(stop, ends, packed, heard)
            packed.seek(LOCAL.size)
            if packed.read(len(_name(entry.info))) != _name(entry.info):
                raise zipfile.BadZipFile("its header bears another name")
            packed.seek(skipped)
            _unpack(packed, entry, target, scratch)
        except (*FAULTS, OSError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise BrokenMemberError(f"{member} is broken in the archive: {error}") from error


def _unpack(packed: IO[bytes], entry: Entry, target: Path, scratch: Path) -> None:
    """At most the stated size is unpacked, and nothing less is taken."""
    written = 0
    with (
        atomic_path(target, scratch) as path,
        zipfile.ZipExtFile(packed, "r", entry.info) as unpacking,
        path.open("wb") as unpacked,
    ):
        while chunk := unpacking.read(1 << 20):
            written += unpacked.write(chunk)
        if written != entry.size:
            raise zipfile.BadZipFile(f"{written:,} bytes came out of it instead of {entry.size:,}")
        unpacked.flush()
        missing = missing_bytes(path)
        if missing:  # as it was when it was packed, so that its CRC is right
            raise zipfile.BadZipFile(f"it is cut off: {missing:,} bytes are missing at its end")


def _check(entry: Entry, member: str, begins: int) -> None:
    """What can be told from the directory alone."""
    info = entry.info
    fault = None
    if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
        fault = f"{member} is no file in the archive"
    elif info.flag_bits & ENCRYPTED:
        fault = f"{member} is encrypted in the archive"
    elif not 0 <= info.header_offset < begins or info.header_offset + info.compress_size > begins:
        fault = f"{member} lies outside of its archive, by the archive's own directory"
    elif (info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size) or (
        info.compress_type == zipfile.ZIP_DEFLATED and info.file_size > MOST_INFLATED * (info.compress_size + 1)
    ):
        fault = f"{member} cannot have {info.file_size:,} bytes, packed in {info.compress_size:,} in the archive"
    if fault:
        raise BrokenMemberError(fault)


def _check_header(header: bytes, entry: Entry) -> int:
    """How far after its beginning a member's packed bytes stand; its header must agree with the directory."""
    signature, _, flags, method, _, _, crc, packed, unpacked, name, extra = LOCAL.unpack(header)
    info = entry.info
    if signature != b"PK\x03\x04":
        raise zipfile.BadZipFile("there is no header where it should begin")
    if flags & ENCRYPTED or method != info.compress_type:
        raise zipfile.BadZipFile("its header and the directory disagree on how it is packed")
    told = not flags & SIZES_FOLLOW
    if told and crc != info.CRC:
        raise zipfile.BadZipFile("its header and the directory disagree on its checksum")
    sizes = ((packed, info.compress_size), (unpacked, info.file_size))
    if told and any(here not in (there, 0xFFFFFFFF) for here, there in sizes):  # the largest number: see zip64
        raise zipfile.BadZipFile("its header and the directory disagree on its size")
    if name != len(_name(info)):
        raise zipfile.BadZipFile("its header bears another name")
    return int(LOCAL.size + name + extra)


def _name(info: zipfile.ZipInfo) -> bytes:
    """The name as it is written in the archive."""
    return info.orig_filename.encode("utf-8" if info.flag_bits & UTF8 else "cp437")


def _folded(name: str) -> str:
    """Windows' separators and the case of letters tell no two images apart."""
    return name.replace("\\", "/").removeprefix("./").casefold()


def crc_of(path: Path) -> int:
    """The CRC-32 of a file's bytes."""
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    return crc
