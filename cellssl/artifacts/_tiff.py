"""_tiff: an open TIFF in, its one plane of numbers out, or the reason why it holds none, or more than that.

tifffile reads the structure. The pixels are decoded here, by the same few decoders on every machine: what tifffile can
decode depends on a further package (imagecodecs), and what a field shows must not.
"""

from __future__ import annotations

import functools
import importlib
import io
import logging
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from cellssl.errors import DataError

ONE_PLANE = "one grey plane a file is needed"
AT_MOST = 2_600
"""Bytes that one compressed byte can stand for: deflate packs 1,032, JPEG fewer, and LZW with a full table 2,560."""

NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 7, 8, 32946, 32773
"""The compressions that are read, by their numbers in TIFF 6.0 and its supplements."""
PREDICTED = (LZW, DEFLATE, OLD_DEFLATE)
"""Those that may hold differences along each row in place of values (the tag Predictor)."""
MIN_IS_WHITE, MIN_IS_BLACK, PALETTE = 0, 1, 3
PHOTOMETRIC, PLANES_OF_METAMORPH = 262, 33629


class Plane(NamedTuple):
    """The numbers of a file, (y, x), and whether they are indices into its palette of colours."""

    pixels: np.ndarray
    indexed: bool


@dataclass(frozen=True)
class Segment:
    """A strip or tile: which of how many, where it lies in the file and in the plane, and its own rows and columns."""

    name: str
    offset: int
    length: int
    row: int
    column: int
    shape: tuple[int, int]


def read_tiff(path: Path, file: BinaryIO) -> Plane:
    """The one plane of a TIFF, in the machine's order of bytes.

    Raises DataError with the reason where it holds no plane, several, colours, or what is not read; tifffile raises
    what it likes where the structure is damaged.
    """
    import tifffile

    with _unheard("tifffile"), tifffile.TiffFile(file) as tiff:
        page = _only_page(path, tiff)
        _check_grey(path, tiff, page)
        return Plane(_pixels(path, tiff, page), page.photometric == PALETTE)


@contextmanager
def _unheard(name: str) -> Iterator[None]:
    """Keep what a library logs of a damaged file to itself: the reason is in the error."""
    logger = logging.getLogger(name)

    def deaf(_: logging.LogRecord) -> bool:
        return False

    logger.addFilter(deaf)
    try:
        yield
    finally:
        logger.removeFilter(deaf)


def _only_page(path: Path, tiff: Any) -> Any:
    """The page that is no reduced copy of another (pyramids, thumbnails); DataError where there is not exactly one."""
    pages = list(islice((page for page in tiff.pages if not page.is_reduced), 2))
    if len(pages) > 1:
        sizes = " and ".join(f"{page.imagelength} x {page.imagewidth}" for page in pages)
        raise DataError(f"{path} holds more than one image, the first two {sizes}; {ONE_PLANE}")
    if not pages and len(tiff.pages) != 1:
        raise DataError(f"{path} holds no image: it is cut short or damaged")
    _check_last(path, tiff)
    return pages[0] if pages else tiff.pages[0]


def _check_last(path: Path, tiff: Any) -> None:
    """Raise DataError where pages are promised that are not there: a stack that was cut short is no plane."""
    end = bytes(tiff.tiff.offsetsize)
    tiff.filehandle.seek(tiff.pages.next_page_offset)
    if tiff.filehandle.read(len(end)) != end:
        raise DataError(f"{path} is cut short or damaged: after its first image there should be more")


