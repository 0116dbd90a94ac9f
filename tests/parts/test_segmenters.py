"""The contract of every file in segmenters/: what a recipe can name, and the labels that an image of nuclei gives."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import Field
from scipy import ndimage

from cellssl.config import plugins
from cellssl.errors import UsageError
from cellssl.imaging.segmenter import Segmenter, SegmenterSettings
from cellssl.randomness import generator

FOLDER = "cellssl.imaging.segmenters"
NAMES = plugins.names(FOLDER)
WITHOUT_WEIGHTS = tuple(name for name in NAMES if name not in ("cellpose", "label_images"))
"""Segmenters that need no further file."""


def field_of_nuclei() -> np.ndarray:
    """Twelve round nuclei of 24 px on a noisy background."""
    rows, columns = np.mgrid[:180, :240]
    distance = np.hypot(rows % 60 - 30, columns % 60 - 30)
    noise = generator("tests", "segmenters").normal(0, 20, distance.shape)
    return (500 + 2000 / (1 + np.exp(distance - 12)) + noise).astype(np.uint16)


def test_the_default_and_its_alternatives_are_there() -> None:
    assert {"cellpose", "label_images", "nuclei_net", "watershed"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_documented(name: str) -> None:
    settings = plugins.load(FOLDER, name).Settings
    assert settings.__doc__
    assert all(settings.descriptions().values())
    assert settings.plugin_name() == name


@pytest.mark.parametrize("name", NAMES)
def test_a_segmenter_segments_or_reads_label_images(name: str, tmp_path: Path) -> None:
    settings = plugins.load(FOLDER, name).Settings
    assert issubclass(settings, SegmenterSettings)
    method = settings(folder=tmp_path) if name == "label_images" else settings()
    assert (method.label_image(tmp_path / "a.tif", "P1_A01_s1") is not None) == method.reads_label_images
    own_segment = settings.segment is not Segmenter.segment or settings.prepare is not SegmenterSettings.prepare
    assert own_segment != method.reads_label_images


class Threshold(SegmenterSettings):
    """Find nuclei by a fixed threshold: the least that a segmenter has to define."""

    level: int = Field(1500, ge=0)
    """Smallest grey value of a nucleus."""

    def segment(self, image: np.ndarray, pixel_um: float | None = None) -> np.ndarray:
        """Return the connected components above the level."""
        return ndimage.label(image > self.level)[0].astype(np.int32)


def test_a_segmenter_needs_settings_and_segment_only(tmp_path: Path) -> None:
    method = Threshold(level=1400)
    assert method.prepare((), "cpu").segment(field_of_nuclei()).max() == 12
    assert method.non_default() == {"level": 1400} and method.ran() == {}
    assert method.label_image(tmp_path / "a.tif", "P1_A01_s1") is None


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_a_prepared_segmenter_gives_the_same_labels_in_another_process(name: str) -> None:
    method = plugins.load(FOLDER, name).Settings()
    assert method.downloads() == () and method.external_files() == {} and method.check() is None
    sent = pickle.loads(pickle.dumps(method.prepare((), "cpu")))
    assert sent.runs_on() == "cpu"
    assert (sent.segment(field_of_nuclei()) == method.segment(field_of_nuclei())).all()


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_nuclei_are_labelled_1_to_n_in_an_image_of_any_type(name: str, dtype: type) -> None:
    image = field_of_nuclei()
    before = (image // 16 if dtype == np.uint8 else image).astype(dtype)
    given = before.copy()
    labels = plugins.load(FOLDER, name).Settings().segment(given)
    assert labels.dtype == np.int32 and labels.shape == image.shape
    assert np.unique(labels).tolist() == list(range(13))
    assert (given == before).all()


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_the_same_image_gives_the_same_labels(name: str) -> None:
    method = plugins.load(FOLDER, name).Settings()
    assert (method.segment(field_of_nuclei()) == method.segment(field_of_nuclei())).all()


def test_a_network_of_cellpose_finds_the_same_nuclei(shared_data: Path) -> None:
    weights = shared_data / "weights/cellpose3_cyto_from_scellseg.pth"
    segmenter = plugins.load(FOLDER, "cellpose").Settings(weights=weights).prepare((), "cpu")
    assert segmenter.segment(field_of_nuclei()).max() == 12
    assert set(segmenter.ran()) == {"cellpose", "model", "weights_sha256", "device"}


@pytest.mark.parametrize("fault", ["of another kind", "a tensor short", "of cellpose 4", "no weights"])
def test_a_file_that_is_no_network_of_cellpose_is_an_error(shared_data: Path, tmp_path: Path, fault: str) -> None:
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
    segmenter = plugins.load(FOLDER, "cellpose").Settings(weights=file).prepare((), "cpu")
    with pytest.raises(UsageError, match="is not a network of cellpose 3"):
        segmenter.segment(field_of_nuclei())
