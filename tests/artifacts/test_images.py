"""images: which files are read and give what pixels, and which are refused with what reason."""

import io
import os
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellssl.artifacts._tiff import _lzw_by_pillow
from cellssl.artifacts.images import read_channel, read_labels, write_labels
from cellssl.errors import DataError
from cellssl.randomness import generator

LABELS = np.kron(np.arange(6).reshape(2, 3), np.ones((4, 4), np.int32)).astype(np.int32)
GREY = generator("tests", "images").integers(0, 4_000, (48, 64)).astype(np.uint16)
BYTES = (GREY // 16).astype(np.uint8)
Writer = Callable[[Path], object]


def by_tifffile(pixels: np.ndarray, **how: object) -> Writer:
    given = {"photometric": "minisblack", "metadata": None, **how}
    return lambda path: tifffile.imwrite(path, pixels, **given)


def by_pillow(*images: np.ndarray, **how: object) -> Writer:
    first, *rest = map(Image.fromarray, images)
    more = {"save_all": True, "append_images": rest} if rest else {}
    return lambda path: first.save(path, **more, **how)


def lzw_of(content: bytes) -> bytes:
    """The bytes as one strip of LZW."""
    file = io.BytesIO()
    Image.frombytes("L", (len(content), 1), content).save(file, "TIFF", compression="tiff_lzw")
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        page = tiff.pages.first
        start, size = page.dataoffsets[0], page.databytecounts[0]
    return file.getvalue()[start : start + size]


def tiff_of(strip: bytes, shape: tuple[int, int], order: str = "<", **more: int) -> bytes:
    """A TIFF of one strip, 16 bits a pixel and LZW unless `more` says other; nothing is checked."""
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
    """A plane and two reduced copies of it, in pages of its own page or behind it."""

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
    "imagej.tif": by_tifffile(GREY, imagej=True, photometric=None, metadata={}),
    "ome.ome.tif": by_tifffile(GREY, metadata={"axes": "YX"}),
    "pyramid within.tif": pyramid(True),
    "pyramid behind.tif": pyramid(False),
    "sixteen bits.png": by_pillow(GREY),
    "a png by another name.tif": by_pillow(GREY, format="PNG"),
}


def apart() -> bytes:
    """Two strips with a gap between them."""
    file = io.BytesIO()
    tifffile.imwrite(file, GREY, rowsperstrip=24, metadata=None)
    content = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        page = tiff.pages.first
        second, size, place = page.dataoffsets[1], page.databytecounts[1], page.tags[273].valueoffset
    struct.pack_into("<I", content, place + 4, len(content))
    return bytes(content) + bytes(content[second : second + size])


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


