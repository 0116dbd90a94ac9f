"""Tests of pictures with classes: pixels and classes as in their libraries, official parts, class folders, errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chain import say
from made_up_datasets import cifar_pixels, idx_bytes, write_cifar, write_class_folders, write_mnist
from misbehaving_server import ServerBehaviour, serving
from PIL import Image
from sklearn.datasets import load_digits

from cellssl.artifacts.crops import open_crops
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_cells

RECIPE = """
name = "pictures"
[fetch.dataset]
name = "{dataset}"
{settings}
[segment]
reference = "range"
[split]
classes = "class"
balance = false
{split}
[embed]
model = "intensities"
[cluster]
normalise = "zscore"
k = {k}
[evaluate]
normalise = "zscore"
leave_out = []
bootstrap_draws = 100
"""


def segment_pictures(folder: Path, dataset: str, settings: str = "") -> Artifact:
    """Run a data set up to segment; return the artifact with its crops and cell table."""
    recipe = write_recipe(folder, dataset, settings)
    said = say("run", recipe, "--store", folder / "store", "--to", "segment")
    return Store(folder / "store").resolve(said.line, ("segment",))


def crops_of(segment: Artifact) -> np.ndarray:
    """Return the crops of the only plate."""
    [path] = segment.path.parent.glob("*/crops.npy")
    return open_crops(path)


def write_recipe(folder: Path, dataset: str, settings: str = "", split: str = "", k: int = 10) -> Path:
    recipe = folder / "pictures.toml"
    recipe.write_text(RECIPE.format(dataset=dataset, settings=settings, split=split, k=k), encoding="utf-8")
    return recipe


def fetch_error(folder: Path, dataset: str, settings: str) -> tuple[int, str]:
    said = say("fetch", write_recipe(folder, dataset, settings), "--store", folder / "store")
    assert "Traceback" not in said.err and said.err.count("error:") == 1
    return said.code, said.err


def test_digits_are_scikit_learns_and_their_scale_is_their_range(tmp_path: Path) -> None:
    segment = segment_pictures(tmp_path, "digits")
    there, cells = load_digits(), read_cells(segment)
    assert np.array_equal(crops_of(segment)[:, 0], there.images)
    assert cells["class"].tolist() == [str(digit) for digit in there.target]
    scale = pd.read_parquet(segment.file("scale.parquet"))
    assert (scale["low"].tolist(), scale["high"].tolist()) == ([0], [16])


def test_the_report_names_ten_classes_and_no_compound(tmp_path: Path) -> None:
    said = say("run", write_recipe(tmp_path, "digits"), "--store", tmp_path / "store")
    page = (Path(said.line) / "report.html").read_text(encoding="utf-8")
    assert "1,797 images of the data set “digits”" in page
    assert "The label of a cell is its “class”, one of 10." in page
    assert "treated" not in page.partition("<main>")[0]
    assert "well effects" not in said.err


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_class_folders_are_read_pixel_by_pixel(mode: str, tmp_path: Path) -> None:
    segment = segment_pictures(
        tmp_path, "image_folder", f'folder = "{write_class_folders(tmp_path / "pets", mode=mode)}"'
    )
    crops, cells = crops_of(segment), read_cells(segment)
    assert cells["class"].tolist() == ["cat"] * 3 + ["dog"] * 3
    for crop, name in zip(crops, cells["cell_id"], strict=True):
        pixels = np.asarray(Image.open(tmp_path / "pets" / name))
        assert np.array_equal(np.moveaxis(crop, 0, -1).squeeze(), pixels)


def test_pictures_of_several_sizes_are_refused_or_resized(tmp_path: Path) -> None:
    pets = write_class_folders(tmp_path / "pets")
    Image.new("L", (30, 20), 7).save(pets / "dog" / "wide.png")
    code, err = fetch_error(tmp_path, "image_folder", f'folder = "{pets}"')
    assert code == 3 and "wide.png is 20 x 30 pixels" in err and "side_px" in err
    segment = segment_pictures(tmp_path, "image_folder", f'folder = "{pets}"\nside_px = 8')
    crops = crops_of(segment)
    assert crops.shape == (7, 1, 8, 8)
    assert (crops[-1] == 7).all()


WRONG: dict[str, tuple[Any, str, int]] = {
    "no picture": (lambda pets: (pets / "cat" / "x.png").write_bytes(b"none"), "cannot be read as a picture", 3),
    "in colour": (lambda pets: Image.new("RGB", (12, 12)).save(pets / "dog" / "x.png"), "is RGB of 8 bits", 3),
    "transparent": (
        lambda pets: Image.new("RGBA", (12, 12)).save(pets / "dog" / "x.png"),
        "Pillow reads it as RGBA",
        3,
    ),
    "an empty class": (lambda pets: (pets / "cow").mkdir(), "cow holds no picture", 3),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_a_picture_that_differs_from_the_others_is_named(case: str, tmp_path: Path) -> None:
    damage, words, code = WRONG[case]
    pets = write_class_folders(tmp_path / "pets")
    damage(pets)
    ended, err = fetch_error(tmp_path, "image_folder", f'folder = "{pets}"')
    assert words in err
    assert ended == code


def test_a_folder_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    code, err = fetch_error(tmp_path, "image_folder", 'folder = "nowhere"')
    assert code == 2 and "nowhere" in err


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write twenty digits as four files in the publisher's format, and patch their checksums into torchvision."""
    return write_mnist(tmp_path / "published", monkeypatch)


