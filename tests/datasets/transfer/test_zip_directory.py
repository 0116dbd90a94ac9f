"""Tests of reading an archive: every way to write one gives the same member, and false directories do no harm."""

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import tifffile

from cellssl.datasets.transfer.byte_ranges import LocalByteRanges
from cellssl.datasets.transfer.zip_directory import (
    BrokenArchiveError,
    BrokenMemberError,
    extract_member,
    read_directory,
)
from cellssl.randomness import generator

MEMBER = "P/Image_s1.tif"
CONTENT = generator("archive").bytes(30_000) + bytes(50_000)
OTHERS = {f"P/other{number}.tif": generator("other", number).bytes(5_000) for number in range(40)}


class Counting(LocalByteRanges):
    """Byte ranges of a file that note the size of each range that is read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sizes: list[int] = []

    def copy(self, start: int, stop: int, into: IO[bytes], on_bytes: Any) -> None:
        """Note the size, then copy."""
        self.sizes.append(stop - start)
        super().copy(start, stop, into, on_bytes)


def archive(path: Path, write: Callable[[zipfile.ZipFile], None], **how: Any) -> Path:
    """Write an archive with other members before and after what `write` adds."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **how) as opened:
        for number, (name, content) in enumerate(OTHERS.items()):
            if number == 20:
                write(opened)
            opened.writestr(name, content)
    return path


def write_member(opened: zipfile.ZipFile) -> None:
    opened.writestr(MEMBER, CONTENT)


def extract(path: Path, member: str = MEMBER) -> tuple[bytes, list[int]]:
    """Extract a member; return its content, and the sizes of the ranges that were read."""
    ranges, target = Counting(path), path.parent / "out" / "image.tif"
    (path.parent / "scratch").mkdir(exist_ok=True)
    extract_member(ranges, read_directory(ranges).find(member), member, target, path.parent / "scratch", lambda _: None)
    assert not list((path.parent / "scratch").iterdir())
    return target.read_bytes(), ranges.sizes


def fault(path: Path, member: str = MEMBER) -> str:
    with pytest.raises(BrokenMemberError) as caught:
        extract(path, member)
    assert not (path.parent / "out" / "image.tif").exists()
    return str(caught.value)


def in_a_stream(path: Path, write: Callable[[zipfile.ZipFile], None]) -> Path:
    """Write an archive to a stream that cannot seek, so that sizes follow the content."""

    class Stream(io.RawIOBase):
        def __init__(self, file: IO[bytes]) -> None:
            self.file = file

        def writable(self) -> bool:
            return True

        def write(self, content: Any) -> int:
            return self.file.write(content)

    with path.open("wb") as file, zipfile.ZipFile(Stream(file), "w", zipfile.ZIP_DEFLATED) as opened:  # type: ignore[call-overload]
        write_member(opened)
        for name, content in OTHERS.items():
            opened.writestr(name, content)
    return path


def zip64(opened: zipfile.ZipFile) -> None:
    with opened.open(MEMBER, "w", force_zip64=True) as file:
        file.write(CONTENT)


def packed_by(method: int) -> Callable[[zipfile.ZipFile], None]:
    return lambda opened: opened.writestr(MEMBER, CONTENT, method)


def with_long_extra(opened: zipfile.ZipFile) -> None:
    """A field of 1,000 bytes that stands in the local header alone."""
    entry = zipfile.ZipInfo(MEMBER)
    entry.extra = struct.pack("<HH", 0xCAFE, 1_000) + bytes(1_000)
    entry.compress_type = zipfile.ZIP_DEFLATED
    opened.writestr(entry, CONTENT)
    entry.extra = b""


def commented(comment: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        archive(path, write_member)
        with zipfile.ZipFile(path, "a") as opened:
            opened.comment = comment
        return path

    return make


def after_a_program(path: Path) -> Path:
    path.write_bytes(b"#!/bin/sh\n" + bytes(5_000) + archive(path, write_member).read_bytes())
    return path


def named(name: str) -> Callable[[Path], Path]:
    return lambda path: archive(path, lambda opened: opened.writestr(name, CONTENT))


def twice_the_same(opened: zipfile.ZipFile) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            opened.writestr(MEMBER, CONTENT)


def large_directory(path: Path) -> Path:
    """Sizes and places that only zip64's end record has room for."""
    content = bytearray(archive(path, write_member).read_bytes())
    end = content[-22:]
    _, _, _, here, total, size, offset, _ = struct.unpack("<4s4H2IH", end)
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, here, total, size, offset)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, len(content) - 22, 1)
    last = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(bytes(content[:-22]) + record + locator + last)
    return path


WRITTEN: dict[str, Callable[[Path], Path]] = {
    "write_member": lambda path: archive(path, write_member),
    "stored": lambda path: archive(path, packed_by(zipfile.ZIP_STORED)),
    "bzip2": lambda path: archive(path, packed_by(zipfile.ZIP_BZIP2)),
    "lzma": lambda path: archive(path, packed_by(zipfile.ZIP_LZMA)),
    "zip64": lambda path: archive(path, zip64),
    "a zip64 directory": large_directory,
    "in a stream": lambda path: in_a_stream(path, write_member),
    "a short comment": commented(b"55 plates"),
    "a comment": commented(b"x" * 500),
    "a long comment": commented(b"x" * 60_000),
    "after a program": after_a_program,
    "long extra": lambda path: archive(path, with_long_extra),
    "other letters": named("p/IMAGE_S1.TIF"),
    "backslashes": named("P\\Image_s1.tif"),
    "./": named("./P/Image_s1.tif"),
    "twice": lambda path: archive(path, twice_the_same),
}


