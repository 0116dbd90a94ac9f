"""What names of files, folders and positions say: wells, sites, channels and plates, or nothing."""

from pathlib import Path

import numpy as np
import pytest
from made_up_plates import write_tiff

from cellssl.datasets.plates.by_name import _contradicting_series, _inside
from cellssl.datasets.plates.file_names import NamedFiles, is_channel_folder, read_names
from cellssl.datasets.plates.headers import Kind
from cellssl.datasets.plates.layout import Plane, well_in, wells_in
from cellssl.datasets.plates.recognise import Survey, survey
from cellssl.errors import DataError


@pytest.mark.parametrize(
    ("text", "well"),
    [
        *dict.fromkeys(
            ("Position 1", "Image1", "Scene 1", "Stage1", "field 1", "ctrl1", "A01 B02", "Group_B_2")
        ).items(),
        *(
            (text, "A01")
            for text in ("Row:A,Column:1,Site:1", "A1-Site_0", "A/1", "TileScan 1/A/1/R1", "a01f02", "A-01")
        ),
        *((text, "B02") for text in ("P1_B02", "Well B2, field 3", "WellB02", "B2:F1", "row 2 col 2")),
        ("AF48_s1", "AF48"),
    ],
)
def test_a_text_names_a_well_only_as_a_word_of_its_own(text: str, well: str | None) -> None:
    assert well_in(text) == well


def test_positions_called_p1_and_p2_are_no_wells_of_row_p() -> None:
    assert wells_in(["P1", "P2"]) == [None, None]
    assert wells_in(["O1", "P1"]) == ["O01", "P01"]


def test_the_well_in_a_file_name_stands_against_the_names_of_images_in_it() -> None:
    inside = _inside(Plane("x", "P", "A01", -1, "dna"), Kind(series=2, series_wells=((0, "B02"), (1, "B03"))))
    assert [plane.well for plane in inside] == ["A01", "A01"]
    named = NamedFiles("{well}.czi", "", {"x": {"well": "A01"}})
    assert "x and B02 in it" in _contradicting_series(named, {"x": Kind(series_wells=((0, "B02"),))})[0]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("exp_A01_f1_w1 exp_A01_f2_w1 exp_B02_f1_w1", "- A01 1 w1"),
        ("exp_A01_p1_w1 exp_A01_p2_w1", "- A01 1 w1"),
        ("A01_F01_W1 A01_F02_W1", "- A01 01 W1"),
        ("R01C01_F01_W1 R01C02_F01_W1", "- A01 01 W1"),
        ("P1_A01_w1 P1_F01_w1", "P1 A01 - 1"),
        ("A-01_s1_DAPI B-02_s1_DAPI", "- A01 1 DAPI"),
        ("A_01_s1_DAPI A_01_s2_DAPI", "- A01 1 DAPI"),
        ("01A_s1_DAPI 02B_s1_DAPI", "- A01 1 DAPI"),
        ("A01_s1_Alexa-488 A01_s1_Alexa-568", "- A01 1 Alexa-488"),
        (
            "20200101_plateA_A01_1_DAPI 20200102_plateB_A01_1_DAPI 20200102_plateB_A01_2_DAPI",
            "20200101_plateA A01 1 DAPI",
        ),
        ("exp_rep1_A01_1_DAPI exp_rep2_A01_1_DAPI exp_rep2_A01_2_DAPI", "rep1 A01 1 DAPI"),
        ("P5_A01_1_DAPI P6_A01_1_DAPI P6_A01_2_DAPI", "P5 A01 1 DAPI"),
        ("A549_A01_s1_DAPI A549_B01_s1_DAPI A550_C01_s1_DAPI", "A549 A01 1 DAPI"),
        ("taxol_A01_s1_DAPI taxol_B01_s1_DAPI dmso_C01_s1_DAPI", "- A01 1 DAPI"),
        ("A01_488 A01_561", "- A01 - 488"),
        ("A549_B02_s1_DAPI A550_B02_s1_DAPI", "A549 B02 1 DAPI"),
        ("P1_A_1_1_DAPI P1_A_1_2_DAPI", "P1 A01 1 DAPI"),
        ("Plate1/A1/1/DAPI Plate1/A1/2/DAPI Plate1/B1/2/DAPI", "Plate1 A01 1 DAPI"),
        ("P1/A/1/field1/DAPI P1/A/1/field2/DAPI", "- A01 1 DAPI"),
        ("A/01/1_DAPI A/01/2_DAPI", "- A01 1 DAPI"),
        ("001001001_DAPI 001002001_DAPI", "- A01 001 DAPI"),
        ("002003004/DAPI 002003005/DAPI", "- B03 004 DAPI"),
        ("000000001_DAPI 000000002_DAPI", "- - 000000001 DAPI"),
        ("A1-Site_001_002/img_000000000_DAPI_000", "- A01 2002 DAPI"),
        ("1-Pos_001_002/img_000000000_DAPI_000", "- - 2002 DAPI"),
        ("e_MMStack_A1-Site_000_001.ome", "e A01 1001 -"),
        ("A1_P1_DAPI A1_P2_DAPI", "- A01 1 DAPI"),
        ("0007_A01_s1_DAPI 0008_A01_s2_DAPI 0009_B01_s1_DAPI 0010_B01_s2_DAPI", "- A01 1 DAPI"),
    ],
)
def test_names_say_plate_well_site_and_channel_and_no_time(names: str, said: str) -> None:
    files = [f"{name}.tif" for name in names.split()]
    (found,), others = read_names(files)
    parts = found.parts[files[0]]
    assert " ".join(parts.get(role, "-") for role in ("plate", "well", "site", "channel")) == said
    assert int(parts.get("t", "0")) == 0
    assert not others


