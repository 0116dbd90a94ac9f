"""Tests of image_table: tables of any format, images that stay where they are, and errors of one sentence."""

import csv
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image
from pydantic import ValidationError

from cellssl.config.settings import first_fault
from cellssl.datasets.base import Field
from cellssl.datasets.image_table import Settings
from cellssl.errors import CellsslError, DataError, UsageError

COLUMNS = {"plate": "plate", "well": "well", "site": "site", "compound": "drug", "dose_micromolar": "dose"}
RECIPE = """
[fetch.dataset]
name = "image_table"
table = "plate.csv"
channels = { dna = "dna", actin = "actin" }
columns = { plate = "plate", well = "well", site = "site", compound = "drug", dose_micromolar = "dose" }
[segment]
crop_px = 32
min_area_px = 50
workers = 1
"""
LOADDATA = {
    name: [f"Image_PathName_{stain}", f"Image_FileName_{stain}"]
    for name, stain in (("dna", "DAPI"), ("tubulin", "Tubulin"), ("actin", "Actin"))
}
OFFICIAL_COLUMNS = {
    "plate": "Image_Metadata_Plate_DAPI",
    "well": "Image_Metadata_Well_DAPI",
    "compound": "Image_Metadata_Compound",
    "dose_micromolar": "Image_Metadata_Concentration",
}


def settings(folder: Path, table: str = "plate.csv", **values: Any) -> Settings:
    given = {"channels": {"dna": "dna", "actin": "actin"}, "columns": COLUMNS, **values}
    return Settings.model_validate({"table": str(folder / table), **given})


def planned(dataset: Settings) -> list[Field]:
    return dataset.plan(Path("/not/there"))


def changed(folder: Path, old: str, new: str) -> Settings:
    """Replace one text in the table and return the settings."""
    path = folder / "plate.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    return settings(folder)


def fault_of(dataset: Settings) -> CellsslError:
    with pytest.raises((DataError, UsageError)) as caught:
        planned(dataset)
    return caught.value


REWRITTEN: dict[str, Callable[[str], bytes]] = {
    "tabs": lambda text: text.replace(",", "\t").encode(),
    "semicolons": lambda text: text.replace(",", ";").encode(),
    "cr": lambda text: text.replace("\n", "\r").encode(),
    "crlf": lambda text: text.replace("\n", "\r\n").encode(),
    "mark": lambda text: text.encode("utf-8-sig"),
    "utf-16": lambda text: text.encode("utf-16"),
    "quotes": lambda text: "\n".join(
        ",".join(f'"{c}"' for c in line.split(",")) for line in text.splitlines()
    ).encode(),
    "no final newline": lambda text: text.rstrip("\n").encode(),
    "blank lines": lambda text: text.replace("\n", "\n\n").encode(),
    "blanks around": lambda text: text.replace(",", " , ").encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
}


@pytest.mark.parametrize("how", sorted(REWRITTEN))
def test_a_table_has_the_same_values_in_any_format(how: str, plate: Path) -> None:
    expected = planned(settings(plate))
    other = "other.csv.gz" if how == "gzip" else "other.csv"
    (plate / other).write_bytes(REWRITTEN[how]((plate / "plate.csv").read_text()))
    assert planned(settings(plate, other)) == expected
    assert len(expected) == 8


