"""What indexes and tables leave in doubt is kept apart and said: planes per channel, names twice, numbers of sites."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from made_up_plates import Content, write_flat, write_tiff

from cellssl.datasets.plates.folder import Listing, list_folder
from cellssl.datasets.plates.headers import Headers
from cellssl.datasets.plates.layout import Found, Plane
from cellssl.datasets.plates.loaddata import recognise_loaddata
from cellssl.datasets.plates.recognise import Survey, _leave_out_repeats, _separate_measurements, survey
from cellssl.errors import DataError


def surveyed(*planes: Plane) -> Survey:
    """What was found in a folder with these planes."""
    return Survey(Path("plate"), [Found("TIFF", list(planes))], {}, [], [])


def plane(channel: str, site: int = 1, z: int = 0, t: int = 0) -> Plane:
    return Plane(f"{channel}{site}{z}{t}.tif", "P", "A01", site, channel, z=z, t=t)


def test_channels_may_have_different_numbers_of_z_planes() -> None:
    planes = [plane("dapi", site, z) for site in (1, 2) for z in (1, 2, 3)]
    found = surveyed(*planes, plane("gfp", 1, 1), plane("gfp", 2, 1))
    assert (found.incomplete, found.time_point) == ({}, None)


def test_the_time_point_that_is_taken_has_all_channels() -> None:
    found = surveyed(*(plane("dapi", site, t=t) for site in (1, 2) for t in (1, 2)), plane("gfp", 1, t=2))
    assert found.channels == ["dapi", "gfp"]
    assert found.time_point == 2
    assert found.incomplete == {("P", "", "A01", 2): "no image of gfp"}


def write_table(path: Path, *lines: str, images: tuple[str, ...] = ()) -> None:
    """Write a LoadData table, and images beside it; the pixels of an image are its number."""
    for number, image in enumerate(images):
        write_tiff(path.parent / image, np.full((24, 32), number, np.uint16))
    path.write_text("\n".join(lines) + "\n")


def of_tables(folder: Path) -> list[tuple[object, ...]]:
    """Plate, well, site, z, channel and file of every plane in the tables of a folder."""
    planes = [plane for one in recognise_loaddata(list_folder(folder), Headers(folder)) for plane in one.planes]
    return [(one.plate, one.well, one.site, one.z, one.channel, one.file) for one in planes]


@pytest.mark.parametrize("name", ["Metadata_Position", "Metadata_FOV", "Metadata_FieldIndex", "Image_Metadata_Field"])
def test_names_of_site_columns_are_known(name: str, tmp_path: Path) -> None:
    lines = (f"Metadata_WellName,{name},Metadata_ZPos,FileName_D", "A1,f01,-1.5,a.tif", "A1,f02,3,b.tif")
    write_table(tmp_path / "p.csv", *lines, images=("a.tif", "b.tif"))
    assert of_tables(tmp_path) == [("p", "A01", 1, 1, "D", "a.tif"), ("p", "A01", 2, 2, "D", "b.tif")]


def test_rows_that_nothing_known_tells_apart_are_refused(tmp_path: Path) -> None:
    lines = ("Metadata_Well,Metadata_Odd,FileName_D", "A1,p,a.tif", "A1,q,b.tif")
    write_table(tmp_path / "p.csv", *lines, images=("a.tif", "b.tif"))
    with pytest.raises(DataError, match="lines 2 and 3 are both plate p, well A01, site 1") as raised:
        survey(tmp_path)
    assert "rename Metadata_Odd" in (raised.value.hint or "")


def test_a_list_that_is_given_twice_is_read_once(tmp_path: Path) -> None:
    lines = ("Metadata_Well,PathName_D,FileName_D", "A1,Z:\\x,a.tif", "A2,Z:\\x,b.tif")
    write_table(tmp_path / "load_data.csv", *lines, images=("a.tif", "b.tif"))
    illum = (
        line.replace("Z:\\", "/mnt/") + f",{more}"
        for line, more in zip(lines, ("FileName_IllumD", "i", "i"), strict=True)
    )
    write_table(tmp_path / "load_data_with_illum.csv", *illum)
    found = survey(tmp_path)
    assert (len(found.fields), {batch for _, batch, _, _ in found.fields}) == (2, {""})
    assert any("read once" in doubt for doubt in found.doubts)


def test_rows_of_a_plate_that_is_not_there_take_no_images_of_another(tmp_path: Path) -> None:
    lines = ("Metadata_Plate,Metadata_Well,PathName_D,FileName_D", "P1,A1,/d/P1,a.tif", "P2,A1,/d/P2,a.tif")
    write_table(tmp_path / "P1" / "list.csv", *lines, images=("a.tif",))
    assert of_tables(tmp_path) == [("P1", "A01", 1, 0, "D", "P1/a.tif"), ("P2", "A01", 1, 0, "D", "")]


def test_a_table_of_another_plate_alone_takes_no_images(tmp_path: Path) -> None:
    lines = ("Metadata_Plate,Metadata_Well,PathName_D,FileName_D", "P2,A1,/d/P2,A1_s1_D.tif")
    write_tiff(tmp_path / "P1" / "A1_s1_D.tif", np.zeros((24, 32), np.uint16))
    write_table(tmp_path / "list.csv", *lines)
    found = survey(tmp_path)
    assert found.plates() == ["P1"]
    assert any("folders of other plates" in doubt for doubt in found.doubts)


def test_a_table_without_wells_does_not_hide_the_names_of_files(tmp_path: Path) -> None:
    write_flat(tmp_path, "{well}_s{site}_{channel}.tif", Content())
    write_table(tmp_path / "Image.csv", "ImageNumber,FileName_D", "1,B02_s1_DAPI.tif", "2,B02_s2_DAPI.tif")
    found = survey(tmp_path)
    assert (len(found.fields), found.channel_names) == (4, ["Actin", "DAPI"])
    assert any("names no wells" in doubt for doubt in found.doubts)


def test_frames_are_channels_of_their_files(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 24, 32), np.uint16), photometric="minisblack")
    write_table(tmp_path / "p.csv", "Metadata_Well,FileName_D,Frame_D,FileName_E,Frame_E", "A1,a.tif,1,a.tif,0")
    assert {(one.channel, one.in_file, one.is_page) for one in survey(tmp_path).planes} == {
        ("d", 1, True),
        ("e", 0, True),
    }


def measured(plate: str, folder: str, well: str, batch: str = "", name: str = "Harmony") -> Found:
    """A measurement of one well."""
    return Found(name, [Plane(f"{folder}/{well}.tif", plate, well, 1, "D", batch)], folder=folder)


def test_plates_of_one_name_in_two_folders_are_kept_apart() -> None:
    found = [measured("P", "X", "A01"), measured("P", "Y", "A02")]
    _separate_measurements(found)
    assert [one.planes[0].plate for one in found] == ["X", "Y"]
    found = [measured("P", "X", "A01", name="ImageXpress"), measured("P", "Y", "A02", name="ImageXpress")]
    _separate_measurements(found)
    assert [one.planes[0].field[:2] for one in found] == [("P", "X"), ("P", "Y")]
    assert "different wells" in found[0].doubts[0]


def test_acquisitions_of_one_plate_are_batches_whatever_their_sites() -> None:
    planes = [Plane(f"{n}", "P", "A01", n, "D", f"acquisition {n % 2}") for n in (1, 2)]
    found = Found("OME-Zarr", planes)
    _separate_measurements([found])
    assert [plane.batch for plane in found.planes] == ["acquisition 1", "acquisition 0"]
    assert "kept apart" in found.doubts[0]


def test_planes_that_an_index_lists_twice_are_said_and_counted(tmp_path: Path) -> None:
    found = Found("Harmony", [Plane(file, "P", "A01", 1, "D") for file in ("a.tif", "b.tif", "a.tif")])
    listing = Listing(tmp_path)
    _leave_out_repeats([found], listing)
    assert ([plane.file for plane in found.planes], len(found.doubts)) == (["a.tif"], 1)
    assert sum(map(len, listing.left_out.values())) == 1
