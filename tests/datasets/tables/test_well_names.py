"""wells: one name per well and plate, however a table writes them; names that are no wells stay."""

import pytest

from cellssl.datasets.tables.wells import (
    canonical_well,
    row_number,
    unified_plates,
    unified_wells,
    well_of,
)
from cellssl.letters import letters_of

FORMS = ["A1", "a01", "A-01", "A 01", "A:1", "R01C01", "r1c1", "A_1", "A001", "Well A01", "A - 1"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_well_has_one_name(form: str) -> None:
    assert canonical_well(form) == "A01"


@pytest.mark.parametrize(("name", "well"), [("AF48", "AF48"), ("aa7", "AA07"), ("R02C03", "B03"), ("P24", "P24")])
def test_wells_of_large_plates_have_names(name: str, well: str) -> None:
    assert canonical_well(name) == well


@pytest.mark.parametrize("name", ["PLAIN20x", "AG01", "A49", "A0", "DMSO_0", "", "1", "drug-a_0.3", "A1B2"])
def test_other_names_are_no_wells(name: str) -> None:
    assert canonical_well(name) is None


def test_rows_and_columns_make_wells_and_back() -> None:
    assert [well_of(*pair) for pair in (("2", "3"), ("b", "03"), ("2.0", "3.0"), ("0", "1"), ("A", "49"))] == [
        "B03", "B03", "B03", None, None,
    ]  # fmt: skip
    assert [row_number(letters_of(number)) for number in range(1, 33)] == list(range(1, 33))


def test_wells_keep_their_names_where_a_table_writes_them_in_one_way() -> None:
    assert unified_wells(["A1", "A2", "A1"]) == (["A1", "A2", "A1"], [])
    assert unified_wells(["A1", "A01", "B2", "x"]) == (["A01", "A01", "B02", "x"], [("A01", "A1")])


def test_a_plate_that_became_a_float_is_the_plate_without_its_point() -> None:
    assert unified_plates(["27801.0", "27801", "7.0"]) == (["27801", "27801", "7.0"], [("27801", "27801.0")])
