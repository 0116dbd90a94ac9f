"""Whole cells in segment: their label images, measurements, and crops in which only the own cell is left."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from chain import Said, say

from cellssl.artifacts.crops import open_crops
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_cells, read_fields, read_table
from cellssl.imaging.compartments import compartment_columns
from cellssl.stages.segment.settings import Settings
from cellssl.stages.shared.preparation import differences, of_section

RECIPE = """
name = "whole"
[fetch.dataset]
name = "simulated"
plates = 1
height_px = 192
width_px = 224
sites_per_well = 1
control_wells = 2
compounds = ["sim-taxol"]
doses = 1
cells_per_field = 300
workers = 1
[segment]
method = "watershed"
cells = { method = "propagate", channel = "actin" }
keep_labels = true
crop_px = 64
workers = 1
"""


class Plate:
    """A small simulated plate, and a store."""

    def __init__(self, folder: Path) -> None:
        self.recipe, self.root = folder / "whole.toml", folder / "store"
        self.recipe.write_text(RECIPE)

    def say(self, stage: str, *words: object) -> Said:
        """Run a command on the recipe."""
        return say(stage, self.recipe, "--store", self.root, *words)

    def segment(self, *settings: str) -> Artifact:
        """Run segment with other settings; return the part of the plate."""
        words = [word for setting in settings for word in ("--set", f"segment.{setting}")]
        made = Store(self.root).resolve(self.say("segment", *words).line, ("segment",))
        return Store(self.root).get("segment", read_cells(made)["part"].iloc[0])


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Plate:
    made = Plate(tmp_path_factory.mktemp("whole"))
    assert made.say("fetch").code == 0
    return made


@pytest.fixture(scope="module")
def cut(plate: Plate) -> Artifact:
    return plate.segment()


def labels_of(part: Artifact, field_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Label images of the nuclei and of the cells within the limits."""
    names = (f"labels/{field_id}_cp_masks.tif", f"labels/{field_id}_cells.ome.tif")
    nuclei, cells = (tifffile.imread(part.file(name)) for name in names)
    return nuclei, cells


def tables_of(part: Artifact) -> list[pd.DataFrame]:
    return [read_cells(part), read_table(part.file("dropped.parquet"))]


def test_every_nucleus_kept_or_dropped_has_the_measurements_of_its_cell(cut: Artifact) -> None:
    for table in tables_of(cut):
        assert len(table) and set(compartment_columns(("dna", "tubulin", "actin"))) <= set(table)
        assert (table["cell_area_px"] == table["area_px"] + table["cytoplasm_area_px"]).all()
    kept = read_cells(cut)
    assert (kept["cell_area_px"] > 1.5 * kept["area_px"]).mean() > 0.8


def test_written_cells_contain_the_nuclei_of_the_same_number(cut: Artifact) -> None:
    for field_id, of_field in read_cells(cut).groupby("field_id"):
        nuclei, cells = labels_of(cut, str(field_id))
        assert (cells[nuclei > 0] == nuclei[nuclei > 0]).all()
        assert np.bincount(cells.ravel())[1:].tolist() == of_field["cell_area_px"].tolist()


def test_label_images_are_ome_tiffs_in_micrometres(cut: Artifact) -> None:
    fields = read_fields(cut).set_index("field_id")
    for name in (name for name in cut.card.files if name.startswith("labels/")):
        with tifffile.TiffFile(cut.file(name)) as tiff:
            sides = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert sides["PhysicalSizeX"] == fields["pixel_um"].iloc[0] > 0


@pytest.mark.parametrize("kind", ["cell", "nucleus"])
def test_a_masked_crop_holds_its_own_cell_or_nucleus_only(plate: Plate, cut: Artifact, kind: str) -> None:
    part = plate.segment(f"crop_mask={kind}")
    whole, masked = (open_crops(one.file("crops.npy")) for one in (cut, part))
    for field_id, of_field in read_cells(part).groupby("field_id"):
        padded = np.pad(labels_of(part, str(field_id))[kind == "cell"], 100)
        for number, cell in enumerate(of_field.itertuples(), start=1):
            top, left = (int(np.ceil(middle - 32)) + 100 for middle in (cell.row_px, cell.column_px))
            own = padded[top : top + 64, left : left + 64] == number
            assert (masked[cell.crop_row] == np.where(own, whole[cell.crop_row], 0)).all() and own.any()


