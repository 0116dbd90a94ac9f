"""embed: the model `cellprofiler` measures nuclei in the images of their fields, under CellProfiler's names."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from chain import Said, say
from made_up_datasets import write_crop_stack
from PIL import Image
from pycytominer.cyto_utils import infer_cp_features

from cellssl.artifacts.embeddings import read_names
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_cells, read_fields
from cellssl.engine.plate_parts import parts_of
from cellssl.errors import UsageError
from cellssl.images.reading import read_image, read_labels
from cellssl.images.reference import ImageReference
from cellssl.stages.embed.cellprofiler import Measured, highest_grey
from cellssl.stages.embed.settings import Settings
from cellssl.stages.segment.field import FetchedImage
from cellssl.stages.segment.inputs import image_of
from cellssl.stages.segment.tasks import labels_name

RECIPE = """
name = "measured"
[fetch.dataset]
name = "simulated"
plates = 1
height_px = 128
width_px = 144
sites_per_well = 2
control_wells = 1
compounds = ["sim-nocodazole"]
doses = 1
cells_per_field = 400
workers = 1
[segment]
method = "watershed"
crop_px = 32
workers = 1
[embed]
cells = "segment"
model = "cellprofiler"
workers = 1
"""
CROPS = """
name = "crops"
[fetch.dataset]
name = "crop_stack"
stack = "stack.npy"
table = "cells.csv"
channels = ["dna", "actin"]
columns = { plate = "plate", well = "well", compound = "drug", dose_micromolar = "dose" }
[embed]
cells = "segment"
model = "cellprofiler"
"""


@dataclass(frozen=True)
class Plate:
    """A recipe of one small plate, and its store."""

    folder: Path

    def say(self, stage: str, *words: object, store: str = "store") -> Said:
        """Run a command on the recipe; other stores are written on top of the first one."""
        stores = dict.fromkeys((store, "store"))
        flags = [word for name in stores for word in ("--store", self.folder / name)]
        return say(stage, self.folder / "measured.toml", *flags, *words)

    def made(self, line: str, kind: str) -> Artifact:
        """Return the artifact that a command named in its last line."""
        return Store(self.folder / "store").resolve(line, (kind,))


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Plate:
    """Return a plate whose cells are segmented and measured."""
    pytest.importorskip("cp_measure", reason="the extra cellprofiler is not installed")
    folder = tmp_path_factory.mktemp("measured")
    (folder / "measured.toml").write_text(RECIPE)
    made = Plate(folder)
    for stage in ("fetch", "segment", "embed"):
        said = made.say(stage)
        assert said.code == 0, said.err
    return made


@pytest.fixture(scope="module")
def embed(plate: Plate) -> Artifact:
    """Return the embeddings of the plate."""
    return plate.made(plate.say("embed").line, "embed")


def test_the_columns_are_those_that_pycytominer_takes_for_features(embed: Artifact) -> None:
    path = embed.file("embeddings.parquet")
    names, table = read_names(path), pd.read_parquet(path)
    assert set(names) == set(infer_cp_features(table)) - {"Nuclei_Location_Center_X", "Nuclei_Location_Center_Y"}
    assert "Nuclei_Correlation_Correlation_dna_tubulin" in names
    assert np.isfinite(table[names].to_numpy()).all()
    assert embed.card.metrics["dim"] == len(names)
    assert embed.card.run["cp_measure"]


def test_areas_and_brightness_are_those_of_the_label_and_the_raw_image(plate: Plate, embed: Artifact) -> None:
    store, segment = Store(plate.folder / "store"), plate.made(plate.say("segment").line, "segment")
    cells, table = read_cells(segment), pd.read_parquet(embed.file("embeddings.parquet"))
    assert table["Metadata_cell_id"].tolist() == cells["cell_id"].tolist()
    assert table["Nuclei_AreaShape_Area"].tolist() == cells["area_px"].tolist()
    part = store.get("segment", next(fingerprint for _, fingerprint in parts_of(segment)))
    detected = store.get("segment", part.card.inputs["nuclei/segment"])
    fetched = store.get("fetch", part.card.inputs["fetch"])
    image_of_field = read_fields(detected).set_index("field_id")["path_actin"]
    means = []
    for cell in cells.itertuples():
        labels = read_labels(detected.file(labels_name(str(cell.field_id))))
        image = read_image(image_of(image_of_field[cell.field_id], fetched))
        means.append(image[labels == cell.nucleus_label].mean() / 65_535)
    np.testing.assert_allclose(table["Nuclei_Intensity_MeanIntensity_actin"], means, rtol=1e-5)


def test_the_number_of_workers_does_not_change_a_byte(plate: Plate, embed: Artifact) -> None:
    again = plate.say("embed", "--force", "--set", "embed.workers=2", store="second").line
    assert (Path(again) / "embeddings.parquet").read_bytes() == embed.file("embeddings.parquet").read_bytes()


def test_what_is_not_defined_is_written_as_0() -> None:
    measured = Measured(["a", "b"], np.array([[1, np.nan], [np.nan, 2]], np.float32))
    assert np.concatenate(list(measured.blocks())).tolist() == [[1, 0], [0, 2]]


def test_whole_cells_add_cell_and_cytoplasm(plate: Plate) -> None:
    cells = (
        "--set",
        'segment.cells={method="propagate", channel="actin"}',
        "--set",
        'segment.lobes={channel="tubulin"}',
    )
    assert plate.say("segment", *cells).code == 0
    said = plate.say("embed", *cells)
    assert said.code == 0, said.err
    table = pd.read_parquet(Path(said.line) / "embeddings.parquet")
    parts = [table[f"{name}_AreaShape_Area"] for name in ("Nuclei", "Cytoplasm", "Cells")]
    assert np.array_equal(parts[0] + parts[1], parts[2])
    assert np.array_equal(parts[2], table["Metadata_cell_area_px"])


def test_files_of_8_bits_are_divided_by_their_own_highest_value(tmp_path: Path) -> None:
    Image.fromarray(np.eye(4, dtype=np.uint8)).save(tmp_path / "8.png")
    tifffile.imwrite(tmp_path / "16.tif", np.eye(4, dtype=np.uint16))
    tifffile.imwrite(tmp_path / "float.tif", np.eye(4, dtype=np.float32))
    scaled = ImageReference((str(tmp_path / "float.tif"),), intensity_range=(0.0, 1.0))
    plain = [ImageReference((str(tmp_path / name),)) for name in ("8.png", "16.tif")]
    assert [highest_grey(FetchedImage(one, "")) for one in (*plain, scaled)] == [255, 65_535, 65_535]


def test_cells_that_came_as_finished_crops_are_refused_with_the_cure(tmp_path: Path) -> None:
    pytest.importorskip("cp_measure", reason="the extra cellprofiler is not installed")
    write_crop_stack(tmp_path)
    (tmp_path / "crops.toml").write_text(CROPS)
    words = (tmp_path / "crops.toml", "--store", tmp_path / "store")
    assert [say(stage, *words).code for stage in ("fetch", "segment")] == [0, 0]
    said = say("embed", *words)
    assert said.code == 2
    assert "came as finished crops" in said.err
    assert 'embed.model = "features"' in said.err


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cellssl.stages.embed.settings.find_spec", lambda name: None)
    with pytest.raises(UsageError) as error:
        Settings(model="cellprofiler").check()
    assert error.value.hint == 'pip install "cellssl[cellprofiler]"'