def test_mnist_is_the_same_downloaded_and_from_a_folder(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with serving(ServerBehaviour(mnist)) as address:
        monkeypatch.setattr(MNIST, "mirrors", [f"{address}/"])
        downloaded = segment_pictures(tmp_path / "a", "mnist")
    local = segment_pictures(tmp_path / "b", "mnist", f'folder = "{mnist}"')
    assert downloaded.fingerprint == local.fingerprint
    assert downloaded.card.files == local.card.files
    assert np.array_equal(crops_of(downloaded), crops_of(local))
    cells = read_cells(local)
    assert cells["official_part"].tolist() == ["train"] * 15 + ["test"] * 5
    assert cells["class"].tolist()[:11] == [str(number % 10) for number in range(11)]


def test_mnist_files_that_are_missing_or_differ_are_an_error(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    code, err = fetch_error(tmp_path, "mnist", "tries = 1")
    assert code == 4 and "folder = " in err
    (mnist / "t10k-labels-idx1-ubyte.gz").write_bytes(idx_bytes(np.zeros(5, np.uint8)))
    code, err = fetch_error(tmp_path, "mnist", f'folder = "{mnist}"')
    assert code == 5 and "is not the published one" in err
    (mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    code, err = fetch_error(tmp_path, "mnist", f'folder = "{mnist}"')
    assert code == 3 and "does not hold t10k-labels-idx1-ubyte.gz" in err


def test_cifar_is_read_by_torchvision_from_the_publishers_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_cifar("cifar10", tmp_path, monkeypatch)
    segment = segment_pictures(tmp_path, "cifar10", f'folder = "{tmp_path}"')
    assert np.array_equal(crops_of(segment).reshape(6, 3072), cifar_pixels())
    assert read_cells(segment)["class"].tolist() == list("abcdef")


def test_a_class_is_a_string_even_if_it_looks_like_a_number_or_a_missing_value(tmp_path: Path) -> None:
    pets = write_class_folders(tmp_path / "pets")
    (pets / "cat").rename(pets / "01")
    (pets / "dog").rename(pets / "NA")
    segment = segment_pictures(tmp_path, "image_folder", f'folder = "{pets}"')
    assert read_cells(segment)["class"].tolist() == ["01"] * 3 + ["NA"] * 3


def test_folders_train_and_test_become_official_parts(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_class_folders(tmp_path / "pets" / part)
    segment = segment_pictures(tmp_path, "image_folder", f'folder = "{tmp_path / "pets"}"\nparts = true')
    assert read_cells(segment)["official_part"].value_counts().to_dict() == {"train": 6, "test": 6}


def test_changed_pictures_give_another_result_and_a_moved_folder_does_not(tmp_path: Path) -> None:
    pets = write_class_folders(tmp_path / "pets")
    before = segment_pictures(tmp_path, "image_folder", f'folder = "{pets}"').card.fingerprint
    moved = pets.rename(tmp_path / "moved")
    (tmp_path / "pets").mkdir()
    pets = moved.rename(tmp_path / "pets" / "pets")  # elsewhere, under the same name
    assert segment_pictures(tmp_path, "image_folder", f'folder = "{pets}"').card.fingerprint == before
    Image.new("L", (12, 12), 9).save(pets / "cat" / "0.png")
    assert segment_pictures(tmp_path, "image_folder", f'folder = "{pets}"').card.fingerprint != before


def test_the_second_mirror_is_used_if_the_first_does_not_answer(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    with serving(ServerBehaviour(mnist)) as address:
        monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/", f"{address}/"])
        assert len(crops_of(segment_pictures(tmp_path, "mnist", "tries = 1"))) == 20
