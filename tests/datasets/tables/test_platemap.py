"""platemap: long tables and grids, in CSV and Excel, give the same wells; what is doubtful is refused or said."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from cellssl.datasets.tables.platemap import Platemap, PlatemapColumns, read_platemap
from cellssl.errors import DataError, UsageError

Cells = list[list[Any]]


def grid(value: Callable[[int, int], Any], rows: int = 8, columns: int = 12) -> Cells:
    """Return the rows of a grid with letters and numbers; `value` is called with row and column from 0."""
    letters = [chr(65 + row) if row < 26 else f"A{chr(39 + row)}" for row in range(rows)]
    body = [[letters[row], *(value(row, column) for column in range(columns))] for row in range(rows)]
    return [[None, *range(1, columns + 1)], *body]


def compound(row: int, column: int) -> str:
    return "DMSO" if column < 2 else f"drug {row}"


def excel(path: Path, **sheets: Cells) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def csv(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def values(found: Platemap) -> dict[tuple[str | None, str], tuple[str | None, float | None]]:
    return {key: (well.compound, well.dose_micromolar) for key, well in found.wells.items()}


def said(found: Platemap, kind: str = "warning") -> str:
    return " ".join(str(remark) for remark in found.remarks if remark.kind == kind)


def test_long_tables_have_the_same_wells_however_they_are_written(tmp_path: Path) -> None:
    expected = {(None, "A01"): ("DMSO", 0.0), (None, "B02"): ("taxol", 0.3)}
    texts = [
        "well,compound,dose\nA1,DMSO,0\nb02,taxol,0.3\n",
        "Well Position;Compound Name;Conc [nM]\nA01;DMSO;0\nB-02;taxol;300\n",
        "Row\tColumn\tDrug\tConcentration\tUnit\nA\t1\tDMSO\t0\tnM\n2\t02\ttaxol\t300\tnM\n",
        "My layout of May,,\n,,\nMetadata_Well,treatment,dose_uM\nR01C01,DMSO,0\nB02,taxol,0.3 µM\n",
    ]
    for number, text in enumerate(texts):
        assert values(read_platemap(csv(tmp_path / f"{number}.csv", text))) == expected, text


@pytest.mark.parametrize(("rows", "columns", "last"), [(8, 12, "H12"), (16, 24, "P24"), (32, 48, "AF48")])
def test_a_grid_of_any_plate_has_all_its_wells(rows: int, columns: int, last: str, tmp_path: Path) -> None:
    found = read_platemap(excel(tmp_path / "map.xlsx", Sheet1=grid(compound, rows, columns)))
    assert len(found.wells) == rows * columns
    assert found.wells[None, last].compound == f"drug {rows - 1}"


def test_grids_of_one_sheet_are_named_by_their_titles(tmp_path: Path) -> None:
    rows = [["Compound"], *grid(compound), [], ["Dose (nM)"], *grid(lambda row, column: 100 * column)]
    found = read_platemap(excel(tmp_path / "map.xlsx", Layout=rows))
    assert values(found)[None, "C04"] == ("drug 2", 0.3)
    text = "\n".join(";".join("" if cell is None else str(cell) for cell in row) for row in rows)
    assert values(read_platemap(csv(tmp_path / "map.csv", text))) == values(found)


def test_sheets_are_named_by_their_meaning_or_by_their_plate(tmp_path: Path) -> None:
    meanings = {"Compound": grid(compound), "Concentrations": grid(lambda row, column: "3 uM")}
    assert values(read_platemap(excel(tmp_path / "a.xlsx", **meanings)))[None, "A03"] == ("drug 0", 3.0)
    plates = {"P1": grid(compound), "P2": grid(lambda row, column: "other"), "Notes": [["by", "hand"]]}
    found = read_platemap(excel(tmp_path / "b.xlsx", **plates), plates=["P1", "P2"])
    assert (found.wells["P1", "A03"].compound, found.wells["P2", "A03"].compound) == ("drug 0", "other")
    assert "hold no wells and are left out" in said(found, "note")


REFUSED: dict[str, tuple[dict[str, Cells], str]] = {
    "a well twice": ({"S": [["well", "compound"], ["A1", "x"], ["A01", "y"]]}, "compound of well A01 twice"),
    "two plates": ({"Sheet1": grid(compound), "Sheet2": grid(compound)}, "cell B2, and"),
    "numbers without a title": ({"S": grid(lambda row, column: column)}, "has no title"),
    "no wells": ({"S": [["a", "b"], ["1", "2"]]}, "is no plate map"),
    "a broken formula": ({"S": [["well", "compound"], ["A1", "#REF!"]]}, "could not compute 1 compound"),
    "a formula": ({"S": [["well", "compound"], ["A1", "=B1"]]}, "formulas whose values are not in the file: S!B2"),
    "mass": ({"S": [["well", "compound", "dose"], ["A1", "x", "0.5 mg/ml"]]}, "'0.5 mg/ml' is not a dose"),
}


@pytest.mark.parametrize("what", sorted(REFUSED))
def test_a_map_that_may_mean_two_things_is_refused(what: str, tmp_path: Path) -> None:
    sheets, sentence = REFUSED[what]
    with pytest.raises((DataError, UsageError)) as caught:
        read_platemap(excel(tmp_path / "map.xlsx", **sheets))
    assert sentence in caught.value.message and caught.value.hint


def test_merged_cells_are_refused_because_only_the_first_has_a_value(tmp_path: Path) -> None:
    path = excel(tmp_path / "map.xlsx", S=grid(compound))
    book = openpyxl.load_workbook(path)
    book.active.merge_cells("D2:D4")
    book.save(path)
    with pytest.raises(DataError, match="D2:D4 are merged"):
        read_platemap(path)


def test_dates_numbers_and_words_for_no_compound_are_said(tmp_path: Path) -> None:
    names = [datetime.datetime(2024, 9, 2), 27801, "NA", "taxol", "2-Sep", "taxol 3 µM"]
    rows: Cells = [["well", "compound"], *([f"A{number}", name] for number, name in enumerate(names, start=1))]
    found = read_platemap(excel(tmp_path / "map.xlsx", S=rows))
    assert found.wells[None, "A02"].compound == "27801"
    expected = ("SEPT2 (2): '2024-09-02'", "numbers among the compounds (1)", "'NA'", "hold a dose")
    assert all(text in said(found) for text in expected)


def test_a_unit_that_excel_shows_behind_a_number_counts(tmp_path: Path) -> None:
    path = excel(tmp_path / "map.xlsx", S=[["well", "compound", "dose"], ["A1", "x", 300]])
    book = openpyxl.load_workbook(path)
    book.active["C2"].number_format = '0 "nM"'
    book.save(path)
    assert read_platemap(path).wells[None, "A01"].dose_micromolar == 0.3


def test_columns_are_chosen_by_the_user_and_doubtful_ones_are_said(tmp_path: Path) -> None:
    path = csv(tmp_path / "map.csv", "well,compound,treatment,mmoles_per_liter\nA1,BRD-1,taxol,5\n")
    assert "'treatment' may mean it too" in said(read_platemap(path))
    assert "no dose is read: the column 'mmoles_per_liter'" in said(read_platemap(path))
    columns = PlatemapColumns(compound="treatment", dose="mmoles_per_liter")
    assert values(read_platemap(path, columns, dose_unit="uM")) == {(None, "A01"): ("taxol", 5.0)}
    with pytest.raises(UsageError) as caught:
        read_platemap(path, PlatemapColumns(compound="compond"))
    assert caught.value.hint == "did you mean 'compound'?"


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 no zip", b"\xd0\xcf\x11\xe0 old", b"\0" * 50, "µ".encode("cp1252")]
)
def test_a_file_that_is_no_table_is_a_data_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "map.xlsx").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_platemap(tmp_path / "map.xlsx")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("sheets", "plates", "given", "left"),
    [
        (("P1", "P3"), ["P1", "P2"], {"P1"}, "'P3'"),
        (("A", "B", "C", "D"), ["A", "B"], {"A", "B"}, "'C', 'D'"),
        (("Plate 1", "Plate 2"), ["1"], {"1"}, "'Plate 2'"),
        (("P1", "Sheet2"), ["P1", "P2"], {"P1"}, "'Sheet2'"),
        (("p1_compound", "P3_compound"), ["P1", "P2"], {"P1"}, "'P3_compound'"),
    ],
)
def test_sheets_of_other_plates_are_left_out_and_listed(
    sheets: tuple[str, ...], plates: list[str], given: set[str], left: str, tmp_path: Path
) -> None:
    path = excel(tmp_path / "map.xlsx", **dict.fromkeys(sheets, grid(compound)))
    found = read_platemap(path, plates=plates)
    assert {plate for plate, _ in found.wells} == given
    assert f"left out ({left.count(',') + 1}): {left}" in said(found)


def test_a_lone_sheet_that_looks_like_another_plate_is_said(tmp_path: Path) -> None:
    assert "'P3' in the plate map looks like the name of a plate" in said(
        read_platemap(excel(tmp_path / "map.xlsx", P3=grid(compound)), plates=["P1", "P2"])
    )
    assert not said(read_platemap(excel(tmp_path / "b.xlsx", Sheet1=grid(compound)), plates=["P1", "P2"]))


def test_doses_for_all_plates_fill_the_compounds_of_each(tmp_path: Path) -> None:
    sheets = {"P1": grid(compound), "P2": grid(lambda row, column: "x"), "Doses (nM)": grid(lambda row, column: 300)}
    sheets["Controls"] = [["Well", "Control type"], ["A3", "trt"]]
    found = read_platemap(excel(tmp_path / "map.xlsx", **sheets), plates=["P1", "P2"])
    assert found.wells[None, "A03"].control_type == "treatment"
    assert [(well.compound, well.dose_micromolar) for well in [found.well("P2", "A03")] if well] == [("x", 0.3)]


CONTRADICTORY = {
    "Plate,Well,Compound\nP1,A1,x\n,A2,y\n,A3,z\n": "without a plate in the column 'Plate' (2)",
    "Well,Compound,Dose\nA01,x,1,5\n": "line 2 has 4 cells where the header has 3",
    "Well,Compound,Dose\nA01,x\n": "line 2 has 2 cells where the header has 3",
    ",1,2,3\nA,2,4-DNP,x,y\nB,x,y,z\n": "line 2 has 5 cells where the header has 4",
    "Well,Row,Col,Compound\nA01,B,1,x\n": "A01 and B01",
}


@pytest.mark.parametrize("text", CONTRADICTORY)
def test_rows_that_contradict_the_header_or_themselves_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_platemap(csv(tmp_path / "map.csv", text), plates=["P1", "P2"])
    assert CONTRADICTORY[text] in caught.value.message and caught.value.hint


def test_a_grid_that_is_neither_compound_nor_dose_is_left_out_and_said(tmp_path: Path) -> None:
    rows = [["Compound"], *grid(compound), [], ["Cell line"], *grid(lambda row, column: "U2OS")]
    for sheets in ({"Layout": rows}, {"Compound": grid(compound), "Cell line": grid(lambda row, column: "U2OS")}):
        found = read_platemap(excel(tmp_path / "map.xlsx", **sheets))
        assert "left out (1): 'Cell line'" in said(found)
        assert found.wells[None, "C04"].compound == "drug 2"


def test_the_dose_in_the_well_comes_before_that_of_a_stock(tmp_path: Path) -> None:
    text = "Well,Compound,Concentration (mM),Final conc (uM),log Conc\nA1,x,10,3,0.5\n"
    assert values(read_platemap(csv(tmp_path / "map.csv", text))) == {(None, "A01"): ("x", 3.0)}


@pytest.mark.parametrize("name", ["Conc (ug/ml)", "Dose 1", "Stock concentration"])
def test_a_column_of_doses_that_is_not_read_is_said(name: str, tmp_path: Path) -> None:
    found = read_platemap(csv(tmp_path / "map.csv", f"Well,Compound,{name}\nA1,x,10\n"))
    assert f"no dose is read: {name!r}" in said(found)
    molar = read_platemap(csv(tmp_path / "map.csv", "Well,Compound,Conc (µmol/l)\nA1,x,10\n"))
    assert molar.wells[None, "A01"].dose_micromolar == 10


def test_grids_of_plates_that_the_images_do_not_have_are_refused_with_both_names(tmp_path: Path) -> None:
    path = csv(tmp_path / "map.csv", "Plate 1,,\n,1,2\nA,x,y\nB,x,y\nPlate 2,,\n,1,2\nA,x,y\nB,x,y\n")
    with pytest.raises(DataError, match="'Plate 1', 'Plate 2', and the images are of Q-7, Q-8"):
        read_platemap(path, plates=["Q-7", "Q-8"])
    found = read_platemap(path, plates=["plate1", "plate2"])
    assert {plate for plate, _ in found.wells} == {"plate1", "plate2"}


def test_a_title_or_a_file_that_names_a_plate_counts_or_is_said(tmp_path: Path) -> None:
    text = "well,compound\nA1,x\n"
    titled = read_platemap(csv(tmp_path / "map.csv", f"Plate P1,\n{text}"), plates=["P1", "P2"])
    assert set(titled.wells) == {("P1", "A01")}
    other = read_platemap(csv(tmp_path / "map.csv", f"Plate P3,\n{text}"), plates=["P1", "P2"])
    assert "'Plate P3' in the plate map looks like the name of a plate" in said(other)
    assert "is called like the plate P1" in said(read_platemap(csv(tmp_path / "P1.csv", text), plates=["P1", "P2"]))


def test_a_plate_called_plate_is_named_by_no_usual_title(tmp_path: Path) -> None:
    sheets = {"Drugs": grid(compound), "Plate doses": grid(lambda row, column: 3)}
    found = read_platemap(excel(tmp_path / "map.xlsx", **sheets), plates=["plate"])
    assert values(found)[None, "C04"] == ("drug 2", 3.0)
