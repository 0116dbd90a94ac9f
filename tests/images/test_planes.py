"""Planes: which plane of which file a reference means, in files that other libraries wrote; and what is refused."""

import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_up_images import NAMED, NAMES, NUMBERED, TCZYX, Writer, ome_set
from PIL import Image
from scipy.ndimage import gaussian_filter

from cellssl.errors import DataError
from cellssl.images.header import read_header
from cellssl.images.projection import focus
from cellssl.images.reading import read_channel, read_image
from cellssl.images.reference import ImageReference, parse_reference
from cellssl.randomness import generator


@pytest.mark.parametrize("name", [*NAMED, *NUMBERED])
def test_the_plane_that_is_asked_for_is_read(tmp_path: Path, name: str) -> None:
    {**NAMED, **NUMBERED}[name](tmp_path / name)
    for t, c, z in np.ndindex(2, 3, 4):
        pixels = read_image(ImageReference((str(tmp_path / name),), channel=c, z=z, t=t))
        assert pixels.dtype == np.uint16 and (pixels == TCZYX[t, c, z]).all()


@pytest.mark.parametrize("name", NAMED)
def test_a_channel_is_found_by_its_name(tmp_path: Path, name: str) -> None:
    NAMED[name](tmp_path / name)
    found = read_image(ImageReference((str(tmp_path / name),), channel="actin", z="max", t=1))
    assert (found == TCZYX[1, 2].max(axis=0)).all()


@pytest.mark.parametrize("name", [*NAMED, *NUMBERED])
def test_a_file_of_many_planes_is_refused_with_all_that_is_there(tmp_path: Path, name: str) -> None:
    {**NAMED, **NUMBERED}[name](tmp_path / name)
    with pytest.raises(DataError, match=r"3 channels .*4 z planes and 2 time points") as caught:
        read_channel(tmp_path / name)
    assert all(name in str(caught.value) for name in (NAMES if name in NAMED else ()))
    assert "channel = " in caught.value.hint and 'z = "max"' in caught.value.hint and 't = "first"' in caught.value.hint


def mean_rounded_half_up(planes: np.ndarray) -> np.ndarray:
    return np.floor(planes.mean(axis=0, dtype=float) + 0.5)


def test_projections_are_the_brightest_the_mean_and_the_sharpest_plane(tmp_path: Path) -> None:
    NAMED["tczyx.ome.tif"](tmp_path / "a.ome.tif")
    planes = {
        how: read_image(ImageReference((str(tmp_path / "a.ome.tif"),), channel=1, z=how, t=0))
        for how in ("max", "mean", "focus")
    }
    stack = TCZYX[0, 1]
    assert (planes["max"] == stack.max(axis=0)).all()
    assert (planes["mean"] == mean_rounded_half_up(stack)).all()
    assert (planes["focus"] == max(stack, key=focus)).all()


def test_the_plane_in_focus_is_the_one_that_was_not_blurred() -> None:
    draw, sharp = generator("tests", "focus"), np.zeros((96, 96))
    sharp[20:40, 30:55] = sharp[60:75, 10:30] = 2_000
    stack = [draw.poisson(gaussian_filter(sharp, blur) + 200) for blur in (6, 3, 1, 2, 5)]
    assert int(np.argmax([focus(plane) for plane in stack])) == 2


