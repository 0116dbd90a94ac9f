"""zip_directory: byte ranges of a zip archive in -> its directory, and the file of each member, or what is wrong."""

from __future__ import annotations

import hashlib
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

from cellssl.datasets.transfer.byte_ranges import IN_MEMORY_BYTES, ByteRanges, ByteRangesFile, OnBytes
from cellssl.datasets.transfer.faults import Fault
from cellssl.datasets.transfer.tiff_check import missing_bytes
from cellssl.files import atomic_path

LOCAL_HEADER = struct.Struct("<4s5H3I2H")
"""The header before a member's compressed bytes (APPNOTE.TXT, 4.3.7)."""
ENCRYPTED, SIZES_FOLLOW, UTF8 = 0x1, 0x8, 0x800
"""Bits of a member's flags."""
SLACK_BYTES = 64
"""Bytes by which a local header's extra field may exceed that in the directory before a second range is needed."""
MAX_DEFLATE_RATIO = 1032
"""Deflate expands one byte to at most this many (zlib's documentation)."""
ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
    struct.error,
)


class _BrokenError(Exception):
    """Bytes that are not what they should be; `evidence` is their sha256."""

    def __init__(self, reason: str, evidence: str) -> None:
        super().__init__(reason)
        self.fault = Fault(reason, evidence)


class BrokenArchiveError(_BrokenError):
    """These bytes hold no directory of an archive."""


class BrokenMemberError(_BrokenError):
    """A member cannot be extracted; another copy of the archive may hold it whole."""


@dataclass(frozen=True)
class Entry:
    """A member as the directory describes it; `stop` is where the next part of the archive begins."""

    info: zipfile.ZipInfo
    stop: int

    @property
    def start(self) -> int:
        """Return where its local header begins."""
        return self.info.header_offset

    @property
    def size(self) -> int:
        """Return its size in bytes when extracted."""
        return self.info.file_size

    @property
    def byte_range(self) -> tuple[int, int]:
        """Return the range of the archive that most likely holds it: first byte and end."""
        likely = LOCAL_HEADER.size + len(self.info.orig_filename.encode()) + len(self.info.extra) + SLACK_BYTES
        return self.start, min(self.stop, self.start + likely + self.info.compress_size)

    @property
    def range_bytes(self) -> int:
        """Return the length of that range."""
        start, stop = self.byte_range
        return stop - start

    def matches(self, path: Path) -> bool:
        """Return whether a file holds the same bytes, by size and CRC."""
        return path.is_file() and path.stat().st_size == self.size and crc_of(path) == self.info.CRC


class Directory:
    """The members that an archive says it holds; `sha256` is that of the bytes that say so."""

    def __init__(self, infos: Sequence[zipfile.ZipInfo], directory_start: int, sha256: str) -> None:
        self._sha256 = sha256
        starts = sorted({info.header_offset for info in infos} | {directory_start})
        self._directory_start = directory_start
        self._by_name: dict[str, list[Entry]] = {}
        self._by_normalised_name: dict[str, list[Entry]] = {}
        for info in infos:
            after = bisect_right(starts, info.header_offset)
            entry = Entry(info, starts[after] if after < len(starts) else directory_start)
            self._by_name.setdefault(info.filename, []).append(entry)
            self._by_normalised_name.setdefault(_normalised(info.filename), []).append(entry)

    def find(self, member: str) -> Entry:
        """Return the member of that name; if there is none, the one whose name differs in case or separators only.

        Raises BrokenMemberError with the reason where there is none, where there are several with different content, or
        where what the directory says about it cannot be true.
        """
        found = self._by_name.get(member) or self._by_normalised_name.get(_normalised(member)) or []
        if not found:
            raise BrokenMemberError(f"{member} is not in its archive", self._sha256)
        entry = found[-1]
        if any((other.info.CRC, other.size) != (entry.info.CRC, entry.size) for other in found):
            reason = f"{member} is in its archive {len(found)} times, with different content"
            raise BrokenMemberError(reason, self._sha256)
        if reason := _fault(entry, member, self._directory_start):
            raise BrokenMemberError(reason, self._sha256)
        return entry

    def holds(self, member: str) -> bool:
        """Return whether there is such a member that can be extracted, by the directory alone."""
        try:
            self.find(member)
        except BrokenMemberError:
            return False
        return True


