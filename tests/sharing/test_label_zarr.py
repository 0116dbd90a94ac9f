"""label_zarr: ome-zarr opens the plate; nuclei lie where the cell table says, in the colours of their clusters."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chain import Chain, say
from conftest import REPOSITORY
from ome_zarr.io import parse_url
from ome_zarr.reader import Label, Plate, Reader

from cellssl.images.reading import read_channel
from cellssl.sharing import ngff
from cellssl.sharing.cluster_colours import cluster_colour, rgb_of
from cellssl.sharing.label_zarr import _places

PLATE = "Sim1_00001"


@pytest.fixture(scope="module")
def plate(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clusters of the tiny chain as OME-Zarr."""
    folder = tmp_path_factory.mktemp("zarr")
    (folder / "notes.txt").write_text("mine")
    said = say("export", chain.made("cluster").path, folder, "--format", "ome-zarr", "--store", chain.root)
    assert said.line == str(folder), said.err
    assert "16 fields of 1 plate" in said.err
    assert sorted(path.name for path in folder.iterdir()) == [f"{PLATE}.ome.zarr", "notes.txt"]
    return folder / f"{PLATE}.ome.zarr"


def cells_of_field(chain: Chain, field_id: str) -> pd.DataFrame:
    cells = pd.read_parquet(chain.made("segment").file("cells.parquet"))
    assigned = pd.read_parquet(chain.made("cluster").file("assignments.parquet"))
    return cells[cells["field_id"] == field_id].merge(assigned, on="cell_id")


def test_every_nucleus_has_the_colour_of_its_cluster_and_lies_under_its_centre(plate: Path, chain: Chain) -> None:
    location = parse_url(str(plate / "C" / "2" / "1"))
    assert location is not None
    image, *_, labels = list(Reader(location)())
    assert labels.first(Label) is not None
    numbers, colours = np.asarray(labels.data[0]), labels.metadata["color"]
    cells = cells_of_field(chain, f"{PLATE}_C02_s2")
    assert len(cells) > 5
    for cell in cells.to_dict("records"):
        label = int(numbers[round(cell["row_px"]), round(cell["column_px"])])
        assert label == cell["nucleus_label"]
        assert labels.metadata["properties"][label]["cell_id"] == cell["cell_id"]
        assert labels.metadata["properties"][label]["cluster"] == cell["cluster"]
        assert np.allclose(colours[label], [*(level / 255 for level in rgb_of(cluster_colour(cell["cluster"]))), 1])
    others = set(np.unique(numbers)) - {0, *cells["nucleus_label"]}
    grey = [*(level / 255 for level in rgb_of(cluster_colour(-1))), 1]
    assert others
    assert all(np.allclose(colours[label], grey) for label in others)
    assert image.metadata["channel_names"] == ["dna", "tubulin", "actin"]


def test_the_page_reads_a_field_as_it_shows(plate: Path) -> None:
    page = (REPOSITORY / "docs" / "opening-results.md").read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[-1]
    read: dict[str, Any] = {}
    exec(shown.replace("plates/P1.ome.zarr", str(plate)), read)
    assert set(np.unique(read["numbers"])) == {0, *read["colour_of"]}
    assert set(read["cell_of"]) < set(read["colour_of"])


def test_the_image_beside_the_labels_has_the_pixels_sizes_and_limits_of_the_plate(plate: Path, chain: Chain) -> None:
    location = parse_url(str(plate / "C" / "2" / "1"))
    assert location is not None
    image = next(iter(Reader(location)()))
    fields = pd.read_parquet(chain.made("fetch").file("fields.parquet")).set_index("field_id")
    field = fields.loc[f"{PLATE}_C02_s2"]
    part = chain.store.get("fetch", field["part"])
    pixels = [read_channel(part.file(field[f"path_{name}"])) for name in ("dna", "tubulin", "actin")]
    assert np.array_equal(np.asarray(image.data[0]), np.stack(pixels))
    scale = pd.read_parquet(chain.made("segment").file("scale.parquet"))
    assert np.allclose(image.metadata["contrast_limits"], scale[["low", "high"]])
    assert image.metadata["coordinateTransformations"][0][0]["scale"] == [1.0, field["pixel_um"], field["pixel_um"]]