def test_one_file_per_z_plane_is_one_stack(tmp_path: Path) -> None:
    files = tuple(str(tmp_path / f"z{number}.tif") for number in range(4))
    for file, plane in zip(files, TCZYX[0, 0], strict=True):
        tifffile.imwrite(file, plane)
    assert (read_image(ImageReference(files, z="max")) == TCZYX[0, 0].max(axis=0)).all()
    assert (read_image(ImageReference(files, z=2)) == TCZYX[0, 0, 2]).all()
    with pytest.raises(DataError, match="a stack of 4 files"):
        read_image(ImageReference(files))


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"channel": 3, "z": 0, "t": 0}, "3 channels, numbered from 0 .*there is no channel = 3"),
        ({"channel": "GFP", "z": 0, "t": 0}, '"DAPI", "Tubulin", "Actin"'),
        ({"channel": 0, "z": 4, "t": 0}, "4 z planes, numbered from 0; there is no z = 4"),
        ({"channel": 0, "z": "max", "t": 2}, "2 time points, numbered from 0; there is no t = 2"),
        ({"page": 24}, "24 pages, numbered from 0; there is no page = 24"),
        ({"page": 0, "z": 0}, "asked for a page and for z"),
        ({"channel": 0, "z": 0, "t": 0, "series": 1}, "1 series, numbered from 0; there is no 1"),
    ],
)
def test_what_is_not_there_is_an_error_with_what_there_is(
    tmp_path: Path, asked: dict[str, object], reason: str
) -> None:
    NAMED["tczyx.ome.tif"](tmp_path / "a.ome.tif")
    with pytest.raises(DataError, match=reason):
        read_image(ImageReference((str(tmp_path / "a.ome.tif"),), **asked))


def test_pages_without_names_are_what_the_reference_says(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, TCZYX[0, 0], metadata=None, photometric="minisblack")
    for asked in ({"page": 2}, {"channel": 2}, {"z": 2}, {"t": 2}):
        assert (read_image(ImageReference((str(path),), **asked)) == TCZYX[0, 0, 2]).all()
    assert (read_image(ImageReference((str(path),), z="max")) == TCZYX[0, 0].max(axis=0)).all()
    for asked in ({}, {"channel": 0, "z": 1}):
        with pytest.raises(DataError, match="4 pages of which it does not say what they are"):
            read_image(ImageReference((str(path),), **asked))


def test_thumbnails_are_no_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as tiff:
        for plane in TCZYX[0, 0, :2]:
            tiff.write(plane, metadata=None)
            tiff.write(plane[::2, ::2], subfiletype=1, metadata=None)
    assert (read_image(ImageReference((str(path),), page=1)) == TCZYX[0, 0, 1]).all()


def test_one_plane_of_a_large_sparse_stack_is_read_without_the_rest(tmp_path: Path) -> None:
    path, shape = tmp_path / "a.tif", (4_000, 1_024, 1_024)
    stack = tifffile.memmap(path, shape=shape, dtype=np.uint16, bigtiff=True, metadata={"axes": "ZYX"})
    stack[3_000, :3, :3] = 7
    stack.flush()
    del stack
    assert path.stat().st_size > 8e9 and path.stat().st_blocks * 512 < 1e8
    if not Path("/proc/self/io").is_file():
        pytest.skip("this system does not count the bytes that a process reads")
    before = _read_by_this_process()
    assert read_image(ImageReference((str(path),), z=3_000)).sum() == 63
    assert _read_by_this_process() - before < 5e7


def _read_by_this_process() -> int:
    return int(Path("/proc/self/io").read_text().split()[1])


