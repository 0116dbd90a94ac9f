"""codestreams: the bytes of one JPEG, JPEG 2000 or JPEG XL image in, its rows and columns out, before any decoding.

The libraries that decode these formats take memory for as many pixels as the header claims, and libjpeg fills the
missing end of an image with grey. So the header is read here first. All functions raise ValueError (or IndexError,
struct.error) where the bytes are not such an image.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers that begin a frame header (SOF0 to SOF15); the three left out mean tables and an extension."""
JPEG_SCAN, JPEG_END = 0xDA, b"\xff\xd9"
JPEG2000_START = b"\xff\x4f\xff\x51"
"""The markers SOC and SIZ, with which every JPEG 2000 codestream begins."""
JPEGXL_START = b"\xff\x0a"
JPEGXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Columns per row that a JPEG XL header can name in place of its columns, by number from 1 on (ISO/IEC 18181-1)."""
JPEGXL_BITS = (9, 13, 18, 30)
"""How many bits a JPEG XL header can take for a size."""


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Return rows and columns of a JPEG image; ValueError, too, where its end marker is missing (it is cut short)."""
    size = None
    for marker, content, end in _jpeg_segments(data):
        if marker in JPEG_FRAMES:
            _, *size = struct.unpack_from(">BHH", data, content)
        if marker == JPEG_SCAN:
            if size is None or data.find(JPEG_END, end) < 0:
                raise ValueError("a JPEG image without frame or end")
            return size[0], size[1]
    raise ValueError("a JPEG image without pixels")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start of the content, and end of every segment up to the first scan."""
    if not data.startswith(b"\xff\xd8"):
        raise ValueError("not a JPEG image")
    place, marker = 2, 0
    while marker != JPEG_SCAN:
        while data[place] == 0xFF and data[place + 1] == 0xFF:
            place += 1  # fill bytes may precede a marker
        if data[place] != 0xFF:
            raise ValueError("a JPEG image with damaged segments")
        marker = data[place + 1]
        (length,) = struct.unpack_from(">H", data, place + 2)
        yield marker, place + 4, place + 2 + length
        place += 2 + max(length, 2)


def jpeg2000_size(data: bytes) -> tuple[int, int]:
    """Return rows and columns of a JPEG 2000 image, a bare codestream or a JP2 file."""
    stream = data if data.startswith(JPEG2000_START) else _box(data, (b"jp2c",))
    if not stream.startswith(JPEG2000_START):
        raise ValueError("not a JPEG 2000 image")
    right, bottom, left, top = struct.unpack_from(">IIII", stream, 8)
    return int(bottom - top), int(right - left)


def jpegxl_size(data: bytes) -> tuple[int, int]:
    """Return rows and columns of a JPEG XL image, a bare codestream or within its container."""
    stream = data
    if not data.startswith(JPEGXL_START):
        stream = _box(data, (b"jxlc", b"jxlp"))
        stream = stream if stream.startswith(JPEGXL_START) else stream[4:]  # jxlp: a part, which begins with its number
    if not stream.startswith(JPEGXL_START):
        raise ValueError("not a JPEG XL image")
    bits = _Bits(int.from_bytes(stream[2:16], "little"))
    small = bits.take(1)
    rows = _jpegxl_length(bits, small)
    ratio = bits.take(3)
    if ratio == 0:
        return rows, _jpegxl_length(bits, small)
    columns, per_rows = JPEGXL_RATIOS[ratio - 1]
    return rows, rows * columns // per_rows


class _Bits:
    """A reader of bits, lowest first."""

    def __init__(self, value: int) -> None:
        self.value = value

    def take(self, count: int) -> int:
        taken = self.value & ((1 << count) - 1)
        self.value >>= count
        return taken


def _jpegxl_length(bits: _Bits, small: int) -> int:
    """Read one side of a JPEG XL image: a multiple of 8 where the image is small, else a number that names its bits."""
    if small:
        return 8 * (bits.take(5) + 1)
    return bits.take(JPEGXL_BITS[bits.take(2)]) + 1


def _box(data: bytes, kinds: tuple[bytes, ...]) -> bytes:
    """Return the content of the first box of one of these kinds in an ISO base media file (ISO/IEC 14496-12)."""
    place = 0
    while place + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, place)
        head = 8
        if length == 1:  # the length has 64 bits and follows the kind
            (length,) = struct.unpack_from(">Q", data, place + 8)
            head = 16
        end = len(data) if length == 0 else place + length
        if end < place + head:
            break
        if kind in kinds:
            return data[place + head : end]
        place = end
    raise ValueError("the image is not in its container")