COLOURS = np.stack([BYTES] * 3, axis=-1)
INDEXED = Image.fromarray(BYTES).convert("P")
TWO = np.stack([GREY, GREY[::-1]])
METAMORPH = [(33629, 5, 3, (1, 1) * 3, True)]
"""Plane times of a MetaMorph stack: one page, three planes."""
REFUSED: dict[str, tuple[Writer, str]] = {
    "stack.tif": (by_tifffile(TWO), "more than one image"),
    "lzw stack.tif": (by_pillow(*TWO, compression="tiff_lzw"), "more than one image"),
    "jpeg stack.tif": (by_pillow(BYTES, BYTES, compression="jpeg"), "more than one image"),
    "two sizes.tif": (by_pillow(GREY, GREY[::2, ::2], compression="tiff_lzw"), "48 x 64 and 24 x 32"),
    "one page.tif": (by_tifffile(TWO, metadata={}, truncate=True), "a stack of 2 planes"),
    "imagej.tif": (by_tifffile(TWO, imagej=True, photometric=None, metadata={}, truncate=True), "a stack of 2 planes"),
    "metamorph.tif": (by_tifffile(GREY, extratags=METAMORPH), "a stack of 3 planes"),
    "deep.tif": (by_tifffile(np.stack([GREY] * 16), volumetric=True, tile=(16, 16, 16)), "a stack of 16 planes"),
    "stack cut after its first.tif": (lambda path: path.write_bytes(first_of_two()), "there should be more"),
    "moving.png": (by_pillow(BYTES, BYTES[::-1]), "a stack of 2 images"),
    "colour.tif": (by_tifffile(COLOURS, photometric="rgb"), "in colour"),
    "lzw colour.tif": (by_pillow(COLOURS, compression="tiff_lzw"), "in colour"),
    "colour.png": (by_pillow(COLOURS), "in colour"),
    "palette.tif": (INDEXED.save, "indices into a palette"),
    "lzw palette.tif": (lambda path: INDEXED.save(path, compression="tiff_lzw"), "indices into a palette"),
    "palette.png": (INDEXED.save, "indices into a palette"),
    "white.tif": (by_tifffile(GREY, photometric="miniswhite"), "MINISWHITE"),
    "lzw white.tif": (lambda path: path.write_bytes(tiff_of(lzw_of(GREY.tobytes()), GREY.shape, t262=0)), "MINISWHITE"),
    "zstd.tif": (lambda path: path.write_bytes(tiff_of(b"0" * 99, (9, 9), t259=50_000)), r"not read \(ZSTD\)"),
    "twelve bits.tif": (lambda path: path.write_bytes(tiff_of(bytes(99), (8, 8), t258=12, t259=1)), "of 12 bits"),
    "floats.tif": (by_tifffile(GREY.astype(np.float32)), "float32; unsigned 8 or 16 bits are needed"),
    "signed.tif": (by_tifffile(GREY.astype(np.int16)), "int16; unsigned 8 or 16 bits are needed"),
    "one bit.png": (by_pillow(GREY > 99), "1 bit"),
    "four bits.png": (lambda path: Image.fromarray(BYTES // 16 * 17).save(path, bits=4), "fewer than 8 bits|palette"),
    "a line.tif": (by_tifffile(GREY[:1]), "1 x 64"),
    "huge.tif": (lambda path: path.write_bytes(tiff_of(bytes(99), (10**6, 10**6), t259=1)), "cut short or damaged"),
    "huge lzw.tif": (
        lambda path: path.write_bytes(tiff_of(lzw_of(bytes(99)), (10**6, 10**6))),
        "1,000,000 x 1,000,000",
    ),
    "huge.png": (lambda path: path.write_bytes(huge_png()), "speaks of"),
    "empty.tif": (lambda path: path.write_bytes(b""), "is empty"),
    "text.tif": (lambda path: path.write_text("well,site"), "is no TIFF, PNG, BMP or JPEG"),
    "no pixel.tif": (lambda path: path.write_bytes(tiff_of(bytes(99), (0, 0))), "holds no pixel"),
    "a hole.tif": (
        lambda path: path.write_bytes(tiff_of(bytes(99), (4, 4), t259=1, t273=0)),
        "not all of its 1 strips",
    ),
}


def first_of_two() -> bytes:
    """An LZW stack that was cut short before the page of its second image."""
    file = io.BytesIO()
    first, second = map(Image.fromarray, TWO)
    first.save(file, "TIFF", compression="tiff_lzw", save_all=True, append_images=[second])
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as tiff:
        return file.getvalue()[: tiff.pages[1].offset]


def huge_png() -> bytes:
    """A PNG whose header claims a million pixels squared."""
    import zlib

    file = io.BytesIO()
    Image.fromarray(BYTES).save(file, "PNG")
    content = bytearray(file.getvalue())
    struct.pack_into(">II", content, 16, 10**6, 10**6)
    struct.pack_into(">I", content, 29, zlib.crc32(bytes(content[12:29])))
    return bytes(content)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_grey_plane_is_refused_with_its_reason(tmp_path: Path, name: str) -> None:
    write, reason = REFUSED[name]
    write(tmp_path / name)
    with pytest.raises(DataError, match=reason) as caught:
        read_channel(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", [*READ, "a.jpg", "a.bmp", "jpeg.tif"])
def test_a_file_that_was_cut_short_says_so_or_has_lost_no_pixel(tmp_path: Path, name: str, kept: float) -> None:
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


def test_a_limit_that_is_for_web_servers_does_not_hold_a_stitched_well_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_pillow(GREY, compression="tiff_lzw")(tmp_path / "a.tif")
    by_pillow(GREY)(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert (read_channel(tmp_path / "a.tif") == GREY).all()
    assert _lzw_by_pillow(lzw_of(GREY.tobytes()), GREY.nbytes) == GREY.tobytes()
    assert (read_channel(tmp_path / "a.png") == GREY).all()


def test_a_file_of_a_data_set_in_ome_xml_gives_its_own_plane(tmp_path: Path) -> None:
    told = "".join(
        f'<Image ID="Image:{i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYCZT" Type="uint16" SizeX="64" SizeY="48" '
        f'SizeC="1" SizeZ="1" SizeT="1"><TiffData IFD="0" PlaneCount="1"><UUID FileName="{i}.ome.tif">urn:uuid:{i}'
        "</UUID></TiffData></Pixels></Image>"
        for i in range(2)
    )
    for number, plane in enumerate(TWO):
        description = (
            f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">{told}</OME>'
        )
        tifffile.imwrite(tmp_path / f"{number}.ome.tif", plane, description=description, metadata=None)
    for number, plane in enumerate(TWO):
        assert (read_channel(tmp_path / f"{number}.ome.tif") == plane).all()


def loop(path: Path) -> None:
    path.symlink_to(path.name)


THERE_INSTEAD: dict[str, tuple[Writer, str]] = {
    "folder.tif": (lambda path: path.mkdir(), "is a folder, not a file"),
    "loop.tif": (loop, "leads back to itself"),
    "dangling.tif": (lambda path: path.symlink_to("gone.tif"), "is a link to what is not there"),
    "pipe.tif": (os.mkfifo, "is a device or pipe, not a file"),
    "none.tif": (lambda path: None, "is not there"),
    "n" * 300 + ".tif": (lambda path: None, "has too long a name"),
    "a\0b.tif": (lambda path: None, "cannot be read: embedded null byte"),
}


@pytest.mark.parametrize("read", [read_channel, read_labels])
@pytest.mark.parametrize("name", THERE_INSTEAD, ids=lambda name: name[:8].replace("\0", "0"))
def test_what_is_there_in_place_of_a_file_is_said(tmp_path: Path, name: str, read: Callable[[Path], object]) -> None:
    make, reason = THERE_INSTEAD[name]
    make(tmp_path / name)
    with pytest.raises(DataError, match=reason):
        read(tmp_path / name)


def test_a_file_that_may_not_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    by_tifffile(GREY)(tmp_path / "a.tif")
    (tmp_path / "a.tif").chmod(0)
    if os.access(tmp_path / "a.tif", os.R_OK):
        pytest.skip("who runs this may read everything")
    with pytest.raises(DataError, match="permission denied"):
        read_channel(tmp_path / "a.tif")


def damaged(content: bytes, draw: np.random.Generator) -> bytes:
    """A few bytes changed, most of them where headers lie; now and then the end is lost."""
    changed = bytearray(content)
    for _ in range(draw.integers(1, 6)):
        near = min(400, len(changed))
        place = draw.choice([draw.integers(near), len(changed) - 1 - draw.integers(near), draw.integers(len(changed))])
        changed[place] = draw.choice([0, 1, 127, 128, 255, draw.integers(256)])
    return bytes(changed if draw.random() < 0.9 else changed[: draw.integers(len(changed))])


def test_no_damage_makes_a_reader_fail_otherwise_or_speak(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
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


READS = """
import sys
if sys.argv[2] == "without":
    sys.modules["imagecodecs"] = None
import hashlib, pathlib
from cellssl.artifacts._tiff import _lzw_by_pillow
from cellssl.artifacts.images import read_channel
from cellssl.errors import DataError
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        print(path.name, hashlib.sha256(read_channel(path).tobytes()).hexdigest())
    except DataError as error:
        print(error)
"""


def test_pixels_and_refusals_are_the_same_with_and_without_imagecodecs(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs", reason="imagecodecs, which cellpose brings, is not installed")
    draw = generator("tests", "lzw")
    for name, write in {**READ, **{name: write for name, (write, _) in REFUSED.items()}}.items():
        write(tmp_path / f"{write is READ.get(name)} {name}")
    for path in [path for path in tmp_path.iterdir() if "lzw" in path.name]:
        for number in range(20):
            path.with_name(f"{number} {path.name}").write_bytes(damaged(path.read_bytes(), draw))
    said = [
        subprocess.run([sys.executable, "-c", READS, tmp_path, how], capture_output=True, text=True, check=True)
        for how in ("with", "without")
    ]
    assert said[0].stdout == said[1].stdout
    assert said[0].stdout.count("\n") > 200
    assert said[0].stderr == said[1].stderr == ""


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.float32])
def test_whole_numbers_of_any_type_are_labels(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "labels.tif", LABELS.astype(dtype))
    assert (read_labels(tmp_path / "labels.tif") == LABELS).all()


@pytest.mark.parametrize("name", ["labels.tif", "labels.png"])
def test_a_palette_only_paints_labels(tmp_path: Path, name: str) -> None:
    painted = Image.fromarray(LABELS.astype(np.uint8)).convert("P")
    painted.putpalette(generator("tests", "palette").bytes(768))
    painted.save(tmp_path / name)
    assert (read_labels(tmp_path / name) == LABELS).all()


@pytest.mark.parametrize("highest", [5, 65_535, 65_536, 2_000_000, 2**31 - 1])
def test_labels_that_were_written_are_read_again(tmp_path: Path, highest: int) -> None:
    labels = np.where(LABELS == 5, highest, LABELS)
    write_labels(tmp_path / "labels.tif", labels)
    assert (read_labels(tmp_path / "labels.tif") == labels).all()


WRONG = {
    "halves": LABELS / 2,
    "below 0": LABELS - 1,
    "nan": np.where(LABELS == 1, np.nan, LABELS),
    "a stack": np.stack([LABELS] * 5),
    "too high": LABELS.astype(np.uint64) * 2**31,
    "too high by one, as floats": np.where(LABELS == 5, 2.0**31, LABELS).astype(np.float32),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_no_label_image_is_refused_by_its_name(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "labels.tif"
    tifffile.imwrite(path, WRONG[fault], photometric="minisblack")
    with pytest.raises(DataError, match=r"labels\.tif"):
        read_labels(path)