def test_folders_are_channels_only_if_all_of_their_words_are() -> None:
    assert all(map(is_channel_folder, ("DAPI", "Phase", "Alexa 488", "Channel_1", "Cy5 images")))
    assert not any(map(is_channel_folder, ("P1_DAPI", "C1", "plate", "488", "T1")))


def surveyed(root: Path, *names: str, pattern: str | None = None) -> Survey:
    """Recognise a folder with so many small images."""
    for name in names:
        write_tiff(root / name, np.zeros((24, 32), np.uint16))
    return survey(root, pattern)


def said_by(found: Survey) -> tuple[list[str], int, list[str]]:
    return found.plates(), len(found.fields), found.channels


def test_folders_of_fields_and_channels_are_no_plates(tmp_path: Path) -> None:
    name = "image--L0000--S00--U00--V00--J08--X0{0}--Y00--T0000--Z00--C00.ome.tif"
    tree = "slide--S00/chamber--U00--V00/field--X0{0}--Y00/" + name
    leica = surveyed(tmp_path / "leica", *(tree.format(x) for x in (0, 1)))
    assert said_by(leica) == (["leica"], 2, ["ch0"])
    phase = surveyed(tmp_path / "phase", *(f"{c}/P_A{n}_1_00d00h00m.tif" for c in ("Phase", "Green") for n in (1, 2)))
    assert said_by(phase) == (["P"], 2, ["green", "phase"])
    yokogawa = [f"{c}/A0{n}_T0001F001L01A01Z01C01.tif" for c in ("DAPI", "GFP") for n in (1, 2)]
    assert said_by(surveyed(tmp_path / "cv", *yokogawa)) == (["cv"], 2, ["dapi", "gfp"])


def test_metamorph_stages_are_wells_only_if_their_names_are(tmp_path: Path) -> None:
    stages = ("Row:A,Column:1,Site:1", "Position1", "ctrl1")
    lines = [f'"Stage{number}", "{name}"' for number, name in enumerate(stages, start=1)]
    tmp_path.joinpath("run.nd").write_text("\n".join(('"NStagePositions", 3', *lines, '"EndFile"')))
    for number in (1, 2, 3):
        write_tiff(tmp_path / f"run_s{number}.tif", np.zeros((24, 32), np.uint16))
    found = survey(tmp_path)
    assert [(well, site) for _, _, well, site in found.fields] == [("A01", 1), ("run", 1), ("run", 2)]
    assert any("2 of 3 stage positions" in doubt and "'Position1'" in doubt for doubt in found.doubts)


def test_folders_called_p1_and_p2_are_plates(tmp_path: Path) -> None:
    found = surveyed(tmp_path, *(f"P{plate}/s{site}_DAPI.tif" for plate in (1, 2) for site in (1, 2)))
    assert said_by(found) == (["P1", "P2"], 4, ["dapi"])
    assert any("name no well" in doubt for doubt in found.doubts)


def test_conditions_without_wells_are_no_channels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"control_1\.tif and treated_1\.tif"):
        surveyed(tmp_path, *(f"{name}_{number}.tif" for name in ("control", "treated") for number in (1, 2, 3)))


def test_the_plate_that_the_user_names_stands_against_folders(tmp_path: Path) -> None:
    names = [f"P{p}/A/0{c}/1_DAPI.tif" for p in (1, 2) for c in (1, 2)]
    found = surveyed(tmp_path, *names, pattern="{plate}/{row}/{column}/{site}_{channel}.tif")
    assert said_by(found) == (["P1", "P2"], 4, ["dapi"])


@pytest.mark.parametrize("folder", ["small", "max", "deconvolved"])
def test_processed_copies_are_left_out_beside_their_originals_only(folder: str, tmp_path: Path) -> None:
    names = [f"{place}/{well}_s1_DAPI.tif" for place in ("P1/raw", f"P1/{folder}") for well in ("A01", "B02")]
    found = surveyed(tmp_path, *names, f"P2/{folder}/A01_s1_DAPI.tif")
    assert list(map(len, found.left_out.values())) == [2]
    assert len(found.fields) == 3
    assert any("sound like processed images" in doubt for doubt in found.doubts)


def test_images_without_z_beside_a_stack_and_label_images_are_left_out_and_said(tmp_path: Path) -> None:
    names = [f"{well}_s1{end}.tif" for well in ("A01", "B02") for end in ("_DAPI", "_z1_DAPI", "_z2_DAPI", "_Nuclei")]
    found = surveyed(tmp_path, *names)
    assert (found.z_planes, found.channels, list(map(len, found.left_out.values()))) == (2, ["dapi"], [2, 2])
    assert {word for word in ("projections", "label images") if any(word in doubt for doubt in found.doubts)} == {
        "projections",
        "label images",
    }


def test_images_that_would_become_one_field_are_refused(tmp_path: Path) -> None:
    names = [f"{well}_{a}_{b}_{c}.tif" for well in ("A01", "B01") for a in (1, 2) for b in (1, 2) for c in (1, 2)]
    with pytest.raises(DataError, match="8 of 16 images say the same") as error:
        surveyed(tmp_path, *names)
    assert "--pattern" in str(error.value.hint)