@pytest.mark.parametrize("how", sorted(WRITTEN))
def test_a_member_is_the_same_in_every_kind_of_archive(how: str, tmp_path: Path) -> None:
    content, ranges = extract(WRITTEN[how](tmp_path / "a.zip"))
    assert content == CONTENT
    assert len(ranges) <= 4 + (how in ("a comment", "a long comment")) * 2


def test_only_the_directory_is_read(tmp_path: Path) -> None:
    for how in ("write_member", "a short comment", "a zip64 directory"):
        ranges = Counting(WRITTEN[how](tmp_path / "a.zip"))
        read_directory(ranges)
        assert len(ranges.sizes) == 2
        with zipfile.ZipFile(tmp_path / "a.zip") as opened:
            assert sum(ranges.sizes) <= ranges.size - opened.start_dir + 98


def with_false_directory(**false_values: int) -> Callable[[Path], Path]:
    """Return a function that writes an archive whose directory has these false values."""

    def make(path: Path) -> Path:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
            write_member(opened)
            opened.writestr("P/after.tif", CONTENT)
            for name, value in false_values.items():
                setattr(opened.getinfo(MEMBER), name, value)
        return path

    return make


def with_another_name(path: Path) -> Path:
    content = archive(path, write_member).read_bytes()
    path.write_bytes(content.replace(MEMBER.encode(), b"P/Image_s2.tif", 1))
    return path


def with_a_link(opened: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo(MEMBER)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    opened.writestr(entry, "/etc/passwd")


def twice_with_other_content(opened: zipfile.ZipFile) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        opened.writestr(MEMBER, CONTENT)
        opened.writestr(MEMBER, CONTENT[::-1])


FALSE_ARCHIVES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a bomb": (with_false_directory(file_size=1 << 40), "cannot have 1,099,511,627,776 bytes"),
    "larger": (with_false_directory(file_size=len(CONTENT) + 1), "disagree on its size"),
    "smaller": (with_false_directory(file_size=1_000), "disagree on its size"),
    "packed in more": (with_false_directory(compress_size=1 << 30), "lies outside of its archive"),
    "packed in less": (with_false_directory(compress_size=1_000), "disagree on its size"),
    "another checksum": (with_false_directory(CRC=7), "disagree on its checksum"),
    "elsewhere": (with_false_directory(header_offset=9), "no header where it should begin"),
    "outside": (with_false_directory(header_offset=1 << 30), "lies outside of its archive"),
    "encrypted": (with_false_directory(flag_bits=1), "is encrypted"),
    "another name": (with_another_name, "has another name"),
    "an absolute name": (named("/P/Image_s1.tif"), "is not in its archive"),
    "a name that leads out": (named("../P/Image_s1.tif"), "is not in its archive"),
    "a link": (lambda path: archive(path, with_a_link), "is not a file in the archive"),
    "a folder": (named(MEMBER + "/"), "is not in its archive"),
    "twice otherwise": (lambda path: archive(path, twice_with_other_content), "is in its archive 2 times"),
}


@pytest.mark.parametrize("fault_name", sorted(FALSE_ARCHIVES))
def test_a_false_directory_is_found(fault_name: str, tmp_path: Path) -> None:
    make, words = FALSE_ARCHIVES[fault_name]
    assert words in fault(make(tmp_path / "a.zip"))


def test_a_member_with_sizes_after_it_must_have_the_size_in_the_directory(tmp_path: Path) -> None:
    content = bytearray(in_a_stream(tmp_path / "a.zip", write_member).read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 70_000)  # of 80,000 bytes
    (tmp_path / "a.zip").write_bytes(content)
    assert "Bad CRC-32" in fault(tmp_path / "a.zip")
    content[entry + 24 : entry + 28] = struct.pack("<I", 90_000)
    (tmp_path / "a.zip").write_bytes(content)
    assert "80,000 bytes came out of it instead of 90,000" in fault(tmp_path / "a.zip")


def test_every_flipped_byte_of_a_member_is_found(tmp_path: Path) -> None:
    whole = archive(tmp_path / "a.zip", write_member).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as opened:
        entry = opened.getinfo(MEMBER)
    begins = entry.header_offset + 30 + len(MEMBER)
    for place in range(begins, begins + entry.compress_size, 997):
        (tmp_path / "a.zip").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert "is broken in the archive" in fault(tmp_path / "a.zip")


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive" * 100, b"PK\x05\x06" + b"\xff" * 18, bytes(70_000)])
def test_a_file_that_is_not_an_archive_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(BrokenArchiveError, match=r"a\.zip is not a whole archive"):
        read_directory(LocalByteRanges(tmp_path / "a.zip"))


def test_every_cut_of_an_archive_is_found(tmp_path: Path) -> None:
    whole = archive(tmp_path / "a.zip", write_member).read_bytes()
    for length in range(0, len(whole), 4_999):
        (tmp_path / "a.zip").write_bytes(whole[:length])
        with pytest.raises(BrokenArchiveError):
            read_directory(LocalByteRanges(tmp_path / "a.zip"))


def test_a_directory_that_claims_to_be_huge_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellssl.datasets.transfer.byte_ranges.LARGEST_DIRECTORY_BYTES", 1_000)
    with pytest.raises(BrokenArchiveError, match="its directory says"):
        read_directory(LocalByteRanges(archive(tmp_path / "a.zip", write_member)))


@pytest.mark.parametrize("left", [0, 20_000])
def test_an_image_that_was_cut_off_before_it_was_packed_is_broken_although_its_crc_is_right(
    tmp_path: Path, left: int
) -> None:
    whole = io.BytesIO()
    tifffile.imwrite(whole, generator("cut").integers(0, 4000, (120, 120)).astype(np.uint16))
    packed = archive(tmp_path / "a.zip", lambda opened: opened.writestr(MEMBER, whole.getvalue()[:left]))
    assert "it is cut off" in fault(packed)
