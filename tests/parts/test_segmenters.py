"""The contract of every file in segmenters/: what a recipe can name, and what it gives for an image of nuclei."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cellssl.config import plugins
from cellssl.errors import UsageError
from cellssl.randomness import generator

ROOM = "cellssl.imaging.segmenters"
NAMES = plugins.names(ROOM)
FINDING = ("nuclei_net", "watershed")


def field_of_nuclei() -> np.ndarray:
    """Twelve round nuclei of 24 px on a noisy ground."""
    rows, columns = np.mgrid[:180, :240]
    far = np.hypot(rows % 60 - 30, columns % 60 - 30)
    noise = generator("tests", "segmenters").normal(0, 20, far.shape)
    return (500 + 2000 / (1 + np.exp(far - 12)) + noise).astype(np.uint16)


def test_the_room_holds_these_detectors() -> None:
    assert set(NAMES) == {"cellpose", "label_images", *FINDING}


@pytest.mark.parametrize("name", NAMES)
def test_every_knob_has_its_meaning(name: str) -> None:
    settings = plugins.load(ROOM, name).Settings
    assert settings.__doc__
    assert all(field.description for field in settings.model_fields.values())
    assert settings.plugin_name() == name


@pytest.mark.parametrize("name", FINDING)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_nuclei_are_labelled_1_to_n_in_an_image_of_any_type(name: str, dtype: type) -> None:
    image = field_of_nuclei()
    before = (image // 16 if dtype == np.uint8 else image).astype(dtype)
    given = before.copy()
    labels = plugins.load(ROOM, name).Settings().find(given)
    assert labels.dtype == np.int32 and labels.shape == image.shape
    assert np.unique(labels).tolist() == list(range(13))
    assert (given == before).all()


@pytest.mark.parametrize("name", FINDING)
def test_the_same_image_gives_the_same_labels(name: str) -> None:
    method = plugins.load(ROOM, name).Settings()
    assert (method.find(field_of_nuclei()) == method.find(field_of_nuclei())).all()


def test_a_network_of_cellpose_finds_the_same_nuclei(shared_data: Path) -> None:
    weights = shared_data / "weights/cellpose3_cyto_from_scellseg.pth"
    detector = plugins.load(ROOM, "cellpose").Settings(weights=weights).prepared(weights, "cpu")
    assert detector.find(field_of_nuclei()).max() == 12
    assert set(detector.ran()) == {"cellpose", "model", "weights_sha256", "device"}


@pytest.mark.parametrize("fault", ["of another kind", "a tensor short", "of cellpose 4", "no weights"])
def test_a_file_that_is_no_network_of_cellpose_is_refused_and_none_made_up(
    shared_data: Path, tmp_path: Path, fault: str
) -> None:
    whole = torch.load(shared_data / "weights/cellpose3_cyto_from_scellseg.pth", weights_only=True)
    short = {name: tensor for name, tensor in whole.items() if name != "downsample.down.res_down_0.proj.0.weight"}
    contents = {
        "of another kind": {"weight": torch.zeros(2)},
        "a tensor short": short,
        "of cellpose 4": {**whole, "W2": torch.zeros(2)},
    }
    file = tmp_path / "network"
    if fault == "no weights":
        file.write_bytes(b"<!doctype html>")
    else:
        torch.save(contents[fault], file)
    detector = plugins.load(ROOM, "cellpose").Settings(weights=file).prepared(file, "cpu")
    with pytest.raises(UsageError, match="is no network of cellpose 3"):
        detector.find(field_of_nuclei())