@pytest.mark.parametrize("variant", ["image-unquoted.csv.gz", "image-no-final-newline.csv.gz"])
def test_copies_of_the_image_table_of_bbbc021_are_read_like_the_original(variant: str, shared_data: Path) -> None:
    values: dict[str, Any] = {"channels": LOADDATA, "columns": OFFICIAL_COLUMNS, "root": "/images"}
    own = planned(settings(shared_data / "meta", "BBBC021_v1_image.csv", **values))
    assert planned(settings(shared_data / "meta" / "variants", variant, **values)) == own
    with (shared_data / "meta" / "BBBC021_v1_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    paths = {f"/images/{row['Image_PathName_Actin']}/{row['Image_FileName_Actin']}" for row in rows}
    assert {field.images["actin"] for field in own} == paths
    assert len({field.field_id for field in own}) == 13_200


def test_a_field_has_the_values_of_its_row(plate: Path) -> None:
    third = planned(settings(plate, pixel_um=0.5, keep=["drug"]))[2]
    assert (third.field_id, third.plate, third.well, third.site) == ("P1_C03_s1", "P1", "C03", 1)
    assert (third.compound, third.dose_micromolar, third.pixel_um) == ("drug-a", 0.3, 0.5)
    assert third.images["actin"] == str(plate / "images" / "P1_C03_1_actin.tif")
    assert third.extra == {"drug": "drug-a"}


def test_relative_paths_start_from_root_if_it_is_given(plate: Path) -> None:
    assert planned(settings(plate, root="/elsewhere"))[0].images["dna"] == "/elsewhere/images/P1_B02_1_dna.tif"


def test_file_addresses_and_windows_separators_are_paths(plate: Path) -> None:
    changed(plate, "images/P1_B02_1_dna.tif", "file:///data/my%20images/a.tif")
    fields = planned(changed(plate, "images/P1_B02_2_dna.tif", "images\\P1_B02_2_dna.tif"))
    assert fields[0].images["dna"] == "/data/my images/a.tif"
    assert fields[1].images["dna"] == str(plate / "images/P1_B02_2_dna.tif")


def test_without_columns_there_is_one_plate_with_one_well_and_running_sites(plate: Path) -> None:
    fields = planned(settings(plate, columns={}))
    assert [field.field_id for field in fields] == [f"plate_all_s{site}" for site in range(1, 9)]


def test_without_a_well_column_a_treatment_is_a_well(plate: Path) -> None:
    fields = planned(settings(plate, columns={"compound": "drug", "dose_micromolar": "dose"}))
    assert {(field.well, field.compound) for field in fields} == {("DMSO_0", "DMSO"), ("drug-a_0.3", "drug-a")}


def test_only_the_named_compounds_plates_and_wells_are_selected(plate: Path) -> None:
    assert {field.compound for field in planned(settings(plate, compounds=["drug-a"]))} == {"drug-a"}
    assert [f.field_id for f in planned(settings(plate, plates=["P2"], wells=["B02"]))] == ["P2_B02_s1", "P2_B02_s2"]
    assert "did you mean 'drug-a'" in fault_of(settings(plate, compounds=["drug-b"])).hint


def test_a_wrong_column_is_an_error_with_the_nearest_name(plate: Path) -> None:
    fault = fault_of(settings(plate, columns={**COLUMNS, "well": "wells"}))
    assert isinstance(fault, UsageError)
    assert fault.hint == "did you mean 'well'?"


FAULTS = {
    "P1,C03,1,drug-a,0.3": ("P1,C03,1,drug-a,high", "line 4, column 'dose': 'high' is not a dose"),
    "P1,C03,2,drug-a,0.3": ("P1,C03,2,drug-a,nan", "line 5, column 'dose': 'nan' is not a dose"),
    "P1,B02,1": ("P1,B02,one", "line 2, column 'site': 'one' is not the number"),
    "P1,B02,2": ("P1,B02,1", "line 3 is plate P1, well B02, site 1, and so is line 2"),
    "P2,B02,2": ("P2,../B02,2", "line 7, column 'well': '../B02' cannot name"),
    "P2,B02,1,DMSO,0": ("P2,B02,1,DMSO", "line 6 has 6 cells where the header has 7"),
    "plate,well,site": ("plate,well,well", "several columns called 'well'"),
}


@pytest.mark.parametrize("old", sorted(FAULTS))
def test_a_fault_in_the_table_is_a_data_error_that_says_where(old: str, plate: Path) -> None:
    new, sentence = FAULTS[old]
    fault = fault_of(changed(plate, old, new))
    assert isinstance(fault, DataError)
    assert sentence in fault.message
    assert fault.hint


@pytest.mark.parametrize("address", ["ftp://x.org/a.tif", "gs://bucket/a.tif", "https:///a.tif"])
def test_addresses_of_other_kinds_are_refused(address: str, plate: Path) -> None:
    assert "is not an address" in fault_of(changed(plate, "images/P1_B02_1_dna.tif", address)).message


def test_a_column_with_a_reserved_name_is_refused(plate: Path) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(plate, keep=["plate"])
    assert "would hide" in first_fault(caught.value).message


def recipe(folder: Path) -> str:
    (folder / "mine.toml").write_text(RECIPE)
    return str(folder / "mine.toml")


def test_fields_go_through_fetch_and_segment(plate: Path, cellssl: Any) -> None:
    code, fetched, card = cellssl("fetch", recipe(plate))
    fields = pd.read_parquet(fetched / "fields.parquet")
    assert code == 0
    assert fields["control"].sum() == 4
    assert Path(fields["path_dna"][0]) == plate / "images/P1_B02_1_dna.tif"
    code, segmented, card = cellssl("segment", recipe(plate))
    cells = pd.read_parquet(segmented / "cells.parquet")
    assert code == 0
    assert len(cells) == 8 * 6  # every field was drawn with six nuclei, none at the border
    assert set(card["metrics"]) >= {"fields", "kept"}


def test_a_plate_map_decides_controls_and_counts_by_its_content(plate: Path, cellssl: Any) -> None:
    text = "Well,Compound,Dose [nM],control_type\nB2,LacZ,0,negcon\nC03,taxol,300,trt\n"
    (plate / "map.csv").write_text(text)
    columns = '{ plate = "plate", well = "well", site = "site" }'
    words = ("--set", f"fetch.dataset.columns={columns}", "--set")
    _, fetched, here = cellssl("fetch", recipe(plate), *words, f"fetch.dataset.platemap={plate / 'map.csv'}")
    fields = pd.read_parquet(fetched / "fields.parquet")
    assert list(fields.loc[fields["control"], "compound"].unique()) == ["LacZ"]
    assert set(fields["dose_micromolar"]) == {0.0, 0.3} and set(fields["control_type"]) == {"negative", "treatment"}
    (plate / "other.csv").write_text(text)
    _, _, there = cellssl("fetch", recipe(plate), *words, f"fetch.dataset.platemap={plate / 'other.csv'}")
    (plate / "other.csv").write_text(text.replace("taxol", "drug"))
    _, _, edited = cellssl("fetch", recipe(plate), *words, f"fetch.dataset.platemap={plate / 'other.csv'}")
    assert here["fingerprint"] == there["fingerprint"] != edited["fingerprint"]


def test_images_of_8_bits_and_other_formats_are_read(plate: Path, cellssl: Any) -> None:
    for path in sorted((plate / "images").glob("*.tif")):
        Image.fromarray((tifffile.imread(path) / 16).clip(0, 255).astype(np.uint8)).save(path.with_suffix(".png"))
    (plate / "plate.csv").write_text((plate / "plate.csv").read_text().replace(".tif", ".png"))
    cellssl("fetch", recipe(plate))
    code, segmented, _ = cellssl("segment", recipe(plate))
    assert code == 0
    assert len(pd.read_parquet(segmented / "cells.parquet")) == 8 * 6


def test_a_moved_folder_gives_the_same_result_and_an_edited_image_another_one(plate: Path, cellssl: Any) -> None:
    _, _, here = cellssl("fetch", recipe(plate))
    moved = plate / "moved"
    moved.mkdir()
    shutil.copytree(plate / "images", moved / "images")
    for name in ("plate.csv", "mine.toml"):
        shutil.copy(plate / name, moved)
    _, _, there = cellssl("fetch", str(moved / "mine.toml"))
    assert there["fingerprint"] == here["fingerprint"]
    tifffile.imwrite(moved / "images/P1_B02_1_dna.tif", np.zeros((9, 9), np.uint16))
    _, other, edited = cellssl("fetch", str(moved / "mine.toml"))
    parts = json.loads((other / "parts.json").read_text())
    assert edited["fingerprint"] != here["fingerprint"]
    assert parts["P2"] == json.loads((plate / "store/fetch" / here["fingerprint"] / "parts.json").read_text())["P2"]


def test_a_missing_image_is_quarantined_with_its_reason(plate: Path, cellssl: Any) -> None:
    (plate / "images/P2_C03_2_actin.tif").unlink()
    code, _, failure = cellssl("fetch", recipe(plate))
    assert code == 3
    assert "P2_C03_2_actin.tif does not exist" in failure["stderr"]
    code, fetched, card = cellssl("fetch", recipe(plate), "--set", "fetch.max_failures=0.25")
    part = json.loads((fetched / "parts.json").read_text())["P2"]
    quarantine = pd.read_csv(plate / "store/fetch" / part / "quarantine.csv")
    assert code == 0
    assert list(quarantine["field_id"]) == ["P2_C03_s2"]
    assert card["metrics"]["fields"] + card["metrics"]["quarantined"] == 8


def test_an_image_that_its_disk_fails_to_give_is_not_quarantined(plate: Path, cellssl: Any) -> None:
    image, loose = plate / "images/P2_C03_2_actin.tif", ("--set", "fetch.max_failures=0.9")
    _, _, whole = cellssl("fetch", recipe(plate), store="whole")
    content = image.read_bytes()
    image.unlink()
    image.symlink_to("/proc/self/mem")  # a file whose first byte cannot be read: EIO
    code, _, failure = cellssl("fetch", recipe(plate), *loose)
    assert code == 1 and "P2_C03_2_actin.tif cannot be read: Input/output error" in failure["stderr"]
    image.unlink()
    image.write_bytes(content)
    assert cellssl("fetch", recipe(plate))[2]["files"] == whole["files"]


def test_the_error_says_what_is_there_instead_of_an_image(plate: Path, cellssl: Any) -> None:
    image = plate / "images/P2_C03_2_actin.tif"
    image.unlink()
    image.symlink_to(image.name)
    code, _, failure = cellssl("fetch", recipe(plate))
    assert code == 3 and "P2_C03_2_actin.tif is a link that leads back to itself" in failure["stderr"]
    image.unlink()
    image.mkdir()
    code, _, failure = cellssl("fetch", recipe(plate))
    assert code == 3 and "P2_C03_2_actin.tif is a folder, not a file" in failure["stderr"]
    table = plate / "plate.csv"
    table.write_text(table.read_text().replace("P2_C03_2_actin.tif", "n" * 300 + ".tif"))
    code, _, failure = cellssl("fetch", recipe(plate))
    assert code == 3 and "has too long a name" in failure["stderr"]


def test_a_misspelt_setting_is_an_error_with_the_nearest_name(plate: Path, cellssl: Any) -> None:
    for setting, cure in (("tabel=1", "did you mean 'table'"), ("columns.wel=x", "did you mean 'well'")):
        code, _, failure = cellssl("fetch", recipe(plate), "--set", f"fetch.dataset.{setting}")
        assert code == 2
        assert cure in failure["stderr"]
