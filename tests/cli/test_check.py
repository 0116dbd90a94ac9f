"""check: one list of everything before any work, the exit codes, and the same check within run, fetch and doctor."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from chain import Said, say
from made_up_datasets import write_image_table

from cellssl.artifacts.card import read_card

RECIPE = """
name = "mine"
[fetch.dataset]
name = "image_table"
table = "plate.csv"
channels = { dna = "dna", actin = "actin" }
columns = { plate = "plate", well = "well", site = "site", compound = "drug", dose_micromolar = "dose" }
pixel_um = 0.5
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Two plates of two wells with two fields each, in two channels."""
    folder = write_image_table(tmp_path / "lab")
    (folder / "mine.toml").write_text(RECIPE)
    return folder


def cellssl(command: str, lab: Path, *words: object) -> Said:
    return say(command, lab / "mine.toml", "--store", lab / "store", *words)


def rows(said: Said) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(said.line).read_text(encoding="utf-8").splitlines()))


def shrink(lab: Path, name: str) -> None:
    """Write both images of a field with 8 bits, as Fiji saves them."""
    for channel in ("dna", "actin"):
        path = lab / f"images/{name}_{channel}.tif"
        tifffile.imwrite(path, (tifffile.imread(path) >> 8).astype(np.uint8))


def test_a_plate_without_a_fault_passes_and_its_list_is_empty(lab: Path) -> None:
    said = cellssl("check", lab)
    assert rows(said) == [] and said.line == str(lab / "store/checks/mine.csv")
    assert "check: fields: 8, image files of this machine: 16, errors: 0, warnings: 0" in said.err


def test_warnings_are_listed_with_their_place_and_the_exit_code_is_0(lab: Path) -> None:
    shrink(lab, "P1_C03_2")
    listed = rows(cellssl("check", lab, "--output", lab / "mine.csv"))
    assert [(row["severity"], row["kind"], row["field_id"], row["channel"]) for row in listed] == [
        ("warning", "mixed depths", "P1_C03_s2", "dna"),
        ("warning", "mixed depths", "P1_C03_s2", "actin"),
    ]


def test_all_faults_are_listed_at_once_and_exit_with_3(lab: Path) -> None:
    (lab / "images/P1_B02_1_dna.tif").unlink()
    (lab / "images/P2_B02_1_dna.tif").write_bytes(b"II*\0")
    shrink(lab, "P1_C03_2")
    said = cellssl("check", lab, "--json")
    found = json.loads(said.out)
    assert said.code == 3 and "2 of 2 plates cannot be made" in said.err and found["list"] in said.err
    assert found["errors"] == {"missing image": 1, "unreadable image": 1}
    assert found["warnings"] == {"mixed depths": 2} and len(found["findings"]) == 4


def test_fetch_makes_the_good_plates_and_names_the_bad_one_that_can_be_left_out(lab: Path) -> None:
    (lab / "images/P1_B02_1_dna.tif").unlink()
    said = cellssl("fetch", lab)
    assert said.code == 3 and said.out == ""
    assert "1 of 4 fields of plate P1 are missing or broken; first: P1_B02_s1: " in said.err
    assert 'exclude_plates = ["P1"] under [fetch]' in said.err
    made = [read_card(folder.parent) for folder in (lab / "store/fetch").glob("*/artifact.json")]
    assert [card.section["plate"] for card in made] == ["P2"]
    without = cellssl("fetch", lab, "--set", 'fetch.exclude_plates=["P1"]')
    assert json.loads((Path(without.line) / "parts.json").read_text()) == {"P2": made[0].fingerprint}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("nucleus_channel", '"DNA"'),
        ("cells.channel", '{ method = "propagate", channel = "DNA" }'),
        ("lobes.channel", '{ channel = "DNA" }'),
    ],
)
def test_a_channel_that_no_image_has_is_named_before_any_work(lab: Path, setting: str, value: str) -> None:
    wrong = cellssl("check", lab, "--set", f"segment.{setting.removesuffix('.channel')}={value}")
    assert wrong.code == 2 and f"segment.{setting} is 'DNA', which is no channel" in wrong.err, wrong.err
    assert "there are: dna, actin" in wrong.err
    assert cellssl("check", lab, "--set", f"segment.{setting.removesuffix('.channel')}={value.lower()}").code == 0


def test_an_excluded_plate_that_does_not_exist_is_a_mistake(lab: Path) -> None:
    said = cellssl("fetch", lab, "--set", 'fetch.exclude_plates=["P3"]')
    assert said.code == 2 and "fetch.exclude_plates names 'P3'" in said.err


def test_one_plate_is_checked_alone(lab: Path) -> None:
    (lab / "images/P1_B02_1_dna.tif").unlink()
    assert cellssl("fetch", lab, "--plate", "P2").code == 0
    assert cellssl("check", lab, "--plate", "P2").line == str(lab / "store/checks/mine-P2.csv")
    said = cellssl("fetch", lab, "--plate", "P1")
    assert said.code == 3 and not list((lab / "store/fetch").glob("*.partial"))


def test_warnings_are_counted_in_the_card_and_said_once(lab: Path) -> None:
    shrink(lab, "P1_C03_2")
    said = cellssl("run", lab, "--to", "fetch")
    metrics = read_card(Path(said.line)).metrics
    assert (metrics["warnings"], metrics["warning_kinds"]) == (2, {"mixed depths": 2})
    assert said.err.count("actin of field P1_C03_s2") == 1


def test_a_dry_run_and_doctor_show_the_same_findings(lab: Path) -> None:
    shrink(lab, "P1_C03_2")
    (lab / "images/P1_B02_1_dna.tif").unlink()
    dry = cellssl("fetch", lab, "--dry-run", "--json")
    assert dry.code == 0 and json.loads(dry.out)["check"]["errors"] == {"missing image": 1}
    branch = ("--set", 'pretrain.branches.c.view=["horizontal_flip"]')
    said = cellssl("doctor", lab, "--json", *branch)
    found = [one for one in json.loads(said.out)["findings"] if one["subject"] == "images"]
    assert said.code == 2 and [one["missing"] for one in found] == [True, False]
    assert "missing image, 1 times; first: " in found[0]["words"]


def test_a_table_that_cannot_be_read_and_a_recipe_without_fetch_say_so(lab: Path, tmp_path: Path) -> None:
    (lab / "plate.csv").unlink()
    assert cellssl("check", lab).code == 3
    (tmp_path / "r.toml").write_text('name = "r"\n')
    said = say("check", tmp_path / "r.toml", "--store", tmp_path)
    assert said.code == 2 and "has no section [fetch]" in said.err


def test_a_data_set_without_images_of_the_user_has_nothing_to_open(tmp_path: Path) -> None:
    said = say("check", "demo", "--store", tmp_path)
    assert said.code == 0 and "image files of this machine: 0" in said.err


def test_what_the_split_names_and_no_well_has_is_a_warning(lab: Path) -> None:
    listed = rows(cellssl("check", lab, "--set", 'split.treated={ compounds = ["drug-b"] }'))
    assert [row["kind"] for row in listed] == ["recipe and table differ"] and "'drug-b'" in listed[0]["what"]


def test_micrometres_without_the_size_of_a_pixel_are_refused_before_any_plate_is_fetched(lab: Path) -> None:
    (lab / "mine.toml").write_text(RECIPE.replace("pixel_um = 0.5", ""))
    for command in (("check", lab), ("run", lab, "--dry-run", "--to", "segment"), ("fetch", lab)):
        said = cellssl(*command, "--set", "segment.crop_um=40")
        assert said.code == 2 and "not known for 4 of 4 fields" in said.err and "set fetch.dataset.pixel_um" in said.err
    assert not list((lab / "store").glob("fetch/*"))
    assert cellssl("check", lab, "--set", "segment.min_area_px=30").code == 0
    assert cellssl("check", lab, "--set", "segment.min_area_px=30000").code == 2
