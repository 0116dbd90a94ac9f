"""Plates in every layout: right wells, sites, channels by name, z planes, time points, and the right pixels."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_up_plates import (
    LAYOUTS,
    SINGLE,
    SITES,
    STACKS,
    WELLS,
    Content,
    number,
    write_flat,
    write_harmony,
    write_imagexpress,
    write_tiff,
)

from cellssl.datasets.plates.file_names import read_names
from cellssl.datasets.plates.layout import Plane
from cellssl.datasets.plates.recognise import survey
from cellssl.errors import DataError, UsageError
from cellssl.images.reading import read_image
from cellssl.images.reference import ImageReference


def numbers_of(plane: Plane, root: Path, held: tuple[int, int]) -> dict[tuple[int, int], int]:
    """Return the pixels of a plane by z and t: one number, or one for each plane that its file holds."""
    found = {}
    for z, t in itertools.product(range(held[0]), range(held[1])):
        file, chosen_z, chosen_t = str(root / plane.file), z if held[0] > 1 else None, t if held[1] > 1 else None
        pixels = read_image(ImageReference((file,), plane.series, plane.in_file, z=chosen_z, t=chosen_t))
        assert len(np.unique(pixels)) == 1
        found[z, t] = int(pixels[0, 0])
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_plane_has_its_well_site_channel_z_and_t(layout: str, tmp_path: Path) -> None:
    write, content, pixel_um = LAYOUTS[layout]
    write(tmp_path, content)
    found = survey(tmp_path)
    assert sorted(found.channel_names) == sorted(content.channels)
    assert (found.z_planes, found.time_points) == (content.z_planes, content.time_points)
    assert found.pixel_um() == ([pytest.approx(pixel_um)] if pixel_um else [])
    assert {(well, site) for _, _, well, site in found.fields} == set(itertools.product(WELLS, SITES))
    assert not found.incomplete
    read = set()
    for one in found.found:
        first_z, first_t = min(plane.z for plane in one.planes), min(plane.t for plane in one.planes)
        for plane in one.planes:
            channel = content.channels.index(plane.channel)
            for (z, t), seen in numbers_of(plane, tmp_path, one.held).items():
                place = (plane.well, plane.site, channel, z + plane.z - first_z, t + plane.t - first_t)
                assert seen == number(*place)
                read.add(place)
    assert read == set(content.planes())


def test_thumbnails_corrections_and_projections_are_left_out_and_counted(tmp_path: Path) -> None:
    write_imagexpress(tmp_path, Content(z_planes=2))
    write_tiff(tmp_path / "TimePoint_1" / "plate1_B02_s1_w1.tif", np.zeros((24, 32), np.uint16))
    left_out = {reason: len(files) for reason, files in survey(tmp_path).left_out.items()}
    assert left_out == {"thumbnails": 16, "projections": 1}


def test_what_is_made_of_images_is_left_out(tmp_path: Path) -> None:
    write_flat(tmp_path, "{well}_s{site}_{channel}.tif", SINGLE)
    for name in ("B02_s1_DAPI_cp_masks.tif", "MAX_B02_s1_DAPI.tif", "Illum/illum_DAPI.tif", "._B02_s1_DAPI.tif"):
        write_tiff(tmp_path / name, np.zeros((24, 32), np.uint16))
    (tmp_path / "C05_s9_DAPI.tif").touch()
    found = survey(tmp_path)
    assert len(found.fields) == 4
    assert sorted(map(len, found.left_out.values())) == [1, 1, 1, 1, 1]


def test_a_folder_of_projections_alone_is_taken(tmp_path: Path) -> None:
    write_flat(tmp_path, "MAX_{well}_s{site}_{channel}.tif", SINGLE)
    found = survey(tmp_path)
    assert len(found.fields) == 4
    assert any("look like projections" in doubt for doubt in found.doubts)


def test_two_measurements_of_a_plate_are_batches(tmp_path: Path) -> None:
    for measurement in (1, 2):
        write_harmony(tmp_path, SINGLE, measurement=measurement)
    found = survey(tmp_path)
    assert len(found.fields) == 8
    assert {batch for _, batch, _, _ in found.fields} == {
        "2020-03-01T05:06:07 Measurement 1",
        "2020-03-02T05:06:07 Measurement 2",
    }


def test_folders_are_plates_where_names_repeat(tmp_path: Path) -> None:
    for plate in ("run 1/P#1", "run 1/P ü"):
        write_flat(
            tmp_path / plate, "Week1_{well}_s{site}_w{wave}" + "0A1B2C3D-1111-2222-3333-444455556666.tif", SINGLE
        )
    assert survey(tmp_path).plates() == ["run 1_P ü", "run 1_P#1"]


def test_a_missing_image_makes_its_field_incomplete(tmp_path: Path) -> None:
    folder = write_harmony(tmp_path, STACKS)
    next(folder.glob("Images/r02c02f01p02-ch2*")).unlink()
    found = survey(tmp_path)
    assert list(found.incomplete) == [("BR1", "", "B02", 1)]
    assert any("1 of 24 image files" in doubt for doubt in found.doubts)


def test_a_damaged_index_is_said_and_names_are_used(tmp_path: Path) -> None:
    folder = write_harmony(tmp_path, SINGLE)
    (folder / "Images" / "Index.idx.xml").write_text("<EvaluationInputData><Images><Image>")
    found = survey(tmp_path)
    assert any("cannot be read" in doubt and "file names are used" in doubt for doubt in found.doubts)
    assert found.channel_names == ["ch1", "ch2"]
    assert len(found.fields) == 4


def test_small_images_of_8_bits_are_thumbnails_whatever_they_are_called(tmp_path: Path) -> None:
    write_flat(tmp_path, "{well}_s{site}_{channel}.tif", SINGLE)
    for well in WELLS:
        write_tiff(tmp_path / f"{well}_s1_small.tif", np.zeros((6, 8), np.uint8))
        write_tiff(tmp_path / f"{well}_s3_DAPI.tif", np.zeros((24, 32), np.uint16))
    found = survey(tmp_path)
    assert found.channel_names == ["Actin", "DAPI"]
    assert len(found.left_out["thumbnails"]) == 2
    assert list(found.incomplete.values()) == ["no image of actin"] * 2


def test_pages_without_a_meaning_are_said(tmp_path: Path) -> None:
    for well in WELLS:
        tifffile.imwrite(tmp_path / f"{well}.tif", np.zeros((3, 24, 32), np.uint16), photometric="minisblack")
    found = survey(tmp_path)
    assert found.channel_names == ["page_0", "page_1", "page_2"]
    assert any("do not say what they are" in doubt for doubt in found.doubts)


def test_a_pattern_can_be_given(tmp_path: Path) -> None:
    write_flat(tmp_path, "{channel}@x-{site}{{}}{well}.tif", SINGLE)
    found = survey(tmp_path, "{channel}@x-{site}{any}{well}.tif")
    assert (sorted(found.channel_names), len(found.fields)) == (["Actin", "DAPI"], 4)
    with pytest.raises(UsageError, match="no image is called like"):
        survey(tmp_path, "{well}_{channel}.tif")
    with pytest.raises(UsageError, match="not a part of a name"):
        survey(tmp_path, "{wel}.tif")


def test_links_that_lead_back_end(tmp_path: Path) -> None:
    write_flat(tmp_path / "P1", "{well}_s{site}_{channel}.tif", SINGLE)
    (tmp_path / "P1" / "loop").symlink_to(tmp_path)
    assert len(survey(tmp_path).fields) == 4


def test_folders_without_images_say_what_they_hold(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it holds nothing"):
        survey(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "a.vsi").write_text("x")
    with pytest.raises(DataError, match="Olympus VSI, which is not read"):
        survey(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        survey(tmp_path / "notes.txt")


def test_plates_with_different_stains_share_what_they_have_in_common(tmp_path: Path) -> None:
    write_harmony(tmp_path, SINGLE, plate="A")
    write_harmony(tmp_path, Content(channels=("DAPI", "RNA")), plate="B")
    found = survey(tmp_path)
    assert (found.channels, len(found.fields), found.incomplete) == (["dapi"], 8, {})
    assert any("not in the recipe: Actin, RNA" in doubt for doubt in found.doubts)


def test_copies_of_files_are_no_fields_and_no_measurements(tmp_path: Path) -> None:
    write_flat(tmp_path, "{well}_s{site}_{channel}.tif", SINGLE)
    for name in ("B02_s1_DAPI (1).tif", "b2_s1_DAPI.tif"):
        write_tiff(tmp_path / name, np.zeros((24, 32), np.uint16))
    found = survey(tmp_path)
    assert (len(found.fields), found.incomplete) == (4, {})
    assert {reason: len(files) for reason, files in found.left_out.items()} == {
        "copies that a file manager made": 1,
        "second files of one field and channel": 1,
    }


def parts_of(*files: str) -> list[dict[str, str]]:
    """What each name says, in the order of the names."""
    (found, *_), _ = read_names(files)
    return [found.parts[file] for file in files]


def test_p_before_a_well_is_its_plate_and_after_it_a_position() -> None:
    before = parts_of("P1-A01-f1-DAPI.tif", "P1-A01-f2-DAPI.tif", "P2-B01-f1-DAPI.tif")
    after = parts_of("A01-p1-DAPI.tif", "A01-p2-DAPI.tif", "B01-p1-DAPI.tif")
    assert [(one["plate"], one["well"], one["site"]) for one in before] == [
        ("P1", "A01", "1"),
        ("P1", "A01", "2"),
        ("P2", "B01", "1"),
    ]
    assert [(one["well"], one["site"]) for one in after] == [("A01", "1"), ("A01", "2"), ("B01", "1")]


def test_a_folder_that_names_well_and_site_is_surer_than_the_position_in_the_file_name() -> None:
    name = "img_channel000_position000_time000000000_z000.tif"
    found = parts_of(f"A01-Site_0/{name}", f"A01-Site_1/{name}", f"B02-Site_0/{name}")
    assert [(one["well"], one["site"]) for one in found] == [("A01", "0"), ("A01", "1"), ("B02", "0")]
