"""Names of wells say where on the plate a well lies."""

import numpy as np
import pytest

from cellssl.datasets.tables.wells import canonical_well, row_number
from cellssl.profiling.well_positions import plate_format, well_position, well_positions


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("B02", (2, 2)),
        ("b2", (2, 2)),
        ("B-02", (2, 2)),
        ("well B2", (2, 2)),
        ("AA12", (27, 12)),
        ("AF48", (32, 48)),
        ("R02C03", (2, 3)),
        ("r2c3", (2, 3)),
        ("2,3", (2, 3)),
        ("(2, 3)", (2, 3)),
        ("B002", (2, 2)),
        ("AG01", None),
        ("A00", None),
        ("A49", None),
        ("17", None),
        ("DMSO 1", None),
        ("", None),
    ],
)
def test_a_name_says_row_and_column(name: str, position: tuple[int, int] | None) -> None:
    assert well_position(name) == position


@pytest.mark.parametrize("name", ["A1", "h12", "P-24", "A:07", "R16C24", "AF48", "no well"])
def test_names_are_read_as_tables_read_them(name: str) -> None:
    canonical = canonical_well(name)
    letters = canonical and canonical.rstrip("0123456789")
    assert well_position(name) == (letters and (row_number(letters), int(canonical[len(letters) :])))


def test_the_format_is_the_smallest_that_has_all_wells() -> None:
    reached = [(2, 3), (3, 4), (4, 6), (6, 8), (7, 11), (9, 2), (2, 25)]
    assert [plate_format(*each) for each in reached] == [6, 12, 24, 48, 96, 384, 1536]


def test_wells_in_the_outer_rows_and_columns_are_at_the_edge() -> None:
    found = well_positions(["A05", "B02", "H03", "C12", "?"])
    assert found.plate_wells == 96
    assert found.edge.tolist() == [True, False, True, True, False]
    assert found.known.tolist() == [True, True, True, True, False]
    larger = well_positions(["A05", "B02", "H03", "C12", "P24"])
    assert larger.edge.tolist() == [True, False, False, False, True]
    assert (larger.row[4], larger.column[4], larger.plate_wells) == (16, 24, 384)


def test_wells_without_names_have_no_position() -> None:
    found = well_positions([None, np.nan])
    assert not found.known.any()
    assert not found.edge.any()
    assert found.plate_wells is None