def colours(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.stack([first, first, second], axis=-1)


GREY, OTHER = TCZYX[0, 0, 0], TCZYX[0, 1, 0]
EIGHT = (GREY // 256).astype(np.uint8)


def png_of_16_bits(pixels: np.ndarray) -> Writer:
    import imagecodecs

    return lambda path: path.write_bytes(imagecodecs.png_encode(pixels))


EQUAL: dict[str, tuple[Writer, np.ndarray]] = {
    "rgb.png": (lambda path: Image.fromarray(colours(EIGHT, EIGHT)).save(path), EIGHT),
    "rgba.png": (lambda path: Image.fromarray(colours(EIGHT, EIGHT)).convert("RGBA").save(path), EIGHT),
    "grey and alpha.png": (lambda path: Image.fromarray(EIGHT).convert("LA").save(path), EIGHT),
    "rgb.bmp": (lambda path: Image.fromarray(colours(EIGHT, EIGHT)).save(path), EIGHT),
    "deep.png": (png_of_16_bits(colours(GREY, GREY)), GREY),
    "rgb.tif": (lambda path: tifffile.imwrite(path, colours(GREY, GREY), photometric="rgb"), GREY),
    "lzw.tif": (
        lambda path: tifffile.imwrite(
            path, colours(GREY, GREY), photometric="rgb", compression="zlib", predictor=2, rowsperstrip=5
        ),
        GREY,
    ),
    "tiles.tif": (
        lambda path: tifffile.imwrite(
            path, colours(EIGHT, EIGHT), photometric="rgb", compression="lzw", predictor=2, tile=(16, 16), byteorder=">"
        ),
        EIGHT,
    ),
    "planar.tif": (
        lambda path: tifffile.imwrite(
            path, np.stack([GREY] * 3), photometric="rgb", planarconfig="separate", compression="zlib", rowsperstrip=7
        ),
        GREY,
    ),
    "opaque.tif": (
        lambda path: tifffile.imwrite(
            path,
            np.dstack([colours(GREY, GREY), np.full_like(GREY, 65_535)]),
            photometric="rgb",
            extrasamples=["unassalpha"],
        ),
        GREY,
    ),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_colours_are_grey(tmp_path: Path, name: str) -> None:
    write, grey = EQUAL[name]
    write(tmp_path / name)
    assert (read_channel(tmp_path / name) == grey).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_different_colours_are_refused_unless_one_is_chosen(tmp_path: Path, name: str) -> None:
    pixels = colours(EIGHT, EIGHT[::-1])
    Image.fromarray(pixels).save(tmp_path / name)
    with pytest.raises(DataError, match=r"colours differ.*split it"):
        read_channel(tmp_path / name)
    assert (read_image(ImageReference((str(tmp_path / name),), channel=2)) == EIGHT[::-1]).all()
    assert (read_image(ImageReference((str(tmp_path / name),), channel="red")) == EIGHT).all()


def test_transparency_that_hides_something_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([colours(EIGHT, EIGHT), EIGHT])).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="transparent in places"):
        read_channel(tmp_path / "a.png")


def test_samples_that_are_no_colours_are_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, TCZYX[0, :, 0], photometric="minisblack", planarconfig="separate", metadata=None)
    for number in range(3):
        assert (read_image(ImageReference((str(path),), channel=number)) == TCZYX[0, number, 0]).all()
    with pytest.raises(DataError, match="colours differ"):
        read_channel(path)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int8, np.uint32, np.uint16])
def test_other_numbers_are_scaled_by_the_range_that_is_given(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 25, 50], [100, 120, 75]], dtype))
    reference = ImageReference((str(tmp_path / "a.tif"),), intensity_range=(0, 100))
    assert read_image(reference).tolist() == [[0, 16_384, 32_768], [65_535, 65_535, 49_151]]


def test_without_a_range_the_error_names_type_and_values(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 0.5], [0.25, -1]], np.float32))
    with pytest.raises(DataError, match=r"float32, from -1 to 0\.5") as caught:
        read_channel(tmp_path / "a.tif")
    assert "intensity_range" in caught.value.hint


def test_nan_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, np.nan], [0.25, 1]], np.float32))
    with pytest.raises(DataError, match="NaN or infinity in 1 pixels"):
        read_image(ImageReference((str(tmp_path / "a.tif"),), intensity_range=(0, 1)))


def metamorph_stack(distances: tuple[int, ...]) -> bytes:
    """Return a MetaMorph stack: one page, behind whose plane the others lie; no library writes such a file."""
    pixels = TCZYX[0, 0, : len(distances)].tobytes()
    times = b"".join(struct.pack("<6I", each, 1, 2_454_000, 0, 2_454_000, 0) for each in distances)
    calibration = struct.pack(
        "<8I", 3, 1, 4, 8 + len(pixels) + len(times) + 32, 6, 8 + len(pixels) + len(times) + 40, 0, 0
    )
    behind = times + calibration + struct.pack("<2II3s1x", 325, 1_000, 3, b"um\0")
    size = TCZYX[0, 0, 0].nbytes
    plain = {256: 48, 257: 32, 258: 16, 259: 1, 262: 1, 273: 8, 277: 1, 278: 32, 279: size}
    entries = [(tag, 4, 1, value) for tag, value in plain.items()]
    entries += [(33628, 4, 4, 8 + len(pixels) + len(times)), (33629, 5, len(distances), 8 + len(pixels))]
    page = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels) + len(behind)) + pixels + behind + page