def _check_grey(path: Path, tiff: Any, page: Any) -> None:
    """Raise DataError where a page is no grey plane (or one of indices), or is stored as is not read."""
    if page.imagelength == 0 or page.imagewidth == 0:
        raise DataError(f"{path} holds no pixel")
    if (planes := _planes(tiff, page)) > 1:
        raise DataError(f"{path} is a stack of {planes} planes; {ONE_PLANE}")
    told = page.photometric if PHOTOMETRIC in page.tags else MIN_IS_BLACK
    if told not in (MIN_IS_WHITE, MIN_IS_BLACK, PALETTE) or page.samplesperpixel != 1:
        kind = f"{page.samplesperpixel} samples a pixel, {getattr(told, 'name', told)}"
        raise DataError(f"{path} is in colour or transparent ({kind}); {ONE_PLANE}")
    dtype = page.dtype
    if dtype is None or dtype.kind not in "iuf" or 8 * dtype.itemsize != page.bitspersample:
        raise DataError(f"{path} holds pixels of {page.bitspersample} bits that are not read; save it with 8 or 16")
    if told == MIN_IS_WHITE:
        # Pillow inverts 8 bits and not 16, tifffile and ImageJ neither: the wrong way makes holes of nuclei
        raise DataError(f"{path} says that 0 is white (MINISWHITE), which programs read in two ways; save it as grey")
    if page.compression not in DECODERS or (page.compression == JPEG and dtype != np.uint8):
        kind = getattr(page.compression, "name", page.compression)
        raise DataError(f"{path} is compressed in a way that is not read ({kind}); save it with LZW, deflate or none")
    if page.fillorder != 1 or page.predictor not in ((1, 2) if page.compression in PREDICTED else (1,)):
        raise DataError(
            f"{path} is stored as is not read (Predictor {int(page.predictor)}, FillOrder {int(page.fillorder)}); "
            "save it anew"
        )


def _planes(tiff: Any, page: Any) -> int:
    """How many planes lie behind one page: MetaMorph, ImageJ and tifffile write whole stacks as one.

    OME-XML is left unread: it describes every file of a data set, and this file's own pages are all that is asked for.
    """
    if (planes := page.tags.get(PLANES_OF_METAMORPH)) is not None:
        return int(planes.count)
    if page.is_imagej:
        return int(tiff.imagej_metadata.get("images", 1))
    if page.is_shaped and (described := tiff.shaped_metadata):
        return int(math.prod(described[0]["shape"]) // (page.imagelength * page.imagewidth))
    return int(page.imagedepth)


def _pixels(path: Path, tiff: Any, page: Any) -> np.ndarray:
    shape, dtype = (page.imagelength, page.imagewidth), page.dtype.newbyteorder(tiff.byteorder)
    check_size(path, shape, dtype.itemsize, tiff.filehandle.size * (1 if page.compression == NONE else AT_MOST))
    plane = np.empty(shape, page.dtype)
    for segment in _segments(path, page):
        decoded = _decoded(path, tiff.filehandle, page, segment, dtype)
        if decoded.shape == shape:
            return decoded.astype(plane.dtype, copy=False)
        place = plane[segment.row : segment.row + segment.shape[0], segment.column : segment.column + segment.shape[1]]
        place[...] = decoded[: place.shape[0], : place.shape[1]]
    return plane


def check_size(path: Path, shape: tuple[int, int], itemsize: int, most: int) -> None:
    """Raise DataError where a header speaks of more pixels than the file can hold, before memory is taken for them."""
    if math.prod(shape) * itemsize > most:
        raise DataError(
            f"{path} is cut short or damaged: its header speaks of {shape[0]:,} x {shape[1]:,} pixels of "
            f"{8 * itemsize} bits, more than a file of its size can hold"
        )


def _segments(path: Path, page: Any) -> Iterator[Segment]:
    """The strips or tiles of a page; uncompressed strips that lie one behind the other are one."""
    rows, columns = page.imagelength, page.imagewidth
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, columns)
    if page.is_contiguous and not page.is_tiled:
        height = rows
    kind = "tile" if page.is_tiled else "strip"
    count = math.ceil(rows / height) * math.ceil(columns / width)
    if min(len(page.dataoffsets), len(page.databytecounts)) < count or 0 in page.dataoffsets[:count]:
        raise DataError(f"{path} is cut short or damaged: not all of its {count:,} {kind}s are there")
    for number, (row, column) in enumerate(product(range(0, rows, height), range(0, columns, width))):
        high = height if page.is_tiled else min(height, rows - row)
        place = page.dataoffsets[number], page.databytecounts[number]
        yield Segment(f"{kind} {number + 1} of {count}", *place, row, column, (high, width))