def read_directory(ranges: ByteRanges) -> Directory:
    """Read the directory of an archive; BrokenArchiveError where it has none that can be read."""
    file = ByteRangesFile(ranges)
    try:
        with zipfile.ZipFile(file) as archive:
            return Directory(archive.infolist(), archive.start_dir, file.sha256())
    except (*ARCHIVE_ERRORS, OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BrokenArchiveError(f"{ranges.name} is not a whole archive: {error}", file.sha256()) from error


def extract_member(
    ranges: ByteRanges, entry: Entry, member: str, target: Path, scratch: Path, on_bytes: OnBytes
) -> None:
    """Extract one member to `target`, which appears when its size and CRC are those of the directory.

    Raises BrokenMemberError where they are not, and what `ranges` raises.
    """
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(scratch)) as compressed:
        start, stop = entry.byte_range
        ranges.copy(start, stop, compressed, on_bytes)
        compressed.seek(0)
        try:
            skipped = _check_header(compressed.read(LOCAL_HEADER.size), entry)
            end = entry.start + skipped + entry.info.compress_size
            if end > entry.stop:
                raise zipfile.BadZipFile("it reaches into what follows it in the archive")
            if end > stop:  # its local header was longer than the directory's entry suggested
                compressed.seek(0, 2)
                ranges.copy(stop, end, compressed, on_bytes)
            compressed.seek(LOCAL_HEADER.size)
            if compressed.read(len(_name(entry.info))) != _name(entry.info):
                raise zipfile.BadZipFile("its header has another name")
            compressed.seek(skipped)
            _decompress(compressed, entry, target, scratch)
        except (*ARCHIVE_ERRORS, OSError, RuntimeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            reason = f"{member} is broken in the archive: {error}"
            raise BrokenMemberError(reason, _evidence(compressed, entry)) from error


def _evidence(compressed: IO[bytes], entry: Entry) -> str:
    """Return the sha256 of what the directory says about a member, and of the bytes that came of it."""
    info = entry.info
    said = (info.orig_filename, info.CRC, info.compress_type, info.flag_bits, *entry.byte_range, info.file_size)
    evidence = hashlib.sha256(repr(said).encode())
    compressed.seek(0)
    while chunk := compressed.read(1 << 20):
        evidence.update(chunk)
    return evidence.hexdigest()


def _decompress(compressed: IO[bytes], entry: Entry, target: Path, scratch: Path) -> None:
    """Write the member to `target`; raise where its size is not the stated one, or its image is cut off."""
    written = 0
    with (
        atomic_path(target, scratch) as path,
        zipfile.ZipExtFile(compressed, "r", entry.info) as content,
        path.open("wb") as file,
    ):
        while chunk := content.read(1 << 20):
            written += file.write(chunk)
        if written != entry.size:
            raise zipfile.BadZipFile(f"{written:,} bytes came out of it instead of {entry.size:,}")
        file.flush()
        missing = missing_bytes(path)
        if missing:  # it was cut off before it was packed, so its CRC is right
            raise zipfile.BadZipFile(f"it is cut off: {missing:,} bytes are missing at its end")


def _fault(entry: Entry, member: str, directory_start: int) -> str:
    """Return what is wrong with a member by the directory alone; "" where nothing is."""
    info = entry.info
    if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
        return f"{member} is not a file in the archive"
    if info.flag_bits & ENCRYPTED:
        return f"{member} is encrypted in the archive"
    if not 0 <= info.header_offset < directory_start or info.header_offset + info.compress_size > directory_start:
        return f"{member} lies outside of its archive, by the archive's own directory"
    if (info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size) or (
        info.compress_type == zipfile.ZIP_DEFLATED and info.file_size > MAX_DEFLATE_RATIO * (info.compress_size + 1)
    ):
        return f"{member} cannot have {info.file_size:,} bytes, compressed to {info.compress_size:,} in the archive"
    return ""


def _check_header(header: bytes, entry: Entry) -> int:
    """Return the distance from the local header to the compressed bytes; the header must agree with the directory."""
    signature, _, flags, method, _, _, crc, compressed, extracted, name, extra = LOCAL_HEADER.unpack(header)
    info = entry.info
    if signature != b"PK\x03\x04":
        raise zipfile.BadZipFile("there is no header where it should begin")
    if flags & ENCRYPTED or method != info.compress_type:
        raise zipfile.BadZipFile("its header and the directory disagree on how it is compressed")
    has_sizes = not flags & SIZES_FOLLOW
    if has_sizes and crc != info.CRC:
        raise zipfile.BadZipFile("its header and the directory disagree on its checksum")
    sizes = ((compressed, info.compress_size), (extracted, info.file_size))
    if has_sizes and any(
        in_header not in (in_directory, 0xFFFFFFFF) for in_header, in_directory in sizes
    ):  # 0xFFFFFFFF: see zip64
        raise zipfile.BadZipFile("its header and the directory disagree on its size")
    if name != len(_name(info)):
        raise zipfile.BadZipFile("its header has another name")
    return int(LOCAL_HEADER.size + name + extra)


def _name(info: zipfile.ZipInfo) -> bytes:
    """Return the name as it is written in the archive."""
    return info.orig_filename.encode("utf-8" if info.flag_bits & UTF8 else "cp437")


def is_whole(path: Path) -> bool:
    """Return whether every member of an archive on this machine has the CRC that its directory gives."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (*ARCHIVE_ERRORS, OverflowError, RuntimeError):
        return False


def _normalised(name: str) -> str:
    """Return a name with Windows' separators replaced and in lower case; no two images differ in these alone."""
    return name.replace("\\", "/").removeprefix("./").casefold()


def crc_of(path: Path) -> int:
    """Return the CRC-32 of a file's bytes."""
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            crc = zlib.crc32(chunk, crc)
    return crc
