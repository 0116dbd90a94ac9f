"""Tests of the check of fetch: what it finds in headers and rows, what is an error, and what is remembered."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellssl.artifacts.store import Store
from cellssl.datasets.base import Field
from cellssl.datasets.transfer.threads import result_of
from cellssl.engine.build import RunContext
from cellssl.errors import FailedError
from cellssl.images.header import ImageHeader
from cellssl.images.reference import ImageReference
from cellssl.stages.fetch import findings as kinds
from cellssl.stages.fetch.check import check_plates
from cellssl.stages.fetch.findings import Check, Tolerances, kinds_of
from cellssl.stages.fetch.image_checks import check_images
from cellssl.stages.fetch.image_headers import Unreadable, read_headers
from cellssl.stages.fetch.stage import by_plate

STRICT = Tolerances(missing=0.01, broken=0.01)


def image(path: Path, side: int = 16, dtype: str = "uint16", **how: Any) -> str:
    """Write an image, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, np.zeros((side, side), dtype), **how)
    return str(path)


def a_field(well: str, site: int = 1, plate: str = "P1", **values: Any) -> Field:
    return Field(f"{plate}_{well}_s{site}", plate, well, site, **values)


def check(folder: Path, fields: list[Field], tolerances: Tolerances = STRICT, **how: Any) -> Check:
    context = RunContext(Store(folder / "store"))
    return result_of(check_plates(by_plate(fields), how.get("controls", ("DMSO",)), tolerances, context))


def found(folder: Path, fields: list[Field], **how: Any) -> dict[str, int]:
    return kinds_of(check(folder, fields, **how).findings)


def plate_of(folder: Path, count: int = 4, **how: Any) -> list[Field]:
    """Return as many fields with one image each."""
    return [
        a_field(f"A{well:02d}", images={"dna": image(folder / f"{well}.tif", **how)}) for well in range(1, count + 1)
    ]


def test_a_plate_of_like_images_has_no_finding(tmp_path: Path) -> None:
    seen = check(tmp_path, plate_of(tmp_path))
    assert (seen.findings, seen.fields, seen.files, dict(seen.bad_plates)) == ((), 4, 4, {})


def test_images_of_another_depth_and_size_than_most_are_warnings(tmp_path: Path) -> None:
    fields = plate_of(tmp_path)
    image(tmp_path / "2.tif", dtype="uint8")
    image(tmp_path / "3.tif", side=32)
    seen = check(tmp_path, fields)
    assert [(one.kind, one.well, one.severity) for one in seen.findings] == [
        (kinds.DEPTHS, "A02", "warning"),
        (kinds.SIZES, "A03", "warning"),
    ]
    assert "32 x 32 pixels" in seen.findings[1].what and "binning differs by 2" in seen.findings[1].what


def test_thumbnails_are_found_though_every_field_has_one(tmp_path: Path) -> None:
    fields = plate_of(tmp_path, side=64)
    fields += [
        a_field(f"A{n:02d}", 2, images={"dna": image(tmp_path / f"{n}_thumb.tif", dtype="uint8")}) for n in range(1, 5)
    ]
    assert found(tmp_path, fields) == {kinds.THUMBNAIL: 4}


def test_a_plate_of_another_depth_than_the_others_is_named(tmp_path: Path) -> None:
    fields = [
        a_field("A01", plate=plate, images={"dna": image(tmp_path / f"{plate}.tif", dtype=dtype)})
        for plate, dtype in (("P1", "uint16"), ("P2", "uint8"), ("P3", "uint16"))
    ]
    assert [(one.kind, one.plate) for one in check(tmp_path, fields).findings] == [(kinds.DEPTHS, "P2")]


def test_sizes_that_differ_within_a_field_are_an_error(tmp_path: Path) -> None:
    both = {"dna": image(tmp_path / "d.tif"), "actin": image(tmp_path / "a.tif", side=8)}
    seen = check(tmp_path, [a_field("A01", images=both)])
    assert [one.kind for one in seen.errors] == [kinds.SIZES_IN_FIELD]
    assert "actin has 8 x 8 pixels, and dna has 16 x 16" in seen.bad_plates["P1"]


