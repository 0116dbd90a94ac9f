"""The z planes of a table's rows become one image of every channel."""

from pathlib import Path

import pytest

from cellssl.config import recipe as recipes
from cellssl.errors import DataError


def dataset(folder: Path, table: str, **settings: object) -> object:
    """The data set of a table with these lines."""
    (folder / "fields.csv").write_text(table)
    names = table.partition("\n")[0].split(",")
    given = {"name": "image_table", "table": "fields.csv", "columns": {one: one for one in names[:-2]}, **settings}
    given["channels"] = {one: one for one in names[-2:]}
    return recipes.from_table({"name": "x", "fetch": {"dataset": given}}, folder, "x").settings("fetch").dataset


def test_an_empty_cell_is_no_plane_of_its_channel(tmp_path: Path) -> None:
    data = dataset(tmp_path, "well,site,z,dna,gfp\nA1,1,1,1.tif,g.tif\nA1,1,2,2.tif,\nA2,1,1,3.tif,\n", z="max")
    first, second = data._rows()  # type: ignore[attr-defined]
    assert [Path(one).name for one in first.references["dna"].files] == ["1.tif", "2.tif"]
    assert str(first.references["gfp"]) == str(tmp_path / "g.tif")
    assert "no file is named" in str(second.references["gfp"])
    assert any("other than" in str(remark) for remark in data.remarks())  # type: ignore[attr-defined]


@pytest.mark.parametrize("time", ["72h", "2024-01-02"])
def test_hours_and_dates_are_no_numbers_of_time_points(time: str, tmp_path: Path) -> None:
    data = dataset(tmp_path, f"well,site,t,dna,gfp\nA1,1,{time},1.tif,2.tif\n", t="first")
    with pytest.raises(DataError, match="no numbers of a plane or time point") as raised:
        data.remarks()  # type: ignore[attr-defined]
    assert "72 for 72h" in (raised.value.hint or "")
