"""What a table of images and a plate map say of fields: treatments, controls, plates and planes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from cellssl.datasets.base import Field
from cellssl.datasets.image_table import Settings
from cellssl.errors import CellsslError, DataError, UsageError

HEADER = "plate,well,site,compound,dose,kind,file"
COLUMNS = {"plate": "plate", "well": "well", "site": "site", "compound": "compound", "dose_micromolar": "dose"}


def dataset(folder: Path, text: str = "", **values: Any) -> Settings:
    """Write a table, its header first where it begins with none, and return the data set."""
    if text:
        (folder / "plate.csv").write_text(text if "file" in text.splitlines()[0] else f"{HEADER}\n{text}", "utf-8")
    given = {"channels": {"dna": "file"}, "columns": COLUMNS, "table": str(folder / "plate.csv"), **values}
    return Settings.model_validate(given)


def planned(given: Settings) -> list[Field]:
    return given.plan(Path("/not/there"))


def said(given: Settings, controls: tuple[str, ...] = ("DMSO",)) -> str:
    return " ".join(map(str, given.remarks(controls)))


def fault_of(given: Settings) -> CellsslError:
    with pytest.raises((DataError, UsageError)) as caught:
        planned(given)
    return caught.value


WELLS = "P1,A1,1,,,,a.tif\nP1,B02,1,,,,b.tif\nP2,A1,1,,,,c.tif\n"
NO_TREATMENT = {"plate": "plate", "well": "well", "site": "site"}


def with_map(folder: Path, text: str, table: str = WELLS, **values: Any) -> Settings:
    (folder / "map.csv").write_text(text, encoding="utf-8")
    return dataset(folder, table, **{"columns": NO_TREATMENT, "platemap": str(folder / "map.csv"), **values})


def test_a_plate_map_is_joined_by_the_well_on_every_plate(tmp_path: Path) -> None:
    given = with_map(tmp_path, "Well,Compound,Dose\nA01,taxol,3\nb2,DMSO,0\nC07,x,1\n")
    treatments = [(field.plate, field.well, field.compound, field.dose_micromolar) for field in planned(given)]
    assert treatments == [("P1", "A1", "taxol", 3.0), ("P1", "B02", "DMSO", 0.0), ("P2", "A1", "taxol", 3.0)]
    assert "wells of the plate map without an image (1 of 3): C07" in said(given)


def test_a_plate_map_with_plates_is_joined_by_both(tmp_path: Path) -> None:
    given = with_map(tmp_path, "Plate,Well,Compound\nP1,A01,taxol\nP2,A1,DMSO\nP3,A1,x\n")
    assert [field.compound for field in planned(given)] == ["taxol", None, "DMSO"]
    assert "no entry for 1 of 3 wells with images: P1 B02" in said(given)
    warnings = [remark for remark in given.remarks() if remark.kind == "warning"]
    assert warnings[0].items == ("P1 B02",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "Plate,Well,Compound\nQ1,A01,x\nQ2,A01,x\n",
            "has the plates Q1, Q2, and the images are of P1, P2",
        ),
        ("Well,Compound\nH12,x\n", "no well of the images is in the plate map map.csv"),
        ("Well,Compound\nA1,x\nA01,y\n", "compound of well A01 twice"),
    ],
)
def test_a_plate_map_of_other_plates_or_wells_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    assert sentence in fault_of(with_map(tmp_path, text)).message


def test_a_table_and_a_plate_map_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    table = "P1,A1,1,taxol,3,,a.tif\nP1,B2,1,,,,b.tif\n"
    agreed = with_map(tmp_path, "Well,Compound,Dose\nA1,taxol,3\nB2,DMSO,0\n", table, columns=COLUMNS)
    assert [field.compound for field in planned(agreed)] == ["taxol", "DMSO"]
    fault = fault_of(with_map(tmp_path, "Well,Compound,Dose\nA1,taxol,10\nB2,x,0\n", table, columns=COLUMNS))
    assert "dose 3.0 (line 2) and 10.0" in fault.message


def test_a_plate_map_that_changes_changes_the_treatments(tmp_path: Path) -> None:
    given = with_map(tmp_path, "Well,Compound\nA1,old-compound\n")
    assert planned(given)[0].compound == "old-compound"
    (tmp_path / "map.csv").write_text("Well,Compound\nA1,new\n", encoding="utf-8")
    assert planned(given)[0].compound == "new"
    assert given.external_files()["platemap"] == tmp_path / "map.csv"


def test_a_well_without_a_compound_is_its_solvent_and_no_control_by_itself(tmp_path: Path) -> None:
    (tmp_path / "plate.csv").write_text("plate,well,site,compound,solvent,file\nP,A1,1,x,DMSO,a\nP,A2,1,,DMSO,b\n")
    plain = dataset(tmp_path)
    columns = {"plate": "plate", "well": "well", "site": "site", "compound": "compound"}
    unnamed, named = (dataset(tmp_path, columns={**columns, **more}) for more in ({}, {"solvent": "solvent"}))
    assert [field.compound for field in planned(unnamed)] == ["x", None]
    assert 'if they are controls: columns.solvent = "solvent"' in said(unnamed)
    assert [field.compound for field in planned(named)] == ["x", "DMSO"]
    assert "1 well without a compound" not in said(unnamed, ("",)) and plain.columns.solvent is None


def test_a_solvent_that_is_no_control_is_said(tmp_path: Path) -> None:
    given = dataset(tmp_path, "P,A1,1,water,,,a\nP,A2,1,dmso,,,b\nP,A3,1,x,,,c\n")
    assert "no controls here: 'water';" in said(given)
    assert "no controls here" not in said(given, ("DMSO", "water"))


def test_types_of_wells_decide_and_contradictions_are_said(tmp_path: Path) -> None:
    table = "P,A1,1,LacZ,,negcon,a\nP,A2,1,DMSO,,trt,b\nP,A3,1,,,empty,c\nP,A4,1,x,,edge,d\n"
    given = dataset(tmp_path, table, columns={**COLUMNS, "control_type": "kind"})
    assert [field.control_type for field in planned(given)] == ["negative", "treatment", "empty", None]
    assert "P A2 (DMSO, treatment)" in said(given) and "'edge', which is no known type" in said(given)
    assert "without a compound" not in said(given)


def test_near_doses_are_one_and_other_plates_keep_their_rows(tmp_path: Path) -> None:
    table = "P1,A1,1,x,5.0,,a\nP1,A2,1,x,4.9709549833322875,,b\nP2,A1,1,x,5,,c\nP2,A2,1,y,4.97,,d\n"
    given = dataset(tmp_path, table)
    fields = planned(given)
    assert [field.dose_micromolar for field in fields] == [5.0, 5.0, 5.0, 4.97]
    assert [field.extra for field in fields[:2]] == [{"dose_dispensed": 5.0}, {"dose_dispensed": 4.9709549833322875}]
    apart = planned(dataset(tmp_path, dose_tolerance=0.0))
    assert [field.row() for field in fields[2:]] == [field.row() for field in apart[2:]]
    assert "x: 5 uM for 4.9709549833322875, 5.0" in said(given)
    assert "table as read" in given.external_files()


def test_a_table_that_needs_no_change_has_the_roles_that_it_always_had(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    given = dataset(tmp_path, "P1,A1,1,x,5.0,,a.tif\n")
    assert list(given.external_files()) == ["table", "P1_A1_s1/dna"]
    assert "control_type" not in planned(given)[0].row() and said(given) == ""


def test_one_well_in_several_forms_is_one_well_and_its_fields_stay_apart(tmp_path: Path) -> None:
    rows = "".join(f"P1,{well},{site},,,,{well}\n" for well, site in (("A1", 1), ("a01", 2), ("B2", 1), ("B02", 1)))
    given = dataset(tmp_path, rows)
    assert [field.field_id for field in planned(given)] == ["P1_A01_s1", "P1_A01_s2", "P1_B02_s1", "P1_B02_s2"]
    assert "A01" in said(given) and "P1 B02 site 1: 2" in said(given)


def test_an_ome_zarr_image_on_a_server_is_refused_with_the_cure(tmp_path: Path) -> None:
    fault = fault_of(dataset(tmp_path, "P,A1,1,,,,https://example.org/p.zarr/A/1/0\n"))
    assert "is an OME-Zarr image on a server" in fault.message and "copy its folder" in fault.hint


@pytest.mark.parametrize("columns", [{"row": "r", "column": "c"}, {"well": ["r", "c"]}])
def test_a_well_may_stand_in_two_columns(columns: dict[str, Any], tmp_path: Path) -> None:
    given = dataset(tmp_path, "r,c,file\n2,3,a\nC,04,b\n", columns=columns)
    assert [field.well for field in planned(given)] == ["B03", "C04"]
    assert "'0', '3' (line 2)" in fault_of(dataset(tmp_path, "r,c,file\n0,3,a\n", columns=columns)).message


def test_a_plate_that_was_measured_twice_is_two_plates(tmp_path: Path) -> None:
    table = "plate,well,site,batch,file\nP1,A1,1,mon day,a\nP1,A1,1,tue,b\nP2,A1,1,mon day,c\n"
    given = dataset(tmp_path, table, columns={**NO_TREATMENT, "batch": "batch"})
    assert [field.plate for field in planned(given)] == ["P1_mon-day", "P1_tue", "P2"]
    assert "every measurement counts as a plate: P1" in said(given)


def test_all_sites_that_are_no_numbers_are_listed(tmp_path: Path) -> None:
    fault = fault_of(dataset(tmp_path, "P,A1,1,,,,a\nP,A2,IXMtest,,,,b\nP,A3,20585/,,,,c\n"))
    assert "'IXMtest'" in fault.message and "'20585/' (line 4)" in fault.message


def test_folders_and_plate_maps_given_as_tables_are_named_with_the_cure(tmp_path: Path) -> None:
    assert "cellssl init" in fault_of(dataset(tmp_path, table=str(tmp_path))).hint
    (tmp_path / "plate.csv").write_text(",1,2,3\nA,x,y,z\nB,x,y,z\n", encoding="utf-8")
    assert 'platemap = "plate.csv"' in fault_of(dataset(tmp_path)).hint
    (tmp_path / "plate.csv").write_text("Plate 7,,,\n,,,\n,1,2,3\nA,x,y,z\nB,x,y,z\n", encoding="utf-8")
    assert 'platemap = "plate.csv"' in fault_of(dataset(tmp_path)).hint


def test_paths_of_windows_need_a_prefix_and_find_their_files_with_it(tmp_path: Path) -> None:
    given = dataset(tmp_path, "P,A1,1,,,,D:\\Screen\\P1\\a.tif\n")
    assert 'paths = { "D:/Screen/P1" = "/folder/here" }' in fault_of(given).hint
    mapped = dataset(tmp_path, paths={"d:/screen": str(tmp_path)})
    assert planned(mapped)[0].images == {"dna": str(tmp_path / "P1/a.tif")}


# ------------------------------------------------------------ planes

PLANES = "well,site,z,t,file\n" + "".join(f"A1,1,{z},{t},t{t}_z{z}.tif\n" for t in (1, 2) for z in (10, 9, 8))
PLANE_COLUMNS = {"well": "well", "site": "site", "z": "z", "t": "t"}


def planes(folder: Path, text: str = PLANES, **values: Any) -> Settings:
    return dataset(folder, text, columns=PLANE_COLUMNS, **values)


def test_the_planes_of_a_field_are_one_stack_in_the_order_of_z(tmp_path: Path) -> None:
    (field,) = planned(planes(tmp_path, z="max", t="first"))
    files = ", ".join(f'"{tmp_path}/t1_z{z}.tif"' for z in (8, 9, 10))
    assert field.images["dna"] == f'{{"files": [{files}], "z": "max"}}'


def test_a_plane_that_is_chosen_by_its_number_is_a_plain_file(tmp_path: Path) -> None:
    (field,) = planned(planes(tmp_path, z=9, t=2))
    assert field.images == {"dna": f"{tmp_path}/t2_z9.tif"}
    assert "has no z plane 3: 8, 9, 10" in fault_of(planes(tmp_path, z=3, t="first")).message
    assert "has no time point 5: 1, 2" in fault_of(planes(tmp_path, z="max", t=5)).message


def test_every_time_point_may_be_a_field_of_its_own(tmp_path: Path) -> None:
    fields = planned(planes(tmp_path, z=8, t="all"))
    assert [(field.field_id, field.extra) for field in fields] == [
        ("plate_A1_s1_t1", {"time_point": 1}),
        ("plate_A1_s1_t2", {"time_point": 2}),
    ]


def test_several_planes_or_time_points_without_a_choice_are_refused_with_the_line(tmp_path: Path) -> None:
    assert 't = "first"' in fault_of(planes(tmp_path, z="max")).hint
    assert 'z = "max"' in fault_of(planes(tmp_path, t="first")).hint


def test_a_plane_given_twice_is_refused_and_a_missing_one_is_said(tmp_path: Path) -> None:
    twice = PLANES + "A1,1,z8,1,again.tif\n"
    assert "are the same plane of field plate_A1_s1" in fault_of(planes(tmp_path, twice, z="max", t=1)).message
    more = "".join(f"A{well},1,{z},1,x{z}.tif\n" for well in (2, 3) for z in (1, 2, 3) if (well, z) != (3, 2))
    given = planes(tmp_path, PLANES + more, z="max", t=1)
    assert "1 field with other than the 3 z planes of most fields: plate_A3_s1 (2)" in said(given)


def test_rows_of_one_field_with_two_pixel_sizes_are_refused(tmp_path: Path) -> None:
    table = 'well,site,z,um,file\nA1,1,1,0.5,a\nA1,1,2,"0,6",b\n'
    columns = {"well": "well", "site": "site", "z": "z", "pixel_um": "um"}
    assert "differ in pixel_um" in fault_of(dataset(tmp_path, table, columns=columns, z="max")).message


def test_a_channel_is_a_name_a_number_or_a_page_of_its_file(tmp_path: Path) -> None:
    channels = {
        "dna": {"column": "file", "channel": "DAPI"},
        "actin": {"column": ["folder", "file"], "page": "Frame_actin"},
        "whole": {"column": "file"},
    }
    table = "folder,Frame_actin,Series_actin,file\nx,2,0,a.tif\n"
    (field,) = planned(dataset(tmp_path, table, channels=channels, columns={"series": "Series_actin"}, z="max", t=0))
    assert field.images == {
        "dna": f'{{"channel": "DAPI", "files": ["{tmp_path}/a.tif"], "series": 0, "t": 0, "z": "max"}}',
        "actin": f'{{"files": ["{tmp_path}/x/a.tif"], "page": 2, "series": 0}}',
        "whole": f'{{"files": ["{tmp_path}/a.tif"], "series": 0, "t": 0, "z": "max"}}',
    }


def test_a_channel_given_by_its_column_alone_counts_as_it_always_did(tmp_path: Path) -> None:
    (tmp_path / "plate.csv").write_text("file\na.tif\n")
    given = [dataset(tmp_path, columns={}, channels={"dna": one}) for one in ("file", ["file"], {"column": "file"})]
    assert [one.fingerprint_values() for one in given] == [{"channels": [["dna", ["file"]]]}] * 3


def test_the_time_points_of_files_are_counted_by_their_headers(tmp_path: Path) -> None:
    stack = np.zeros((3, 2, 8, 8), np.uint16)
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata={"axes": "TCYX"}, ome=True)
    channels = {"dna": {"column": "file", "channel": 0}, "actin": {"column": "file", "channel": 1}}
    fields = planned(dataset(tmp_path, "file\na.ome.tif\n", columns={}, channels=channels, t="all"))
    assert [field.field_id for field in fields] == [f"plate_all_s1_t{time}" for time in range(3)]
    assert '"channel": 1' in fields[2].images["actin"] and '"t": 2' in fields[2].images["actin"]


DOUBTFUL = {
    "P1,A1,1,x,1,,a\nP1,A1,2,y,1,,b\n": "1 well with several compounds or doses: P1 A01 (x 1 uM and y 1 uM)",
    "P1,B2,1,x,1,,a\nP1,B02,2,x,3,,b\n": "1 well with several compounds or doses: P1 B02 (x 1 uM and x 3 uM)",
    "P1,A1,1,x,,negcon,a\nP1,A2,1,x,,trt,b\n": "compounds of several types of wells",
    "P1,A1,1,DMSO,,TRUE,a\nP1,A2,1,taxol,3,TRUE,b\n": "whose compound has no usual name of one (1): taxol",
}


@pytest.mark.parametrize("text", DOUBTFUL)
def test_wells_and_types_that_contradict_each_other_are_said(text: str, tmp_path: Path) -> None:
    given = dataset(tmp_path, text, columns={**COLUMNS, "control_type": "kind"})
    assert DOUBTFUL[text] in said(given)


@pytest.mark.parametrize("text", ["Well,Foo\nA1,x\nB2,y\n", "Well,Compound 1,Dose 1\nA1,x,1\nB2,y,2\n"])
def test_a_map_without_a_compound_is_said_with_the_setting_that_names_it(text: str, tmp_path: Path) -> None:
    sentence = said(with_map(tmp_path, text))
    assert "gives no compound" in sentence
    assert f'platemap_columns = {{ compound = "{text.splitlines()[0].split(",")[1]}" }}' in sentence


def test_plates_without_a_sheet_are_listed(tmp_path: Path) -> None:
    given = with_map(tmp_path, "P1,,\n,1,2\nA,x,y\nB,x,y\n,,\nP3,,\n,1,2\nA,z,z\nB,z,z\n")
    assert [field.compound for field in planned(given)] == ["x", "y", None]
    assert "1 plate without a plate map in map.csv: P2" in said(given) and "left out (1): 'P3'" in said(given)


def test_batches_that_would_make_one_plate_are_refused(tmp_path: Path) -> None:
    table = "plate,well,site,week,file\nP,A1,1,w 1,a\nP,A1,1,w-1,b\n"
    columns = {"plate": "plate", "well": "well", "site": "site", "batch": "week"}
    assert (
        "'w 1' and 'w-1' of one plate would get one name" in fault_of(dataset(tmp_path, table, columns=columns)).message
    )