def test_a_stack_and_floats_without_a_choice_are_errors_that_show_the_line_to_write(tmp_path: Path) -> None:
    stack = str(tmp_path / "stack.tif")
    tifffile.imwrite(stack, np.zeros((3, 16, 16), np.uint16), imagej=True, metadata={"axes": "ZYX"})
    fields = [
        a_field("A01", images={"dna": stack}),
        a_field("A02", images={"dna": image(tmp_path / "f.tif", dtype="float32")}),
    ]
    seen = check(tmp_path, fields)
    assert [one.kind for one in seen.errors] == [kinds.NOT_CHOSEN, kinds.NO_RANGE]
    assert 'z = "max"' in seen.errors[0].cure and "intensity_range" in seen.errors[1].cure
    chosen = json.dumps({"files": [stack], "z": "max"})
    assert found(tmp_path, [a_field("A01", images={"dna": chosen})]) == {}


def test_a_pixel_size_that_the_files_contradict_is_said_once_with_both_numbers(tmp_path: Path) -> None:
    paths = [image(tmp_path / f"{n}.tif", imagej=True, resolution=(2, 2), metadata={"unit": "um"}) for n in range(3)]
    fields = [a_field(f"A0{n}", images={"dna": path}, pixel_um=5.0) for n, path in enumerate(paths)]
    seen = check(tmp_path, fields)
    assert [one.kind for one in seen.findings] == [kinds.PIXEL_SIZE]
    assert "pixel_um is 5, and 3 files of plate P1 say 0.5 um" in seen.findings[0].what


def test_one_file_for_two_channels_or_two_fields_is_found(tmp_path: Path) -> None:
    path, other = image(tmp_path / "1.tif"), image(tmp_path / "2.tif")
    fields = [
        a_field("A01", images={"agp": path, "mito": path}),
        a_field("A02", plate="P2", images={"agp": path, "mito": other}),
    ]
    where = [(one.field_id, one.channel) for one in check(tmp_path, fields).findings if one.kind == kinds.SAME_IMAGE]
    assert where == [("P1_A01_s1", "mito"), ("P2_A02_s1", "agp")]


def test_wells_controls_and_sites_that_do_not_fit_are_found(tmp_path: Path) -> None:
    fields = [
        a_field("A01", 1, images={}, compound="DMSO"),
        a_field("A01", 2, images={}, compound="DMSO"),
        a_field("A02", 1, images={}, compound="dmso"),
        a_field("B01", 1, "P2", images={}, compound="taxol"),
    ]
    assert found(tmp_path, fields, controls=("DMSO", "water")) == {
        kinds.SITES: 1,
        kinds.NAMES: 1,
        kinds.NO_CONTROLS: 1,
        kinds.RECIPE: 1,
    }


def test_missing_fields_within_the_tolerance_are_warnings_and_more_are_errors(tmp_path: Path) -> None:
    fields = plate_of(tmp_path, 24)
    Path(fields[0].images["dna"]).unlink()
    assert [one.severity for one in check(tmp_path, fields).findings] == ["warning"]
    assert check(tmp_path, fields, Tolerances(missing=0, broken=0.01)).bad_plates
    Path(fields[1].images["dna"]).unlink()
    seen = check(tmp_path, fields)
    assert len(seen.errors) == 2
    assert seen.bad_plates["P1"].startswith("2 of 24 fields of plate P1 are missing or broken; first: P1_A01_s1: ")


def test_a_finding_names_its_field_once(tmp_path: Path) -> None:
    gone = check(tmp_path, [a_field("A01", images={"dna": str(tmp_path / "gone.tif")})]).findings[0]
    assert str(gone).startswith(f"P1_A01_s1: {tmp_path}/gone.tif does not exist; ")


def test_a_bad_plate_leaves_the_findings_of_the_others_as_they_are(tmp_path: Path) -> None:
    fields = [*plate_of(tmp_path), a_field("A01", plate="P2", images={"dna": str(tmp_path / "gone.tif")})]
    seen = check(tmp_path, fields)
    assert list(seen.bad_plates) == ["P2"] and [one.plate for one in seen.errors] == ["P2"]


def test_a_check_of_files_that_were_written_just_now_is_not_remembered(tmp_path: Path) -> None:
    fields = plate_of(tmp_path)
    assert not check(tmp_path, fields).is_recalled and not check(tmp_path, fields).is_recalled


