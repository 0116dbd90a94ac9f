"""What names of files, folders and positions say: wells, sites, channels and plates, or nothing."""

import pytest

from cellssl.datasets.plates.layout import well_in, wells_in


@pytest.mark.parametrize(
    ("text", "well"),
    [
        *dict.fromkeys(("Position 1", "Image1", "Scene 1", "Stage1", "field 1", "ctrl1", "A01 B02", "Group_B_2")).items(),
        *((text, "A01") for text in ("Row:A,Column:1,Site:1", "A1-Site_0", "A/1", "TileScan 1/A/1/R1", "a01f02", "A-01")),
        *((text, "B02") for text in ("P1_B02", "Well B2, field 3", "WellB02", "B2:F1", "row 2 col 2")),
        ("AF48_s1", "AF48"),
    ],
)
def test_a_text_names_a_well_only_as_a_word_of_its_own(text: str, well: str | None) -> None:
    assert well_in(text) == well


def test_positions_called_p1_and_p2_are_no_wells_of_row_p() -> None:
    assert wells_in(["P1", "P2"]) == [None, None]
    assert wells_in(["O1", "P1"]) == ["O01", "P01"]
