"""`cellssl init`: a folder of images in, a recipe that the other commands take out."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft7Validator
from made_up_plates import LAYOUTS, SITES, WELLS, Content, number, write_flat, write_imagexpress, write_tiff

from cellssl.cli import invoke
from cellssl.config import recipe as recipes
from cellssl.datasets.plates.layout import channel_key
from cellssl.images.reading import read_image
from cellssl.images.reference import parse_reference

Printed = pytest.CaptureFixture[str]
NAME = "{well}_s{site}_{channel}.tif"


def printed_path(printed: Printed) -> Path:
    """Return the path in the one line of stdout."""
    (line,) = printed.readouterr().out.splitlines()
    return Path(line)


@pytest.mark.parametrize("layout", ["Harmony 7", "OME-TIFF"])
def test_fetch_gives_the_brightest_plane_of_the_first_time_point(layout: str, tmp_path: Path, capsys: Printed) -> None:
    write, content, _ = LAYOUTS[layout]
    (tmp_path / "plate").mkdir()
    write(tmp_path / "plate", content)
    assert invoke(["init", str(tmp_path / "plate"), "--out", str(tmp_path / "out")]) == 0
    recipe = printed_path(capsys)
    assert invoke(["fetch", str(recipe), "--store", str(tmp_path / "store")]) == 0
    fields = pd.read_parquet(printed_path(capsys) / "fields.parquet")
    assert sorted(zip(fields.well, fields.site, strict=True)) == [(well, site) for well in WELLS for site in SITES]
    for channel, name in enumerate(content.channels):
        for field in fields.to_dict("records"):
            pixels = read_image(parse_reference(field[f"path_{channel_key(name)}"]))
            assert (pixels == number(field["well"], field["site"], channel, content.z_planes - 1, 0)).all()


def test_a_folder_is_two_commands_from_its_cells(tmp_path: Path, capsys: Printed) -> None:
    write_imagexpress(tmp_path / "plate", Content(with_cells=True))
    (tmp_path / "map.csv").write_text("Well;Compound;Dose\nb2;DMSO;0\nC5;taxol;3\n")
    words = ["init", str(tmp_path / "plate"), "--platemap", str(tmp_path / "map.csv"), "--out", str(tmp_path / "out")]
    assert invoke(words) == 0
    recipe = printed_path(capsys)
    assert invoke(["run", str(recipe), "--to", "segment", "--store", str(tmp_path / "store")]) == 0
    cells = pd.read_parquet(printed_path(capsys) / "cells.parquet")
    assert cells.groupby("field_id").size().to_dict() == {
        f"plate1_{well}_s{site}": 6 for well in WELLS for site in SITES
    }
    assert recipes.load(str(recipe)).settings("fetch").controls == ("DMSO",)


def test_the_same_command_again_is_up_to_date_and_overwrites_nothing(tmp_path: Path, capsys: Printed) -> None:
    write_flat(tmp_path / "plate", NAME, Content())
    words = ["init", str(tmp_path / "plate"), "--out", str(tmp_path / "out")]
    assert (invoke(words), invoke(words)) == (0, 0)
    assert "init: up to date" in capsys.readouterr().err
    recipe = tmp_path / "out" / "recipe.toml"
    recipe.write_text(recipe.read_text() + "# mine\n")
    assert invoke(words) == 2
    assert "is there already" in capsys.readouterr().err
    assert recipe.read_text().endswith("# mine\n")


def test_nothing_is_written_into_the_folder_of_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    write_flat(tmp_path / "plate", NAME, Content())
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path / "plate")
    assert invoke(["init", "."]) == 2
    assert "--out ../cellssl-plate" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_json_has_what_is_there_and_what_is_doubtful(tmp_path: Path, capsys: Printed) -> None:
    write_flat(tmp_path / "plate", NAME, Content())
    write_tiff(tmp_path / "plate" / "B02_s3_DAPI.tif", np.zeros((24, 30), np.uint8))
    assert invoke(["init", str(tmp_path / "plate"), "--out", str(tmp_path / "out"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["plates"], found["fields"], found["incomplete_fields"]) == ({"plate": 2}, 5, 1)
    assert (found["channels"], found["nucleus_channel"]) == ({"actin": "Actin", "dapi": "DAPI"}, "dapi")
    assert any("differ in size" in doubt for doubt in found["doubts"])
    assert any("differ in type" in doubt for doubt in found["doubts"])
    assert (tmp_path / "out" / "incomplete.csv").read_text().count("no image of actin") == 1


@pytest.mark.parametrize("name", ["=1+1", "{x}", "#1 (ü)", " a"])
def test_paths_are_exact_whatever_folders_are_called(name: str, tmp_path: Path, capsys: Printed) -> None:
    write_flat(tmp_path / "plate" / name, NAME, Content())
    assert invoke(["init", str(tmp_path / "plate"), "--out", str(tmp_path / "out")]) == 0
    dataset = recipes.load(str(printed_path(capsys))).settings("fetch").dataset
    fields = dataset.plan(tmp_path)
    assert len(fields) == 4
    assert all(Path(file).is_file() for field in fields for file in field.images.values())


def test_a_plate_that_takes_long_gets_a_first_look(tmp_path: Path, capsys: Printed) -> None:
    place = tmp_path / "plate" / "B02_s0_DAPI.tif"
    write_tiff(place, np.zeros((1000, 1000), np.uint16))
    for site in range(1, 400):
        place.with_name(f"B02_s{site}_DAPI.tif").hardlink_to(place)
    assert invoke(["init", str(tmp_path / "plate"), "--out", str(tmp_path / "out"), "-q"]) == 0
    recipe = printed_path(capsys)
    loaded = recipes.load(str(recipe))
    assert (recipe.name, loaded.name) == ("first-look.toml", "plate-first-look")
    assert 0 < loaded.settings("fetch").sample < 400
    assert "All fields take about" in recipe.read_text()


def test_a_folder_or_a_file_in_the_wrong_place_says_the_cure(tmp_path: Path, capsys: Printed) -> None:
    write_flat(tmp_path / "plate", NAME, Content())
    assert invoke(["run", str(tmp_path / "plate")]) == 2
    assert f"cellssl init {tmp_path / 'plate'}" in capsys.readouterr().err
    assert invoke(["init", str(tmp_path / "nowhere")]) == 2
    assert invoke(["init", str(tmp_path / "plate"), "--platemap", str(tmp_path / "map.xlsx")]) == 2
    (tmp_path / "empty").mkdir()
    assert invoke(["init", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 3
    assert not (tmp_path / "out").exists()


def test_an_editor_finds_the_schema_beside_the_recipe(tmp_path: Path, capsys: Printed) -> None:
    write_flat(tmp_path / "plate", NAME, Content())
    words = ["init", str(tmp_path / "plate"), "--out", str(tmp_path / "out")]
    assert invoke(words) == 0
    recipe, schema = printed_path(capsys), tmp_path / "out" / recipes.SCHEMA
    assert recipe.read_text().startswith(f"#:schema ./{schema.name}\n")
    assert not list(Draft7Validator(json.loads(schema.read_text())).iter_errors(tomllib.loads(recipe.read_text())))


@pytest.mark.parametrize(("text", "code"), [(json.dumps({"title": recipes.SCHEMA_TITLE}), 0), ("{}", 2), ("mine", 2)])
def test_a_schema_of_another_version_is_replaced_and_a_file_of_the_user_is_not(
    text: str, code: int, tmp_path: Path
) -> None:
    write_flat(tmp_path / "plate", NAME, Content())
    words = ["init", str(tmp_path / "plate"), "--out", str(tmp_path / "out")]
    assert invoke(words) == 0
    schema = tmp_path / "out" / recipes.SCHEMA
    written = schema.read_text()
    schema.write_text(text)
    assert invoke(words) == code
    assert schema.read_text() == (written if code == 0 else text)