@pytest.mark.parametrize(("distances", "asked"), [((5, 5, 5), {"z": 1}), ((0, 0, 0), {"page": 1})])
def test_the_planes_of_a_metamorph_stack_lie_behind_its_only_page(
    tmp_path: Path, distances: tuple[int, ...], asked: dict[str, int]
) -> None:
    path = tmp_path / "a.stk"
    path.write_bytes(metamorph_stack(distances))
    assert (read_image(ImageReference((str(path),), **asked)) == TCZYX[0, 0, 1]).all()
    assert (tifffile.imread(path)[1] == TCZYX[0, 0, 1]).all()
    assert read_header(path).pixel_um == 0.325
    with pytest.raises(DataError, match=r"3 z planes|3 pages"):
        read_channel(path)


def test_each_file_of_an_ome_set_gives_its_own_planes(tmp_path: Path) -> None:
    for number, path in enumerate(ome_set(tmp_path)):
        assert (read_image(ImageReference((str(path),), channel=NAMES[number], z=2)) == TCZYX[0, number, 2]).all()
        with pytest.raises(DataError, match="no channel"):
            read_image(ImageReference((str(path),), channel=NAMES[number - 1], z=2))
    with pytest.raises(DataError, match="holds 4 z planes"):
        read_channel(tmp_path / "c1.ome.tif")


def test_the_images_of_a_file_are_its_series(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for number in range(2):
            tiff.write(TCZYX[number, :, 0], metadata={"axes": "CYX"}, photometric="minisblack")
    for number in range(2):
        read = read_image(ImageReference((str(path),), series=number, channel=2))
        assert (read == TCZYX[number, 2, 0]).all()
    with pytest.raises(DataError, match="2 series"):
        read_image(ImageReference((str(path),), channel=2))


def test_a_reference_is_read_back_from_its_text() -> None:
    reference = ImageReference(("a.tif", "b.tif"), 0, "DAPI", None, "max", 3, (0.0, 1.5))
    assert parse_reference(str(reference)) == reference
    assert str(ImageReference(("a.tif",))) == "a.tif"


@pytest.mark.parametrize(
    "text",
    [
        '{"files": []}',
        '{"files": "a.tif"}',
        '{"files": ["a.tif"], "z": "sum"}',
        '{"files": ["a.tif"], "channel": -1}',
        '{"files": ["a.tif"], "t": true}',
        '{"files": ["a.tif"], "intensity_range": [1, 0]}',
        '{"files": ["a.tif"], "secret": 1}',
        "{",
    ],
)
def test_a_text_that_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_reference(text)


def damaged(content: bytes, draw: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for place in draw.integers(0, min(len(changed), 3_000), draw.integers(1, 12)):
        changed[place] = draw.integers(0, 256)
    return bytes(changed[: draw.integers(1, len(changed))] if draw.random() < 0.3 else changed)


def test_damaged_stacks_give_pixels_or_a_reason(tmp_path: Path) -> None:
    draw = generator("tests", "damaged stacks")
    names = ["tczyx.ome.tif", "tiles.ome.tif", "imagej.tif", "imagej of one page.tif"]
    for name in names:
        {**NAMED, **NUMBERED}[name](tmp_path / name)
        sound = (tmp_path / name).read_bytes()
        for _ in range(25):
            (tmp_path / "a.tif").write_bytes(damaged(sound, draw))
            try:
                read_image(ImageReference((str(tmp_path / "a.tif"),), channel=1, z="max", t=0))
            except DataError as error:
                assert str(tmp_path) in str(error)
