"""places: what tables say of images leads to the file that is there, on whatever computer the table was written."""

import unicodedata
from pathlib import Path

import pytest

from cellssl.datasets.tables.places import Places, common_prefix


def place(folder: Path, *parts: str, **prefixes: Path) -> str:
    return Places(folder, {key.replace("_", "/"): value for key, value in prefixes.items()}).place(parts, "line 2")


def test_a_prefix_of_windows_is_mapped_whatever_its_case_and_separators(tmp_path: Path) -> None:
    places = Places(tmp_path, {"D:\\Screen\\": tmp_path / "here", "\\\\nas\\data": tmp_path / "share"})
    for parts in (("D:\\Screen\\P1", "a.tif"), ("d:/screen/P1/a.tif",), ("file:///D:/Screen/P1", "a.tif")):
        assert places.place(parts, "line 2") == str(tmp_path / "here/P1/a.tif")
    assert places.place(("\\\\NAS\\data\\x", "a.tif"), "line 2") == str(tmp_path / "share/x/a.tif")
    assert places.place(("file://nas/data/my%20x/a.tif",), "line 2") == str(tmp_path / "share/my x/a.tif")
    assert places.windows == {}


def test_a_prefix_ends_at_a_folder_and_the_longest_one_counts(tmp_path: Path) -> None:
    places = Places(tmp_path, {"/old": tmp_path / "a", "/old/deep": tmp_path / "b"})
    assert places.place(["/old/deep/x.tif"], "line 2") == str(tmp_path / "b/x.tif")
    assert places.place(["/older/x.tif"], "line 2") == "/older/x.tif"


def test_paths_of_windows_without_a_prefix_are_remembered_with_what_they_share(tmp_path: Path) -> None:
    places = Places(tmp_path, {})
    for name in ("P1", "P2"):
        places.place(["D:\\Screen", f"{name}\\a.tif"], f"line {name}")
    assert places.windows == {"D:/Screen/P1/a.tif": "line P1", "D:/Screen/P2/a.tif": "line P2"}
    assert common_prefix(list(places.windows)) == "D:/Screen"


def test_a_file_and_a_folder_in_another_case_are_found(tmp_path: Path) -> None:
    (tmp_path / "Images").mkdir()
    (tmp_path / "Images" / "A01_w1.TIF").touch()
    places = Places(tmp_path, {})
    assert places.place(["images/a01_W1.tif"], "line 2") == str(tmp_path / "Images/A01_w1.TIF")
    assert len(places.found) == 1 and not places.ambiguous


@pytest.mark.parametrize(("there", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_in_another_unicode_form_is_found(there: str, asked: str, tmp_path: Path) -> None:
    name = unicodedata.normalize(there, "Zellenü.tif")  # type: ignore[arg-type]
    (tmp_path / name).touch()
    assert place(tmp_path, unicodedata.normalize(asked, "Zellenü.tif")) == str(tmp_path / name)  # type: ignore[arg-type]


def test_several_files_that_differ_in_case_are_not_chosen_from(tmp_path: Path) -> None:
    for name in ("a.tif", "A.tif"):
        (tmp_path / name).touch()
    places = Places(tmp_path, {})
    assert places.place(["a.TIF"], "line 2") == str(tmp_path / "a.TIF")
    assert places.ambiguous == {str(tmp_path / "a.TIF"): (str(tmp_path / "A.tif"), str(tmp_path / "a.tif"))}


def test_a_folder_that_changes_is_noticed(tmp_path: Path) -> None:
    places = Places(tmp_path, {})
    places.place(["a.tif"], "line 2")
    assert places.unchanged()
    (tmp_path / "b.tif").touch()
    assert not places.unchanged()
