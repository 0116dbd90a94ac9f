"""The first recipe chooses channels, pages and time points so that no field takes those of another."""

from pathlib import Path

import pytest

from cellssl.datasets.plates.layout import Found, Plane
from cellssl.datasets.plates.recognise import Survey
from cellssl.errors import DataError
from cellssl.pipeline.first_recipe import write_first_recipe


def written(*planes: Plane) -> tuple[str, str]:
    """Return the field table and the recipe of these planes."""
    files = write_first_recipe(Survey(Path("x"), [Found("TIFF", list(planes))], {}, [], []), "x", None).files
    return files["fields.csv"], next(text for name, text in files.items() if name.endswith(".toml"))


def test_a_channel_on_different_pages_has_a_column_with_its_page() -> None:
    table, recipe = written(
        *(Plane("a.tif", "P", "A01", 1, name, in_file=page, is_page=True) for name, page in (("d", 0), ("e", 1))),
        *(Plane("a.tif", "P", "A02", 1, name, in_file=page, is_page=True) for name, page in (("d", 2), ("e", 1))),
    )
    assert table.splitlines() == ["plate,well,site,file,d_page", "P,A01,1,a.tif,0", "P,A02,1,a.tif,2"]
    assert 'd = { column = "file", page = "d_page" }, e = { column = "file", page = 1 }' in recipe


def test_a_channel_with_different_numbers_is_chosen_by_its_name() -> None:
    _, recipe = written(
        *(Plane("a.tif", "P", "A01", 1, name, in_file=number) for name, number in (("d", 0), ("e", 1))),
        *(Plane("b.tif", "P", "A02", 1, name, in_file=number) for name, number in (("d", 1), ("e", 0))),
    )
    assert 'd = { column = "file", channel = "d" }' in recipe


def test_the_time_point_with_all_channels_stands_in_the_recipe() -> None:
    planes = [Plane(f"{name}{t}.tif", "P", "A01", 1, name, t=t) for name, t in (("d", 1), ("d", 2), ("e", 2))]
    assert "\nt = 2\n" in written(*planes)[1]


def test_channels_in_different_series_of_their_files_are_refused() -> None:
    with pytest.raises(DataError, match="are different images"):
        written(Plane("a.tif", "P", "A01", 1, "d"), Plane("b.tif", "P", "A01", 1, "e", series=1))
