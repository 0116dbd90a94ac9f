"""tiff: an open TIFF file in, the numbers of one of its pages out, or a DataError that says why there are none.

The structure is checked first: one grey plane, no more pixels than the file can hold, every strip or tile there. Only
then do tifffile and imagecodecs decode the strips or tiles. Their C libraries trust what a header claims, so a damaged
file must not reach them where a check can find the damage.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from cellssl.bounded import PACKED
from cellssl.errors import DataError
from cellssl.images.codestreams import jpeg2000_size, jpeg_size, jpegxl_size

if TYPE_CHECKING:
    from tifffile import FileHandle, TiffFile, TiffPage

ONE_PLANE = "one grey plane per file is needed"

NONE, LZW, JPEG, DEFLATE, OLD_DEFLATE, PACKBITS = 1, 5, 7, 8, 32946, 32773
ZSTD, OLD_ZSTD, LZMA = 50000, 34926, 34925
JPEG2000 = (33003, 33004, 33005, 34712)
JPEGXL = (50002, 52546)
"""The compressions that are read, by their numbers in the tag Compression."""

PACKED_AT_MOST = 2_600
"""Bytes that one compressed byte can stand for: deflate packs 1,032, JPEG fewer, and LZW with a full table 2,560."""
AT_MOST: dict[int, int] = {
    NONE: 1,
    **dict.fromkeys((LZW, DEFLATE, OLD_DEFLATE, PACKBITS, JPEG), PACKED_AT_MOST),
    **dict.fromkeys((ZSTD, OLD_ZSTD), 32_768),  # 4 bytes can stand for a block of 128 KiB
    LZMA: 7_100,  # 273 bytes in 14 decisions of 0.022 bits each
    **dict.fromkeys((*JPEG2000, *JPEGXL), 10_000),  # our choice: the formats have no limit
}
"""Bytes that one stored byte can stand for, per compression that is read; no other compression is."""
SMALL_PLANE = 2**25
"""Bytes that a JPEG 2000 or JPEG XL image may claim however short it is: 4,096 x 4,096 pixels of 16 bits."""
LARGE_PLANE = 2**30
"""Bytes that any packed image may claim: 23,000 x 23,000 pixels of 16 bits."""
SIZES: dict[int, Callable[[bytes], tuple[int, int]]] = {
    JPEG: jpeg_size,
    **dict.fromkeys(JPEG2000, jpeg2000_size),
    **dict.fromkeys(JPEGXL, jpegxl_size),
}
"""Compressions whose strips and tiles are images with their own header -> the function that reads their size."""
PREDICTED = (LZW, DEFLATE, OLD_DEFLATE, ZSTD, OLD_ZSTD, LZMA)
"""Compressions that may hold differences along each row in place of values (the tag Predictor)."""
FILLED_UP = (DEFLATE, OLD_DEFLATE, ZSTD, OLD_ZSTD)
"""Compressions whose decoders fail on more data than fits, such as a padded last strip; other decoders stop there."""
MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
SEPARATE = 2
"""PlanarConfiguration of pages whose samples are stored one after the other."""
MOST_SAMPLES = 1024
"""Samples per pixel that a page may claim; spectral images have some hundred."""
PHOTOMETRIC, PLANES_OF_METAMORPH = 262, 33629


class Plane(NamedTuple):
    """The numbers of a file, (y, x), and whether they are indices into its palette of colours."""

    pixels: np.ndarray
    indexed: bool


@dataclass(frozen=True)
class Segment:
    """A strip or tile: its name for errors, where it lies in the file and in the plane, and its rows and columns."""

    name: str
    offset: int
    length: int
    row: int
    column: int
    shape: tuple[int, int]
    full_rows: int
    """Rows of a whole strip or tile: some programs pad the last strip."""
    samples: int = 1
    """Numbers that stand side by side for each pixel: 3 for RGB."""


def read_tiff(path: Path, file: BinaryIO) -> Plane:
    """Return the one plane of a TIFF, in the byte order of the machine.

    Raises DataError with the reason where the file holds no plane, several planes or colours, or is stored in a way
    that is not read; tifffile raises errors of many kinds where the structure is damaged.
    """
    import tifffile

    with silenced("tifffile"), tifffile.TiffFile(file) as tiff:
        page = _only_page(path, tiff)
        _check_grey(path, tiff, page)
        return Plane(_pixels(path, tiff, page), page.photometric == PALETTE)


def read_page(path: Path, tiff: TiffFile, page: TiffPage, plane: int = 0) -> np.ndarray:
    """Return the numbers of one page, (y, x), or (y, x, sample) where its pixels have several.

    `plane` counts the planes that lie behind the page's own without pages of their own, as in large stacks of ImageJ
    and in stacks of MetaMorph. No other plane is read. Raises DataError as `read_tiff`.
    """
    if page.imagelength == 0 or page.imagewidth == 0:
        raise DataError(f"{path} holds no pixels")
    if page.photometric == PALETTE and PHOTOMETRIC in page.tags:
        raise DataError(f"{path} holds indices into a palette of colours and no grey values; save it as grey")
    if page.imagedepth > 1:
        raise DataError(
            f"{path} is a stack of {page.imagedepth} planes in one page, which is not read; save it in pages"
        )
    if page.samplesperpixel > 1 and page.compression in SIZES:
        raise in_colour(path, "in colour and compressed as JPEG, JPEG 2000 or JPEG XL")
    if page.samplesperpixel > MOST_SAMPLES:
        raise DataError(f"{path} is cut short or damaged: it claims {page.samplesperpixel:,} samples per pixel")
    _check_numbers(path, page)
    if plane and not (page.compression == NONE and page.is_contiguous):
        raise DataError(
            f"{path} is a stack in one page that is compressed or scattered, which is not read; save it in pages"
        )
    return _pixels(path, tiff, page, plane)


@contextmanager
def silenced(name: str) -> Iterator[None]:
    """Drop what a library logs about a damaged file: the error says the reason."""
    logger = logging.getLogger(name)

    def drop(_: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


def _only_page(path: Path, tiff: TiffFile) -> TiffPage:
    """Return the page that is no reduced copy of another (pyramid, thumbnail); DataError where there is not one."""
    pages = list(islice(whole_pages(path, tiff), 2))
    if len(pages) > 1:
        sizes = " and ".join(f"{page.imagelength} x {page.imagewidth}" for page in pages)
        raise DataError(f"{path} holds more than one image, the first two {sizes}; {ONE_PLANE}")
    check_last(path, tiff)
    return pages[0]


def whole_pages(path: Path, tiff: TiffFile) -> Iterator[TiffPage]:
    """Yield the pages that are no reduced copies; DataError where there is none, after the last one.

    The only page of a file counts as whole, whatever it says.
    """
    from tifffile import TiffPage

    found = False
    for page in tiff.pages:
        if isinstance(page, TiffPage) and not page.is_reduced:
            found = True
            yield page
    if not found and len(tiff.pages) != 1:
        raise DataError(f"{path} holds no image: it is cut short or damaged")
    if not found:
        yield tiff.pages.first


def check_last(path: Path, tiff: TiffFile) -> None:
    """Raise DataError where the file promises further pages that are not there: a stack that was cut short."""
    end, place = bytes(tiff.tiff.offsetsize), tiff.pages.next_page_offset
    tiff.filehandle.seek(place or 0)
    if place is None or tiff.filehandle.read(len(end)) != end:
        raise DataError(f"{path} is cut short or damaged: there should be more images after the first one")


def _check_grey(path: Path, tiff: TiffFile, page: TiffPage) -> None:
    """Raise DataError where a page is neither a grey plane nor one of indices, or is stored in a way not read."""
    if page.imagelength == 0 or page.imagewidth == 0:
        raise DataError(f"{path} holds no pixels")
    photometric = page.photometric if PHOTOMETRIC in page.tags else MIN_IS_BLACK
    if photometric not in (MIN_IS_WHITE, MIN_IS_BLACK, PALETTE) or page.samplesperpixel != 1:
        kind = f"{page.samplesperpixel} samples per pixel, {getattr(photometric, 'name', photometric)}"
        raise in_colour(path, f"{_colour_name(photometric, page.samplesperpixel)} ({kind})")
    if (planes := _planes(tiff, page)) > 1:
        raise DataError(f"{path} is a stack of {planes} planes; {ONE_PLANE}")
    _check_numbers(path, page)


def _check_numbers(path: Path, page: TiffPage) -> None:
    """Raise DataError where the numbers of a page are of a type, or stored in a way, that is not read."""
    dtype, photometric = page.dtype, page.photometric if PHOTOMETRIC in page.tags else MIN_IS_BLACK
    if dtype is None or dtype.kind not in "iuf" or 8 * dtype.itemsize != page.bitspersample:
        raise DataError(
            f"{path} holds pixels of {page.bitspersample} bits, which are not read; save it with 8 or 16 bits"
        )
    if photometric == MIN_IS_WHITE:
        # Pillow inverts 8 bits and not 16, tifffile and ImageJ neither: the wrong way makes holes of nuclei
        raise DataError(
            f"{path} says that 0 is white (MINISWHITE), which programs read in two ways; save it as grey with 0 black"
        )
    _check_storage(path, page)


def in_colour(path: Path, kind: str, hint: str = "") -> DataError:
    """Return the error for an image with several colours in each pixel."""
    return DataError(
        f"{path} is {kind}; {ONE_PLANE}: split it into its colours (in Fiji: Image > Color > Split Channels), and give "
        "each file a channel of its own, or only one of them where all colours are equal",
        hint,
    )


def _colour_name(photometric: int, samples: int) -> str:
    if photometric in (RGB, YCBCR) and samples in (3, 4):
        return "an RGB image" if samples == 3 else "an RGB image with transparency"
    return "in colour or transparent"


def _check_storage(path: Path, page: TiffPage) -> None:
    """Raise DataError for compressions, predictors and bit orders that are not read."""
    if page.compression not in AT_MOST:
        kind = getattr(page.compression, "name", page.compression)
        raise DataError(
            f"{path} has a compression that is not read ({kind}); save it with LZW, deflate, Zstandard or none"
        )
    if page.compression in SIZES and page.dtype not in (np.uint8, np.uint16, np.int8, np.int16):
        # OpenJPEG keeps 26 bits at most: some of 32 would be lost silently
        raise DataError(f"{path} holds {page.dtype} compressed as an image, which is not read; save it with deflate")
    if page.fillorder != 1 or page.predictor not in ((1, 2) if page.compression in PREDICTED else (1,)):
        raise DataError(
            f"{path} is stored in a way that is not read (Predictor {int(page.predictor)}, FillOrder "
            f"{int(page.fillorder)}); save it again with LZW, deflate or no compression"
        )


def _planes(tiff: TiffFile, page: TiffPage) -> int:
    """Return how many planes one page stands for: MetaMorph, ImageJ and tifffile write whole stacks as one page.

    OME-XML is not read: it describes all files of a data set, and only the pages of this file matter here.
    """
    if (planes := page.tags.get(PLANES_OF_METAMORPH)) is not None:
        return int(planes.count)
    if page.is_imagej and tiff.imagej_metadata is not None:
        return int(tiff.imagej_metadata.get("images", 1))
    if page.is_shaped and (described := tiff.shaped_metadata):
        return int(math.prod(described[0]["shape"]) // (page.imagelength * page.imagewidth))
    return int(page.imagedepth)


def _pixels(path: Path, tiff: TiffFile, page: TiffPage, plane: int = 0) -> np.ndarray:
    """Decode all strips or tiles into one plane, (y, x) or (y, x, sample), after its size was found to be possible."""
    assert page.dtype is not None
    samples, dtype = page.samplesperpixel, page.dtype.newbyteorder(tiff.byteorder)
    size, stored = (page.imagelength, page.imagewidth), tiff.filehandle.size
    check_size(path, size, samples * dtype.itemsize, _most_bytes(page.compression, stored))
    before = plane * math.prod(size) * samples * dtype.itemsize
    if before + (math.prod(size) * samples * dtype.itemsize if plane else 0) > stored:
        raise DataError(f"{path} is cut short or damaged: plane {plane} of its stack is not there")
    if samples == 1:
        return _one_sample(path, tiff, page, dtype, before)
    if page.planarconfig == SEPARATE:
        return np.stack([_one_sample(path, tiff, page, dtype, before, number) for number in range(samples)], axis=-1)
    return _one_sample(path, tiff, page, dtype, before, together=samples)


def _one_sample(
    path: Path, tiff: TiffFile, page: TiffPage, dtype: np.dtype, before: int, number: int = 0, together: int = 1
) -> np.ndarray:
    """Decode the strips or tiles of one sample, or of all samples that stand `together`; `before` shifts them."""
    shape = (page.imagelength, page.imagewidth) if together == 1 else (page.imagelength, page.imagewidth, together)
    plane = np.empty(shape, page.dtype)
    for segment in _segments(path, page, number, together):
        decoded = _decoded(path, tiff.filehandle, page, replace(segment, offset=segment.offset + before), dtype)
        if decoded.shape == shape:
            return decoded.astype(plane.dtype, copy=False)
        place = plane[segment.row : segment.row + segment.shape[0], segment.column : segment.column + segment.shape[1]]
        place[...] = decoded[: place.shape[0], : place.shape[1]]
    return plane


def _most_bytes(compression: int, stored: int) -> int:
    """Return how many bytes of pixels so many stored bytes can stand for."""
    smallest = SMALL_PLANE if compression in (*JPEG2000, *JPEGXL) else 0
    return possible_bytes(max(smallest, stored * AT_MOST[compression]), stored)


def possible_bytes(most: int, stored: int) -> int:
    """Return how many bytes of pixels a file of this size may claim, where its format would allow `most`.

    A blank image packs to a thousandth, but a large image of cells does not: it may claim LARGE_PLANE, or PACKED times
    the size of the file.
    """
    return min(most, max(LARGE_PLANE, PACKED * stored))


def check_size(path: Path, shape: tuple[int, int], itemsize: int, most: int) -> None:
    """Raise DataError where a header claims more than `most` bytes of pixels, before memory is taken for them."""
    if math.prod(shape) * itemsize > most:
        raise DataError(
            f"{path} is cut short or damaged: its header claims {shape[0]:,} x {shape[1]:,} pixels of "
            f"{8 * itemsize} bits, more than a file of its size can hold"
        )


def check_whole(path: Path, tiff: TiffFile, page: TiffPage) -> None:
    """Raise DataError where a strip or tile of a page ends beyond the end of the file, which was copied in part."""
    ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    if (missing := max(ends, default=0) - tiff.filehandle.size) > 0:
        raise DataError(f"{path} is cut short or damaged: {missing:,} bytes of its pixels are not there")


def _segments(path: Path, page: TiffPage, sample: int = 0, together: int = 1) -> Iterator[Segment]:
    """Yield the strips or tiles of a page; uncompressed strips that follow each other in the file are one.

    Where the samples are stored apart, only those of number `sample` are given.
    """
    rows, columns = page.imagelength, page.imagewidth
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, columns)
    in_one = page.is_contiguous and (page.samplesperpixel == 1 or page.planarconfig != SEPARATE)
    if not page.is_tiled:
        height = rows if in_one else min(height, rows)  # 2**32 - 1 rows per strip mean all rows
    kind = "tile" if page.is_tiled else "strip"
    count = math.ceil(rows / height) * math.ceil(columns / width)
    first = sample * count
    offsets, lengths = (given[first : first + count] for given in (page.dataoffsets, page.databytecounts))
    if min(len(offsets), len(lengths)) < count or 0 in offsets:
        raise DataError(f"{path} is cut short or damaged: not all of its {count:,} {kind}s are there")
    for number, (row, column) in enumerate(product(range(0, rows, height), range(0, columns, width))):
        high = height if page.is_tiled else min(height, rows - row)
        name, place = f"{kind} {number + 1} of {count}", (offsets[number], lengths[number])
        yield Segment(name, *place, row, column, (high, width), height, together)


def _decoded(path: Path, file: FileHandle, page: TiffPage, segment: Segment, dtype: np.dtype) -> np.ndarray:
    """Return the numbers of a strip or tile; DataError where it is cut short or cannot be decoded."""
    size = math.prod(segment.shape) * segment.samples * dtype.itemsize
    file.seek(segment.offset)
    data = file.read(min(size if page.compression == NONE else segment.length, file.size))
    decode = _from_image if page.compression in SIZES else _from_bytes
    try:
        if size > _most_bytes(page.compression, len(data)):
            raise ValueError("it is too short for its pixels")
        return decode(page, data, segment, dtype)
    except MemoryError:
        raise
    except Exception as error:  # every decoder has an exception of its own
        raise DataError(f"{path} is cut short or damaged: {segment.name} cannot be decoded") from error


def _from_bytes(page: TiffPage, data: bytes, segment: Segment, dtype: np.dtype) -> np.ndarray:
    """Return the numbers of a strip or tile that is a run of bytes, compressed or not, differences summed up."""
    from tifffile import TIFF

    shape = segment.shape if segment.samples == 1 else (*segment.shape, segment.samples)
    rows = segment.full_rows if page.compression in FILLED_UP else segment.shape[0]
    if page.compression == PACKBITS:
        raw = TIFF.DECOMPRESSORS[PACKBITS](data)  # finds the size itself, and fails where it is given another one
    elif page.compression != NONE:
        size = rows * segment.shape[1] * segment.samples * dtype.itemsize
        raw = TIFF.DECOMPRESSORS[page.compression](data, out=size)
    else:
        raw = data
    numbers = np.frombuffer(raw, dtype, math.prod(shape)).reshape(shape)
    if page.predictor == 1:
        return numbers
    along = -1 if segment.samples == 1 else -2
    summed: np.ndarray = TIFF.UNPREDICTORS[page.predictor](numbers.astype(dtype.newbyteorder("=")), axis=along)
    return summed


def _from_image(page: TiffPage, data: bytes, segment: Segment, dtype: np.dtype) -> np.ndarray:
    """Return the numbers of a strip or tile that is an image of its own (JPEG, JPEG 2000, JPEG XL).

    Raises ValueError, before anything is decoded, where its header claims another size.
    """
    from tifffile import TIFF

    rows, columns = SIZES[page.compression](data)
    if columns != segment.shape[1] or rows not in (segment.shape[0], segment.full_rows):
        raise ValueError(f"an image of {rows} x {columns} pixels where {segment.shape} are needed")
    tables = {"tables": page.jpegtables} if page.compression == JPEG else {}
    decoded: np.ndarray = TIFF.DECOMPRESSORS[page.compression](data, **tables)
    if decoded.shape != (rows, columns) or decoded.dtype != dtype.newbyteorder("="):
        raise ValueError(f"an image of {decoded.shape} and {decoded.dtype}")
    return decoded[: segment.shape[0]]