def _decoded(path: Path, file: Any, page: Any, segment: Segment, dtype: np.dtype) -> np.ndarray:
    """The numbers of a strip or tile; DataError where it is cut short or cannot be decoded."""
    size = math.prod(segment.shape) * dtype.itemsize
    file.seek(segment.offset)
    data = file.read(min(size if page.compression == NONE else segment.length, file.size))
    raw = b""
    if size <= len(data) * AT_MOST:
        try:
            raw = DECODERS[page.compression](data, segment.shape, size, page.jpegtables)
        except MemoryError:
            raise
        except Exception:  # each decoder has its own for what is damaged, and some just stop
            raw = b""
    if len(raw) < size:
        raise DataError(f"{path} is cut short or damaged: {segment.name} cannot be decoded")
    numbers = np.frombuffer(raw, dtype, math.prod(segment.shape)).reshape(segment.shape)
    return _summed(numbers) if page.predictor == 2 else numbers


def _summed(differences: np.ndarray) -> np.ndarray:
    """Values along each row from their differences, which wrap around as unsigned whole numbers of their width."""
    native, whole = differences.dtype.newbyteorder("="), f"u{differences.dtype.itemsize}"
    return np.cumsum(differences.astype(native).view(whole), axis=1, dtype=whole).view(native)


def _stored(data: bytes, shape: tuple[int, int], size: int, tables: bytes | None) -> bytes:
    return data


def _inflated(data: bytes, shape: tuple[int, int], size: int, tables: bytes | None) -> bytes:
    stream = zlib.decompressobj()
    raw = stream.decompress(data, size + 1)  # the one more lets zlib reach its checksum
    if not stream.eof and len(raw) <= size:
        raise ValueError("the stream has no end")
    return raw


def _unpacked(data: bytes, shape: tuple[int, int], size: int, tables: bytes | None) -> bytes:
    from PIL import Image

    return Image.frombytes("L", (size, 1), data, "packbits", "L").tobytes()


def _from_jpeg(data: bytes, shape: tuple[int, int], size: int, tables: bytes | None) -> bytes:
    """A JPEG of one strip or tile; the tables that all share stand before it, without their end and its beginning."""
    from PIL.JpegImagePlugin import JpegImageFile

    whole = data if tables is None else tables[:-2] + data[2:]
    with JpegImageFile(io.BytesIO(whole)) as image:
        fits = image.width == shape[1] and shape[0] <= image.height <= AT_MOST * len(data) // image.width
        if image.mode != "L" or not fits:
            raise ValueError(f"a JPEG of {image.mode}, {image.height} x {image.width}")
        return np.asarray(image)[: shape[0]].tobytes()


def _from_lzw(data: bytes, shape: tuple[int, int], size: int, tables: bytes | None) -> bytes:
    return _lzw_decoder()(data, size)


@functools.cache
def _lzw_decoder() -> Callable[[bytes, int], bytes]:
    """imagecodecs, which cellpose brings; elsewhere the libtiff within Pillow, which is as quick and gives the same."""
    try:
        decode = importlib.import_module("imagecodecs").lzw_decode
    except ImportError:
        return _lzw_by_pillow

    def by_imagecodecs(data: bytes, size: int) -> bytes:
        return bytes(decode(data, out=size))

    return by_imagecodecs


def _lzw_by_pillow(data: bytes, size: int) -> bytes:
    """Have libtiff decode a TIFF of one row of `size` bytes, which is nothing but the compressed data and a header."""
    from PIL import Image
    from PIL.TiffImagePlugin import TiffImageFile

    start = 8 + 2 + 9 * 12 + 4
    tags = ((256, size), (257, 1), (258, 8), (259, LZW), (262, 1), (273, start), (277, 1), (278, 1), (279, len(data)))
    header = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    file, limit = io.BytesIO(header + entries + bytes(4) + data), Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # the strip of a stitched well may be larger, and its size is known to be true
    try:
        with _stderr_shut(), TiffImageFile(file) as image:
            return image.tobytes()
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _stderr_shut() -> Iterator[None]:
    """Nothing that a C library says of damaged data reaches the terminal: libtiff writes straight to it."""
    with Path(os.devnull).open("wb") as nowhere:
        try:
            kept = os.dup(2)
        except OSError:  # a job whose stderr is closed
            yield
            return
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


DECODERS: dict[int, Callable[[bytes, tuple[int, int], int, bytes | None], bytes]] = {
    NONE: _stored,
    LZW: _from_lzw,
    JPEG: _from_jpeg,
    DEFLATE: _inflated,
    OLD_DEFLATE: _inflated,
    PACKBITS: _unpacked,
}
