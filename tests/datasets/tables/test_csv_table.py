"""csv_table: the same columns of text from whatever a spreadsheet writes, and an error with the cure for the rest."""

import gzip
from pathlib import Path

import pytest

from cellssl.datasets.tables.csv_table import layout_of, number_hint, parse, read_table
from cellssl.errors import DataError

CSV = 'plate,well,"drug, name"\n007,A01,NA\n1e3, B02 ,\n'


@pytest.mark.parametrize(
    "content",
    [
        CSV.encode(),
        CSV.replace("\n", "\r\n").encode("utf-8-sig"),
        CSV.replace("\n", "\r").encode(),
        CSV.encode("utf-16"),
        CSV.replace("\n", ",,\n").encode(),
        CSV.replace("\n007", "\n\n,,\n007").encode(),
        b"sep=,\r\n" + CSV.encode(),
        "".join(f"{number},{line}\n" for number, line in zip(["", 0, 1], CSV.splitlines(), strict=True)).encode(),
        b'plate;well;"drug, name"\n007;A01;NA\n1e3;B02;\n',
        b"plate\twell\tdrug, name\n007\tA01\tNA\n1e3\tB02\t\n",
    ],
)
def test_every_way_of_writing_gives_the_same_text(content: bytes, tmp_path: Path) -> None:
    table = parse(content, "t.csv")
    assert [table.column(name) for name in ("plate", "well", "drug, name")] == [
        ["007", "1e3"],
        ["A01", "B02"],
        ["NA", ""],
    ]
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content))
    assert tuple(filter(None, layout_of(tmp_path / "t.csv.gz").columns)) == table.header
    assert read_table(tmp_path / "t.csv.gz").rows == table.rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2,3\n", "line 2 has 3 cells where the header has 2"),
        (b"a,b\n1\n", "line 2 has 1 cells"),
        (b"a,b,a\n1,2,3\n", "several columns called 'a'"),
        (b"", "is empty"),
        ("a\nµ\n".encode("cp1252"), "byte 0xb5 in line 2; it may be Windows-1252"),
        ("a\nx\n".encode("utf-16-le"), "or UTF-16 without"),
        (b"PK\x03\x04", "is an Excel or other zipped file"),
        (b"PAR1", "is a Parquet file"),
    ],
)
def test_what_is_no_table_is_refused_in_one_sentence(content: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(content, "t.csv")
    assert message in caught.value.message and caught.value.hint


def test_the_cure_for_a_wrong_number_is_the_number() -> None:
    assert "write 0.3:" in number_hint("0,3")
    assert number_hint("3 µM") == "write 3 without a unit"
    assert number_hint("high") == "write a number or leave the cell empty"
