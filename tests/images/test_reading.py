"""images: which files are read and which pixels they give; which files are refused, and for which reason."""

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from cellssl.errors import DataError
from cellssl.images.codestreams import jpeg2000_size, jpeg_size, jpegxl_size
from cellssl.images.reading import read_channel, read_labels, write_labels
from cellssl.randomness import generator

LABELS = np.kron(np.arange(6).reshape(2, 3), np.ones((4, 4), np.int32)).astype(np.int32)
GREY = generator("tests", "images").integers(0, 4_000, (48, 64)).astype(np.uint16)
BYTES = (GREY // 16).astype(np.uint8)
Writer = Callable[[Path], object]


def by_tifffile(pixels: np.ndarray, **how: object) -> Writer:
    given = {"photometric": "minisblack", "metadata": None, **how}
    return lambda path: tifffile.imwrite(path, pixels, **given)


def write_four_bits(path: Path) -> None:
    """Write a grey PNG of 4 bits per pixel, which not every version of Pillow can write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, rows = struct.pack(">IIBBBBB", 16, 2, 4, 0, 0, 0, 0), 2 * (b"\0" + bytes(range(8)))
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks))


def by_pillow(*images: np.ndarray, **how: object) -> Writer:
    first, *rest = map(Image.fromarray, images)
    more = {"save_all": True, "append_images": rest} if rest else {}
    return lambda path: first.save(path, **more, **how)


def lzw_of(content: bytes) -> bytes:
    """Compress bytes into one strip of LZW."""
    file = io.BytesIO()
    Image.frombytes("L", (len(content), 1), content).save(file, "TIFF", compression="tiff_lzw")
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        page = tiff.pages.first
        start, size = page.dataoffsets[0], page.databytecounts[0]
    return file.getvalue()[start : start + size]


def tiff_of(strip: bytes, shape: tuple[int, int], order: str = "<", **more: int) -> bytes:
    """Return a TIFF of one strip with 16 bits per pixel and LZW, unless `more` changes a tag; nothing is checked."""
    tags = {256: shape[1], 257: shape[0], 258: 16, 259: 5, 262: 1, 273: 8, 277: 1, 278: shape[0], 279: len(strip)}
    tags.update({int(name[1:]): value for name, value in more.items()})
    strip += bytes(len(strip) % 2)
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(strip))
    return head + strip + struct.pack(order + "H", len(tags)) + entries + bytes(4)


def big_endian_lzw(predictor: int) -> Writer:
    pixels = GREY if predictor == 1 else np.diff(GREY, axis=1, prepend=np.uint16(0))
    content = tiff_of(lzw_of(pixels.astype(">u2").tobytes()), GREY.shape, ">", t317=predictor)
    return lambda path: path.write_bytes(content)


def pyramid(within: bool) -> Writer:
    """Write a plane and two reduced copies of it, as sub-pages of its page or as pages after it."""

    def write(path: Path) -> None:
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(GREY, subifds=2 if within else 0, tile=(16, 16), metadata=None)
            for step in (2, 4):
                tiff.write(GREY[::step, ::step], subfiletype=1, metadata=None)

    return write


READ: dict[str, Writer] = {
    "plain.tif": by_tifffile(GREY),
    "strips.tif": by_tifffile(GREY, rowsperstrip=5),
    "strips apart.tif": lambda path: path.write_bytes(apart()),
    "big-endian.tif": by_tifffile(GREY, byteorder=">"),
    "bigtiff.tif": by_tifffile(GREY, bigtiff=True),
    "tiles.tif": by_tifffile(GREY, tile=(32, 32)),
    "deflate.tif": by_tifffile(GREY, compression="zlib", rowsperstrip=7),
    "deflated differences.tif": by_tifffile(GREY, compression="zlib", predictor=2, tile=(16, 32), byteorder=">"),
    "lzw.tif": by_pillow(GREY, compression="tiff_lzw"),
    "lzw differences.tif": by_pillow(GREY, compression="tiff_lzw", tiffinfo={317: 2}),
    "lzw big-endian.tif": big_endian_lzw(1),
    "lzw differences big-endian.tif": big_endian_lzw(2),
    "packbits.tif": by_pillow(GREY, compression="packbits"),
    "zstd.tif": by_tifffile(GREY, compression="zstd", rowsperstrip=7),
    "zstd differences.tif": by_tifffile(GREY, compression="zstd", predictor=2, tile=(32, 16)),
    "lzma.tif": by_tifffile(GREY, compression="lzma", rowsperstrip=7, byteorder=">"),
    "jpeg 2000.tif": by_tifffile(GREY, compression="jpeg2000", tile=(16, 32)),
    "jpeg xl.tif": by_tifffile(GREY, compression="jpegxl", compressionargs={"lossless": True}, rowsperstrip=16),
    "last strip filled up.tif": lambda path: path.write_bytes(filled_up()),
    "imagej.tif": by_tifffile(GREY, imagej=True, photometric=None, metadata={}),
    "ome.ome.tif": by_tifffile(GREY, metadata={"axes": "YX"}),
    "pyramid within.tif": pyramid(True),
    "pyramid behind.tif": pyramid(False),
    "sixteen bits.png": by_pillow(GREY),
    "a png by another name.tif": by_pillow(GREY, format="PNG"),
}


def apart() -> bytes:
    """Return a TIFF of two strips with a gap between them."""
    file = io.BytesIO()
    tifffile.imwrite(file, GREY, rowsperstrip=24, metadata=None)
    content = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        page = tiff.pages.first
        second, size, place = page.dataoffsets[1], page.databytecounts[1], page.tags[273].valueoffset
    struct.pack_into("<I", content, place + 4, len(content))
    return bytes(content) + bytes(content[second : second + size])


def filled_up() -> bytes:
    """Return a TIFF of two deflated strips of 32 rows, the last of which holds 16 rows of the plane and 16 of zeros."""
    file = io.BytesIO()
    tifffile.imwrite(file, GREY, rowsperstrip=32, compression="zlib", metadata=None)
    content = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        tags = tiff.pages.first.tags
        offsets, lengths = tags[273].valueoffset, tags[279].valueoffset
        size = struct.calcsize("<" + {3: "H", 4: "I"}[tags[279].dtype])
    strip = zlib.compress(GREY[32:].tobytes() + bytes(16 * 64 * 2))
    struct.pack_into("<I", content, offsets + 4, len(content))
    struct.pack_into("<H" if size == 2 else "<I", content, lengths + size, len(strip))
    return bytes(content) + strip


@pytest.mark.parametrize("name", READ)
def test_one_grey_plane_is_read_however_it_is_stored(tmp_path: Path, name: str) -> None:
    READ[name](tmp_path / name)
    pixels = read_channel(tmp_path / name)
    assert pixels.dtype == np.uint16 and pixels.flags.writeable
    assert (pixels == GREY).all()


@pytest.mark.parametrize("name", ["eight bits.tif", "eight bits.png", "eight bits.bmp"])
def test_eight_bits_are_read_as_they_are(tmp_path: Path, name: str) -> None:
    by_pillow(BYTES)(tmp_path / name)
    assert (read_channel(tmp_path / name) == BYTES).all()


def test_jpeg_within_a_tiff_is_what_a_jpeg_of_the_same_pixels_is(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(48), 2 * np.arange(64)).astype(np.uint8)
    by_pillow(smooth, compression="jpeg", quality=90)(tmp_path / "a.tif")
    by_pillow(smooth, quality=90)(tmp_path / "a.jpg")
    assert (read_channel(tmp_path / "a.tif") == read_channel(tmp_path / "a.jpg")).all()
    assert np.abs(read_channel(tmp_path / "a.tif").astype(int) - smooth).max() < 10


LOSSLESS = [None, "zlib", "lzw", "packbits", "zstd", "lzma", "jpeg2000", "jpegxl"]
LAYOUTS = [{}, {"rowsperstrip": 7}, {"tile": (16, 32)}, {"rowsperstrip": 7, "bigtiff": True}]
TYPES = [np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.float32, np.float64]


def written_by_tifffile(compression: str | None, dtype: type) -> Iterator[tuple[str, np.ndarray, dict[str, object]]]:
    """Yield every predictor, byte order and layout in which tifffile writes such pixels without loss."""
    is_image = compression in ("jpeg2000", "jpegxl")
    has_predictor = compression in ("zlib", "lzw", "zstd", "lzma") and np.dtype(dtype).kind != "f"
    for predictor in (None, 2) if has_predictor else (None,):
        # tifffile 2026.3 writes big-endian JPEG 2000 with swapped bytes, and JPEG XL not at all
        for order in "<" if is_image else "<>":
            for layout in LAYOUTS:
                more = {"compressionargs": {"lossless": True}} if compression == "jpegxl" else {}
                if not is_image or np.dtype(dtype).itemsize <= 2:
                    how = {"compression": compression, "predictor": predictor, "byteorder": order, **layout, **more}
                    yield f"{predictor} {order} {layout}", (GREY[:37, :51] // 16).astype(dtype), how


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("compression", LOSSLESS)
def test_all_that_tifffile_writes_without_loss_is_read_as_it_was(
    tmp_path: Path, compression: str | None, dtype: type
) -> None:
    if compression == "jpegxl" and dtype is np.int16:
        pytest.skip("JPEG XL holds no signed numbers")
    for name, pixels, how in written_by_tifffile(compression, dtype):
        by_tifffile(pixels, **how)(tmp_path / "a.tif")
        read = read_labels(tmp_path / "a.tif")
        assert (read == pixels).all(), name
        if dtype in (np.uint8, np.uint16):
            assert (read_channel(tmp_path / "a.tif") == pixels).all(), name


IMAGES = {
    "jpeg": (imagecodecs.jpeg8_encode, jpeg_size),
    "jpeg 2000": (lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="J2K"), jpeg2000_size),
    "jp2": (lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="JP2"), jpeg2000_size),
    "jpeg xl": (lambda pixels: imagecodecs.jpegxl_encode(pixels, lossless=True, usecontainer=False), jpegxl_size),
    "jpeg xl in a container": (lambda pixels: imagecodecs.jpegxl_encode(pixels, usecontainer=True), jpegxl_size),
}


@pytest.mark.parametrize("shape", [(48, 64), (37, 51), (256, 256), (300, 200), (120, 90), (64, 128), (1080, 1280)])
@pytest.mark.parametrize("name", IMAGES)
def test_the_size_in_the_header_of_an_image_is_found(name: str, shape: tuple[int, int]) -> None:
    encode, size = IMAGES[name]
    assert size(bytes(encode(np.zeros(shape, np.uint8)))) == shape


@pytest.mark.parametrize("kept", [2, 20, -100, -2])
def test_a_jpeg_without_its_end_has_no_size(kept: int) -> None:
    with pytest.raises((ValueError, IndexError, struct.error)):
        jpeg_size(imagecodecs.jpeg8_encode(BYTES)[:kept])


COLOURS = np.stack([BYTES, BYTES, BYTES[::-1]], axis=-1)
INDEXED = Image.fromarray(BYTES).convert("P")
TWO = np.stack([GREY, GREY[::-1]])
METAMORPH = [(33629, 5, 3, (1, 1) * 3, True)]
"""Plane times of a MetaMorph stack: one page, three planes."""
REFUSED: dict[str, tuple[Writer, str]] = {
    "stack.tif": (by_tifffile(TWO), "2 pages of which it does not say"),
    "lzw stack.tif": (by_pillow(*TWO, compression="tiff_lzw"), "2 pages of which"),
    "jpeg stack.tif": (by_pillow(BYTES, BYTES, compression="jpeg"), "2 pages of which"),
    "two sizes.tif": (by_pillow(GREY, GREY[::2, ::2], compression="tiff_lzw"), "48 x 64 and 24 x 32"),
    "one page.tif": (by_tifffile(TWO, metadata={}, truncate=True), "2 pages of which"),
    "imagej.tif": (
        by_tifffile(TWO, imagej=True, photometric=None, metadata={}, truncate=True),
        "2 channels",
    ),
    "metamorph.tif": (by_tifffile(GREY, extratags=METAMORPH), "MetaMorph stack of 3 planes"),
    "deep.tif": (by_tifffile(np.stack([GREY] * 16), volumetric=True, tile=(16, 16, 16)), "a stack of 16 planes"),
    "stack cut after its first.tif": (lambda path: path.write_bytes(first_of_two()), "there should be more images"),
    "moving.png": (by_pillow(BYTES, BYTES[::-1]), "a stack of 2 images"),
    "colour.tif": (by_tifffile(COLOURS, photometric="rgb"), "is an RGB image"),
    "lzw colour.tif": (by_pillow(COLOURS, compression="tiff_lzw"), "is an RGB image"),
    "colour.png": (by_pillow(COLOURS), "is an RGB image"),
    "palette.tif": (INDEXED.save, "indices into a palette"),
    "lzw palette.tif": (lambda path: INDEXED.save(path, compression="tiff_lzw"), "indices into a palette"),
    "palette.png": (INDEXED.save, "indices into a palette"),
    "white.tif": (by_tifffile(GREY, photometric="miniswhite"), "MINISWHITE"),
    "lzw white.tif": (lambda path: path.write_bytes(tiff_of(lzw_of(GREY.tobytes()), GREY.shape, t262=0)), "MINISWHITE"),
    "webp.tif": (lambda path: path.write_bytes(tiff_of(b"0" * 99, (9, 9), t259=50_001)), r"not read \(WEBP\)"),
    "jpeg xr.tif": (lambda path: path.write_bytes(tiff_of(b"0" * 99, (9, 9), t259=34_934)), r"not read \(JPEGXR\)"),
    "unknown.tif": (lambda path: path.write_bytes(tiff_of(b"0" * 99, (9, 9), t259=77)), r"not read \(77\)"),
    "wide jpeg 2000.tif": (
        by_tifffile(GREY.astype(np.uint32), compression="jpeg2000"),
        "uint32 compressed as an image",
    ),
    "zstd colour.tif": (by_tifffile(COLOURS, photometric="rgb", compression="zstd"), "is an RGB image"),
    "twelve bits.tif": (lambda path: path.write_bytes(tiff_of(bytes(99), (8, 8), t258=12, t259=1)), "of 12 bits"),
    "floats.tif": (by_tifffile(GREY.astype(np.float32)), "float32, from 1 to 3998; unsigned 8 or 16 bits"),
    "signed.tif": (by_tifffile(GREY.astype(np.int16)), "int16, from 1 to 3998; unsigned 8 or 16 bits"),
    "one bit.png": (by_pillow(GREY > 99), "1 bit per pixel"),
    "four bits.png": (write_four_bits, "fewer than 8 bits"),
    "a line.tif": (by_tifffile(GREY[:1]), "1 x 64"),
    "huge.tif": (lambda path: path.write_bytes(tiff_of(bytes(99), (10**6, 10**6), t259=1)), "cut short or damaged"),
    "huge lzw.tif": (
        lambda path: path.write_bytes(tiff_of(lzw_of(bytes(99)), (10**6, 10**6))),
        "1,000,000 x 1,000,000",
    ),
    **{
        f"bomb {compression}.tif": (
            lambda path, number=compression: path.write_bytes(tiff_of(bytes(9_999), (60_000, 60_000), t259=number)),
            "claims 60,000 x 60,000 pixels",
        )
        for compression in (5, 7, 8, 32946, 32773, 50000, 34926, 34925, 33003, 34712, 50002)
        if compression != 7
    },
    "jpeg bomb.tif": (
        lambda path: path.write_bytes(tiff_of(bytes(9_999), (60_000, 60_000), t259=7, t258=8)),
        "claims 60,000 x 60,000 pixels",
    ),
    "jpeg 2000 within.tif": (lambda path: path.write_bytes(bomb_within(34712)), "strip 1 of 1 cannot be decoded"),
    "jpeg xl within.tif": (lambda path: path.write_bytes(bomb_within(50002)), "strip 1 of 1 cannot be decoded"),
    "jpeg within.tif": (lambda path: path.write_bytes(bomb_within(7)), "strip 1 of 1 cannot be decoded"),
    "huge.png": (lambda path: path.write_bytes(huge_png()), "claims"),
    "empty.tif": (lambda path: path.write_bytes(b""), "is empty"),
    "text.tif": (
        lambda path: path.write_text("well,site"),
        "is not a TIFF, OME-TIFF, PNG, BMP, JPEG or OME-Zarr image",
    ),
    "no pixel.tif": (lambda path: path.write_bytes(tiff_of(bytes(99), (0, 0))), "holds no pixels"),
    "a hole.tif": (
        lambda path: path.write_bytes(tiff_of(bytes(99), (4, 4), t259=1, t273=0)),
        "not all of its 1 strips",
    ),
}


def first_of_two() -> bytes:
    """Return an LZW stack that was cut short before the page of its second image."""
    file = io.BytesIO()
    first, second = map(Image.fromarray, TWO)
    first.save(file, "TIFF", compression="tiff_lzw", save_all=True, append_images=[second])
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        return file.getvalue()[: tiff.pages[1].offset]


def bomb_within(compression: int) -> bytes:
    """Return a TIFF of 8 x 8 pixels whose strip is an image of 8 columns and very many more rows."""
    black = np.zeros((8, 8), np.uint8)
    rows = 65_000
    match compression:
        case 7:
            strip = bytearray(imagecodecs.jpeg8_encode(black))
            struct.pack_into(">H", strip, strip.find(b"\xff\xc0") + 5, rows)
        case 34712:
            strip = bytearray(imagecodecs.jpeg2k_encode(black, level=0, codecformat="J2K"))
            struct.pack_into(">I", strip, 12, 2**31)
        case _:
            strip = bytearray(imagecodecs.jpegxl_encode(np.zeros((2**16, 8), np.uint8), lossless=True))
    return tiff_of(bytes(strip), (8, 8), t259=compression, t258=8)


def huge_png() -> bytes:
    """Return a PNG whose header claims a million by a million pixels."""
    file = io.BytesIO()
    Image.fromarray(BYTES).save(file, "PNG")
    content = bytearray(file.getvalue())
    struct.pack_into(">II", content, 16, 10**6, 10**6)
    struct.pack_into(">I", content, 29, zlib.crc32(bytes(content[12:29])))
    return bytes(content)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_without_one_grey_plane_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    write, reason = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(DataError, match=reason) as caught:
        read_channel(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", [*READ, "a.jpg", "a.bmp", "jpeg.tif"])
def test_a_file_that_was_cut_short_is_refused_or_has_lost_no_pixel(tmp_path: Path, name: str, kept: float) -> None:
    path = tmp_path / name
    other = by_pillow(BYTES, **({"compression": "jpeg"} if name == "jpeg.tif" else {}))
    READ.get(name, other)(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    try:
        pixels = read_channel(path)
    except DataError as error:
        assert "cut short or damaged" in str(error)
    else:  # only what stands behind the pixels was lost
        assert (pixels == GREY).all()


def test_the_pixel_limit_of_pillow_does_not_apply_to_stitched_wells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_pillow(GREY, compression="tiff_lzw")(tmp_path / "a.tif")
    by_pillow(GREY)(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert (read_channel(tmp_path / "a.tif") == GREY).all()
    assert (read_channel(tmp_path / "a.png") == GREY).all()


def test_one_file_of_an_ome_data_set_gives_its_own_plane(tmp_path: Path) -> None:
    images = "".join(
        f'<Image ID="Image:{i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYCZT" Type="uint16" SizeX="64" SizeY="48" '
        f'SizeC="1" SizeZ="1" SizeT="1"><TiffData IFD="0" PlaneCount="1"><UUID FileName="{i}.ome.tif">urn:uuid:{i}'
        "</UUID></TiffData></Pixels></Image>"
        for i in range(2)
    )
    for number, plane in enumerate(TWO):
        description = (
            f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{images}</OME>'
        )
        tifffile.imwrite(tmp_path / f"{number}.ome.tif", plane, description=description, metadata=None)
    for number, plane in enumerate(TWO):
        assert (read_channel(tmp_path / f"{number}.ome.tif") == plane).all()


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


NO_FILE: dict[str, tuple[Writer, str]] = {
    "folder.tif": (lambda path: path.mkdir(), "is a folder"),
    "loop.tif": (link_to_itself, "leads back to itself"),
    "dangling.tif": (lambda path: path.symlink_to("gone.tif"), "is a link to a file that does not exist"),
    "pipe.tif": (os.mkfifo, "is a device or pipe, not a file"),
    "none.tif": (lambda path: None, "does not exist"),
    "n" * 300 + ".tif": (lambda path: None, "has too long a name"),
    "a\0b.tif": (lambda path: None, "cannot be read: embedded null byte"),
}


@pytest.mark.parametrize("read", [read_channel, read_labels])
@pytest.mark.parametrize("name", NO_FILE, ids=lambda name: name[:8].replace("\0", "0"))
def test_the_error_says_what_stands_in_place_of_a_file(
    tmp_path: Path, name: str, read: Callable[[Path], object]
) -> None:
    make, reason = NO_FILE[name]
    make(tmp_path / name)
    with pytest.raises(DataError, match=reason):
        read(tmp_path / name)


def test_a_file_without_permission_is_refused_with_that_reason(tmp_path: Path) -> None:
    by_tifffile(GREY)(tmp_path / "a.tif")
    (tmp_path / "a.tif").chmod(0)
    if os.access(tmp_path / "a.tif", os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(DataError, match="permission denied"):
        read_channel(tmp_path / "a.tif")


def damaged(content: bytes, draw: np.random.Generator) -> bytes:
    """Return the bytes with a few changed, most of them where headers lie, and sometimes without the end."""
    changed = bytearray(content)
    for _ in range(draw.integers(1, 6)):
        near = min(400, len(changed))
        place = draw.choice([draw.integers(near), len(changed) - 1 - draw.integers(near), draw.integers(len(changed))])
        changed[place] = draw.choice([0, 1, 127, 128, 255, draw.integers(256)])
    return bytes(changed if draw.random() < 0.9 else changed[: draw.integers(len(changed))])


def test_damage_is_a_data_error_and_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    draw = generator("tests", "damage")
    writers = {**READ, **{name: REFUSED[name][0] for name in ("palette.tif", "palette.png", "lzw stack.tif")}}
    writers |= {"a.jpg": by_pillow(BYTES), "a.bmp": by_pillow(BYTES), "b.tif": by_pillow(BYTES, compression="jpeg")}
    sound = {}
    for name, write in writers.items():
        write(tmp_path / name)
        sound[name] = (tmp_path / name).read_bytes()
    refused, names = 0, list(sound)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for number in range(1500):
            path = tmp_path / (name := names[number % len(names)])
            path.write_bytes(damaged(sound[name], draw))
            try:
                (read_labels if number % 7 == 0 else read_channel)(path)
            except DataError as error:
                refused += 1
                assert str(error).startswith(str(path))
    assert 300 < refused < 1400
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.float32])
def test_whole_numbers_of_any_type_are_read_as_labels(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "labels.tif", LABELS.astype(dtype))
    assert (read_labels(tmp_path / "labels.tif") == LABELS).all()


@pytest.mark.parametrize("name", ["labels.tif", "labels.png"])
def test_the_indices_of_a_palette_image_are_its_labels(tmp_path: Path, name: str) -> None:
    painted = Image.fromarray(LABELS.astype(np.uint8)).convert("P")
    painted.putpalette(generator("tests", "palette").bytes(768))
    painted.save(tmp_path / name)
    assert (read_labels(tmp_path / name) == LABELS).all()


@pytest.mark.parametrize("highest", [5, 65_535, 65_536, 2_000_000, 2**31 - 1])
def test_written_labels_are_read_back(tmp_path: Path, highest: int) -> None:
    labels = np.where(LABELS == 5, highest, LABELS)
    write_labels(tmp_path / "labels.tif", labels)
    assert (read_labels(tmp_path / "labels.tif") == labels).all()


@pytest.mark.parametrize("highest", [5, 65_536])
@pytest.mark.parametrize("pixel_um", [0.4963, None])
def test_written_labels_are_an_ome_tiff_with_the_size_of_a_pixel(
    tmp_path: Path, highest: int, pixel_um: float | None
) -> None:
    path = tmp_path / "labels.tif"
    labels = np.where(LABELS == 5, highest, LABELS)
    write_labels(path, labels, pixel_um, "cells")
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome and tiff.series[0].axes == "YX" and (tiff.asarray() == labels).all()
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
    assert pixels.get("PhysicalSizeX") == pixels.get("PhysicalSizeY") == pixel_um  # micrometres, as the schema says
    assert (pixels["SizeY"], pixels["SizeX"], pixels["Channel"]["Name"]) == (*labels.shape, "cells")
    before = path.read_bytes()
    write_labels(path, labels, pixel_um, "cells")
    assert path.read_bytes() == before


WRONG = {
    "halves": LABELS / 2,
    "below 0": LABELS - 1,
    "nan": np.where(LABELS == 1, np.nan, LABELS),
    "a stack": np.stack([LABELS] * 5),
    "too high": LABELS.astype(np.uint64) * 2**31,
    "too high by one, as floats": np.where(LABELS == 5, 2.0**31, LABELS).astype(np.float32),
}


@pytest.mark.parametrize("fault", WRONG)
def test_an_image_without_labels_is_refused_by_its_name(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "labels.tif"
    tifffile.imwrite(path, WRONG[fault], photometric="minisblack")
    with pytest.raises(DataError, match=r"labels\.tif"):
        read_labels(path)
