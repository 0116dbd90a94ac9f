"""Headers: what files of many formats say of themselves, and which formats are named where they are not read."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_up_images import NAMED, NAMES, NUMBERED, TCZYX, ome_set
from PIL import Image

from cellssl.errors import DataError
from cellssl.images.formats import experimental_formats
from cellssl.images.header import read_header
from cellssl.images.plain_tiff import plain_header
from cellssl.images.reading import read_channel
from cellssl.images.sources import open_source

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
GREY = TCZYX[0, 0, 0]


@pytest.mark.parametrize("name", [*NAMED, *NUMBERED])
def test_a_header_names_the_axes_of_a_stack(tmp_path: Path, name: str) -> None:
    {**NAMED, **NUMBERED}[name](tmp_path / name)
    header = read_header(tmp_path / name)
    assert (header.rows, header.columns, header.dtype) == (32, 48, "uint16")
    assert (header.channels, header.z_planes, header.time_points, header.series) == (3, 4, 2, 1)
    assert header.channel_names == (NAMES if name in NAMED else ())


def test_ome_xml_tells_pixel_size_objective_and_date(tmp_path: Path) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": 0.325, "PhysicalSizeY": 0.325, "PhysicalSizeXUnit": "µm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", GREY, metadata={**metadata, "AcquisitionDate": "2026-11-29T10:00:00"})
    header = read_header(tmp_path / "a.ome.tif")
    assert (header.format, header.pixel_um, header.acquired) == ("OME-TIFF", 0.325, "2026-11-29T10:00:00")


def test_units_of_other_sizes_become_micrometres(tmp_path: Path) -> None:
    assert [read_header(path).pixel_um for path in ome_set(tmp_path)] == [0.325] * 3
    tifffile.imwrite(tmp_path / "a.tif", GREY, imagej=True, resolution=(2, 2), metadata={"unit": "\\u00B5m"})
    assert read_header(tmp_path / "a.tif").pixel_um == 0.5


@pytest.mark.parametrize(
    ("resolution", "unit", "pixel_um"), [(20_000, "CENTIMETER", 0.5), (72, "INCH", None), (20_000, "NONE", None)]
)
def test_resolution_tags_count_where_they_are_those_of_a_microscope(
    tmp_path: Path, resolution: int, unit: str, pixel_um: float | None
) -> None:
    how = {"resolution": (resolution, resolution), "resolutionunit": unit}
    tifffile.imwrite(tmp_path / "a.tif", GREY, metadata=None, **how)
    assert read_header(tmp_path / "a.tif").pixel_um == pixel_um


def test_the_calibration_of_real_metamorph_files_is_found() -> None:
    files = sorted((DATA / "fields").glob("*.tif"))
    if not files:
        pytest.skip("the real fields are not there")
    headers = [read_header(path) for path in files]
    assert {round(header.pixel_um or 0, 4) for header in headers} == {0.4963}
    assert headers[0].channel_names == ("DAPI",) and headers[0].extra["binning"] == "1 x 1"


def test_the_xml_of_imagexpress_tells_channel_pixel_size_and_objective(tmp_path: Path) -> None:
    facts = {
        "spatial-calibration-state": ("bool", "on"),
        "spatial-calibration-x": ("float", "0.65"),
        "spatial-calibration-y": ("float", "0.65"),
        "spatial-calibration-units": ("string", "um"),
        "camera-binning-x": ("int", "2"),
        "camera-binning-y": ("int", "2"),
        "_IllumSetting_": ("string", "DAPI"),
        "_MagSetting_": ("string", "10X Plan Apo"),
        "acquisition-time-local": ("time", "20261129 10:00:00.000"),
    }
    rows = "".join(f'<prop id="{name}" type="{kind}" value="{value}"/>' for name, (kind, value) in facts.items())
    xml = f"<MetaData><PlaneInfo>{rows}</PlaneInfo></MetaData>"
    tifffile.imwrite(tmp_path / "a.TIF", GREY, description=xml, software="MetaSeries", metadata=None)
    header = read_header(tmp_path / "a.TIF")
    assert (header.pixel_um, header.channel_names, header.objective) == (0.65, ("DAPI",), "10X Plan Apo")
    assert header.extra["binning"] == "2 x 2" and (header.acquired or "").startswith("2026-11-29")
    assert (read_channel(tmp_path / "a.TIF") == GREY).all()


def test_the_quick_way_to_a_plain_header_says_what_tifffile_says(tmp_path: Path) -> None:
    kinds = [{}, {"byteorder": ">"}, {"compression": "zlib"}, {"tile": (16, 16)}, {"rowsperstrip": 5}]
    for number, how in enumerate(kinds):
        for dtype in (np.uint8, np.uint16, np.int16, np.float32):
            more = {"metadata": None, "datetime": True, "resolution": (3e4, 3e4), "resolutionunit": "CENTIMETER"}
            tifffile.imwrite(tmp_path / f"{number}{np.dtype(dtype)}.tif", GREY.astype(dtype), **how, **more)
    Image.fromarray((GREY // 256).astype(np.uint8)).save(tmp_path / "pillow.tif", dpi=(72, 72))
    files = [*tmp_path.iterdir(), *(DATA / "fields").glob("*.tif")]
    quick = 0
    for path in files:
        with path.open("rb") as file, open_source(path) as source:
            if (plain := plain_header(file)) is not None:
                assert plain == source.header(0)
                quick += 1
    assert quick >= 16


def test_a_stack_is_never_taken_for_a_plain_file(tmp_path: Path) -> None:
    for name, write in {**NAMED, **NUMBERED}.items():
        if name.endswith(".tif"):
            write(tmp_path / name)
            with (tmp_path / name).open("rb") as file:
                assert plain_header(file) is None


def test_reading_a_header_loads_neither_torch_nor_pandas(tmp_path: Path) -> None:
    NAMED["tczyx.ome.tif"](tmp_path / "a.ome.tif")
    code = (
        "import sys; from pathlib import Path; from cellssl.images.header import read_header; "
        "read_header(Path(sys.argv[1])); print([name for name in ('torch', 'pandas', 'scipy') if name in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.ome.tif")], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


FOREIGN = {
    "a.czi": (b"ZISRAWFILE" + bytes(90), "Zeiss CZI"),
    "a.nd2": (b"\xda\xce\xbe\x0a" + bytes(90), "Nikon ND2"),
    "a.lif": (b"\x70\0\0\0" + bytes(90), "Leica LIF"),
    "a.vsi": (b"II*\0" + bytes(90), "VSI"),
    "a.C01": (b"\x10\0\0\0" + bytes(90), "Cellomics C01"),
    "a.oib": (b"\xd0\xcf\x11\xe0" + bytes(90), "Olympus OIB"),
    "a.tif": (b"II\xbc\x01" + bytes(90), "JPEG XR"),
    "a.ims": (b"\x89HDF" + bytes(90), "HDF5"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_format_that_is_not_read_is_named_with_its_cure(tmp_path: Path, name: str) -> None:
    content, named = FOREIGN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{named}.*export it as OME-TIFF"):
        read_header(tmp_path / name)


def test_the_experimental_formats_among_files_are_found_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE")
    tifffile.imwrite(tmp_path / "b.tif", GREY)
    assert experimental_formats(sorted(tmp_path.iterdir())) == ["Zeiss CZI"]


@pytest.mark.parametrize("place", ["", "A/1/0/s0", "A/1/9"])
def test_what_is_no_image_group_of_an_ome_zarr_is_refused_with_the_cure(tmp_path: Path, place: str) -> None:
    plate = tmp_path / "plate.zarr"
    NAMED["0.5.zarr"](plate / "A" / "1" / "0")
    (plate / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {"ome": {"plate": {}}}}')
    with pytest.raises(DataError, match=r"name the folder of the image group"):
        read_header(plate / place)


def test_an_address_of_an_ome_zarr_is_refused_with_the_cure() -> None:
    with pytest.raises(DataError, match=r"from a disk only; copy it"):
        read_header(Path("https://example.org/plate.zarr/A/1/0"))