def test_another_mask_finds_no_cell_anew(plate: Plate, cut: Artifact) -> None:
    nuclei = {plate.segment(f"crop_mask={kind}").card.inputs["nuclei/segment"] for kind in ("none", "cell", "nucleus")}
    assert nuclei == {cut.card.inputs["nuclei/segment"]}
    other = plate.segment("cells.channel=tubulin", "cells.method=watershed")
    assert other.card.inputs["nuclei/segment"] not in nuclei


def test_without_cells_neighbours_are_measured_and_compartments_are_not(plate: Plate) -> None:
    plate.recipe.with_name("none.toml").write_text(RECIPE.replace("cells = {", "# cells = {"))
    said = say("segment", plate.recipe.with_name("none.toml"), "--store", plate.root)
    cells = read_cells(Store(plate.root).resolve(said.line, ("segment",)))
    assert {"second_nearest_px", "third_nearest_px", "touching", "free_border"} <= set(cells)
    assert (cells["nearest_px"] <= cells["second_nearest_px"]).all() and cells["free_border"].between(0, 1).all()
    assert not set(compartment_columns(("dna",))) & set(cells)


def test_written_cells_can_be_read_as_label_images(plate: Plate, cut: Artifact, tmp_path: Path) -> None:
    fields = read_fields(cut)
    for field_id, place in zip(fields["field_id"], fields["path_dna"], strict=True):
        _, cells = labels_of(cut, field_id)
        (tmp_path / f"{Path(place).stem}_cells.ome.tif").write_bytes(
            cut.file(f"labels/{field_id}_cells.ome.tif").read_bytes()
        )
        assert cells.max() == (read_cells(cut)["field_id"] == field_id).sum()
    method = {"name": "label_images", "folder": str(tmp_path), "pattern": "{stem}_cells.ome.tif"}
    plate.recipe.with_name("given.toml").write_text(
        RECIPE.replace('method = "watershed"', f"method = {as_toml(method)}").replace("cells = {", "# cells = {")
    )
    said = say("segment", plate.recipe.with_name("given.toml"), "--store", plate.root)
    counts = Store(plate.root).resolve(said.line, ("segment",)).card.metrics
    assert counts["detected"] == len(read_cells(cut))


def test_a_model_of_whole_windows_refuses_masked_crops_and_takes_those_of_before() -> None:
    of_before = {"crop_px": 64, "border": "reflect"}  # no setting could mask a crop then
    whole, masked = ({**of_before, "crop_mask": mask} for mask in ("none", "cell"))
    for expected in (of_before, whole):
        assert differences(expected, whole) == {}
        assert list(differences(expected, masked).values()) == ['set segment.crop_mask = "none"']
    assert len(differences(masked, whole)) == 1


def test_a_model_of_masked_crops_refuses_cells_that_were_found_otherwise() -> None:
    def prepared(mask: str, **cells: object) -> dict[str, object]:
        given = {"crop_mask": mask, "cells": {"method": "propagate", "channel": "actin"} | cells}
        return of_section(Settings(**given).all_values(), 4, finished_crops=False)

    model, other = prepared("cell"), prepared("cell", channel="tubulin")
    assert differences(model, prepared("cell")) == {} and differences(model, other, ["scale"]) == {}
    assert differences(prepared("nucleus"), prepared("nucleus", channel="tubulin")) == {}
    far = prepared("cell", method={"name": "propagate", "max_distance_um": 30.0})
    for here in (other, far):
        (cure,) = differences(here, model).values()
        written = tomllib.loads(cure.removeprefix("set segment."))["cells"]
        assert prepared("cell", **written) == here


def as_toml(table: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in table.items()) + " }"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (('channel = "actin"', 'channel = "aktin"'), ("'aktin'", "dna, tubulin, actin")),
        (('method = "propagate"', 'method = "grow"'), ("no 'grow'", "propagate")),
        (("cells = {", 'crop_mask = "cell" #'), ("crop_mask", "cells = {")),
        (("crop_px", "crop_mask = 1\ncrop_px"), ("crop_mask", "'cell'")),
    ],
)
def test_what_cannot_work_is_a_usage_error(plate: Plate, change: tuple[str, str], words: tuple[str, ...]) -> None:
    wrong = plate.recipe.with_name("wrong.toml")
    wrong.write_text(RECIPE.replace(*change))
    said = say("segment", wrong, "--store", plate.root)
    assert said.code == 2 and all(word in said.err for word in words), said.err