def test_what_was_kept_is_recalled_plate_by_plate_and_garbage_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cellssl.stages.fetch import remembered

    monkeypatch.setattr(remembered, "COARSEST_CLOCK_NS", -(10**12))  # as if the files were written long ago
    fields = [*plate_of(tmp_path / "one"), a_field("A01", plate="P2", images={"dna": image(tmp_path / "2.tif")})]
    assert not check(tmp_path, fields).is_recalled
    assert check(tmp_path, fields).is_recalled
    image(tmp_path / "2.tif", dtype="uint8")
    changed = check(tmp_path, fields)
    assert not changed.is_recalled and kinds_of(changed.findings) == {kinds.DEPTHS: 1}
    for file in (tmp_path / "store/checks").glob("*.json"):
        file.write_text(file.read_text()[:-7])
    again = check(tmp_path, fields)
    assert not again.is_recalled and again.findings == changed.findings


def test_many_headers_are_read_in_processes_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cellssl.stages.fetch import image_headers

    places = [(image(tmp_path / f"{n}.tif", side=8 + n), 0) for n in range(12)]
    (tmp_path / "3.tif").write_bytes(b"II*\0cut short")
    here = result_of(read_headers(places))
    monkeypatch.setattr(image_headers, "FEW", 1)
    monkeypatch.setattr(image_headers, "BATCH", 3)
    monkeypatch.setattr("cellssl.engine.process_pool.allowed_cores", lambda: 2)
    assert result_of(read_headers(places)) == here
    assert [isinstance(header, Unreadable) for header in here.values()].count(True) == 1


def test_a_disk_that_fails_is_no_finding(tmp_path: Path) -> None:
    (tmp_path / "1.tif").symlink_to("/proc/self/mem")  # a file whose first byte cannot be read: EIO
    with pytest.raises(FailedError, match="Input/output error"):
        check(tmp_path, [a_field("A01", images={"dna": str(tmp_path / "1.tif")})])


def seen_in(*images: tuple[str, str, ImageHeader], **reference: Any) -> list[str]:
    """The kinds that the headers of a plate give; of every image its well, channel and header."""
    fields: dict[str, dict[str, str]] = {}
    headers = {}
    for well, channel, header in images:
        number = reference.get("numbers", {}).get(channel)
        of_image = ImageReference((f"/{well}.tif",), channel=number, z=reference.get("z"))
        fields.setdefault(well, {})[channel] = str(of_image)
        headers[f"/{well}.tif", 0] = header
    seen, _ = check_images([a_field(well, images=images) for well, images in fields.items()], {}, headers)
    return [one.kind for one in seen]


def header(*names: str, z: int = 1, **more: Any) -> ImageHeader:
    return ImageHeader("OME-TIFF", 16, 16, "uint16", max(1, len(names)), z, channel_names=names, **more)


def test_a_number_that_means_another_channel_in_another_file_is_a_warning() -> None:
    one, other = header("Foo", "Bar"), header("Bar", "Foo")
    numbers = {"x": 0}
    assert seen_in(("A1", "x", one), ("A2", "x", one), numbers=numbers) == []
    assert seen_in(("A1", "x", one), ("A2", "x", other), numbers=numbers) == [kinds.CHANNEL_NAMES]


def test_a_number_that_the_file_calls_another_channel_is_a_warning() -> None:
    of_file = header("DAPI", "GFP")
    assert seen_in(("A1", "dna", of_file), ("A1", "gfp", of_file), numbers={"dna": 0, "gfp": 1}) == []
    assert seen_in(("A1", "dna", of_file), numbers={"dna": 1}) == [kinds.CHANNEL_NAMES]
    assert seen_in(("A1", "gfp", of_file), numbers={"gfp": 0}) == [kinds.CHANNEL_NAMES]


def test_projections_of_unlike_stacks_and_pixels_that_are_no_squares_are_warnings() -> None:
    assert seen_in(("A1", "x", header(z=3)), ("A2", "x", header(z=5)), z="max") == [kinds.Z_PLANES]
    assert seen_in(("A1", "x", header(extra={"pixel_sides_um": "0.5 x 1"}))) == [kinds.PIXEL_SHAPE]