def test_the_plate_is_one_to_the_library_with_all_wells(plate: Path, chain: Chain) -> None:
    location = parse_url(str(plate))
    assert location is not None
    node = next(iter(Reader(location)()))
    assert node.first(Plate) is not None
    wells = [well["path"] for well in node.zarr.root_attrs["plate"]["wells"]]
    table = pd.read_csv(chain.made("cluster").file("wells.csv"))
    assert sorted(wells) == sorted(f"{well[0]}/{int(well[1:])}" for well in table["well"])


def test_a_second_export_takes_the_place_of_the_first_and_of_nothing_else(plate: Path, chain: Chain) -> None:
    words = ("export", chain.made("cluster").path, plate.parent, "--format", "ome-zarr", "--store", chain.root)
    left = plate.parent / f".{plate.name}.0123.tmp"
    left.mkdir()
    (plate / "stale").touch()
    assert say(*words, "--plate", PLATE).code == 0
    assert not (plate / "stale").exists()
    assert not left.exists()
    attributes = (plate / ".zattrs").read_text()
    (plate / ".zattrs").write_text(json.dumps({"plate": {}}))
    assert "was not written by cellssl export" in say(*words).err
    (plate / ".zattrs").write_text(attributes)
    assert "'P9' has no clustered cells" in say(*words, "--plate", "P9").err


def test_a_missing_image_stops_the_export_and_leaves_no_folder(chain: Chain, tmp_path: Path) -> None:
    fields = pd.read_parquet(chain.made("fetch").file("fields.parquet")).set_index("field_id")
    field = fields.loc[f"{PLATE}_E11_s2"]
    image = chain.store.get("fetch", field["part"]).path / field["path_actin"]
    image.rename(image.with_suffix(".away"))
    try:
        said = say("export", chain.made("cluster").path, tmp_path, "--format", "ome-zarr", "--store", chain.root)
    finally:
        image.with_suffix(".away").rename(image)
    assert said.code == 5
    assert image.name in said.err
    assert list(tmp_path.iterdir()) == []


def test_levels_of_a_large_field_are_halved_and_labels_stay_labels(tmp_path: Path) -> None:
    place = ngff.Place("B", "2", 1, 1)
    well = ngff.open_well(ngff.open_plate(tmp_path / "p", "p", [place], 1, {}), place, 1)
    pixels = np.full((1, 1025, 700), 9, np.uint16)
    numbers = np.where(np.arange(700) < 350, 3, 70_000)[None].repeat(1025, 0)
    image = ngff.write_image(well, 0, "f", pixels, None, [ngff.Channel("dna", "FFFFFF", 0, 9)])
    ngff.write_labels(image, {"nuclei": numbers}, ngff.LabelColours({3: (1, 2, 3)}, {}), None)
    location = parse_url(str(tmp_path / "p" / "B" / "2" / "0"))
    assert location is not None
    shown, *_, labels = list(Reader(location)())
    assert [level.shape[1:] for level in shown.data] == [(1025, 700), (513, 350), (257, 175)]
    assert [level.shape for level in labels.data] == [(1025, 700), (513, 350), (257, 175)]
    assert all((np.asarray(level) == 9).all() for level in shown.data)
    assert all(set(np.unique(np.asarray(level))) == {3, 70_000} for level in labels.data)


def test_wells_without_row_and_column_stand_in_one_row() -> None:
    assert [place.path for place in _places(["B02", "AF48"]).values()] == ["B/2", "AF/48"]
    assert [place.path for place in _places(["control", "A01"]).values()] == ["well/0", "well/1"]
