"""Pictures with classes: the libraries' own pixels and classes, official parts, folders of images, what is none."""

import gzip
import pickle
import struct
import tarfile
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chain import say
from PIL import Image
from sklearn.datasets import load_digits
from unruly import Manners, serving

from cellssl.artifacts.crops import open_crops
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_cells
from cellssl.randomness import generator

RECIPE = """
name = "pictures"
[fetch.dataset]
name = "{dataset}"
{knobs}
[segment]
reference = "range"
[split]
classes = "class"
balance = false
{split}
[embed]
model = "intensities"
[cluster]
k = {k}
[evaluate]
leave_out = []
bootstrap_draws = 100
"""


def segmented(folder: Path, dataset: str, knobs: str = "") -> Artifact:
    """The crops and cell table of a data set."""
    recipe = written(folder, dataset, knobs)
    said = say("run", recipe, "--store", folder / "store", "--to", "segment")
    return Store(folder / "store").resolve(said.line, ("segment",))


def crops_of(segment: Artifact) -> np.ndarray:
    """The crops of the only plate."""
    [path] = segment.path.parent.glob("*/crops.npy")
    return open_crops(path)


def written(folder: Path, dataset: str, knobs: str = "", split: str = "", k: int = 10) -> Path:
    recipe = folder / "pictures.toml"
    recipe.write_text(RECIPE.format(dataset=dataset, knobs=knobs, split=split, k=k), encoding="utf-8")
    return recipe


def refused(folder: Path, dataset: str, knobs: str) -> tuple[int, str]:
    said = say("fetch", written(folder, dataset, knobs), "--store", folder / "store")
    assert "Traceback" not in said.err and said.err.count("error:") == 1
    return said.code, said.err


def test_digits_are_scikit_learns_and_their_scale_is_their_range(tmp_path: Path) -> None:
    segment = segmented(tmp_path, "digits")
    there, cells = load_digits(), read_cells(segment)
    assert np.array_equal(crops_of(segment)[:, 0], there.images)
    assert cells["class"].tolist() == [str(digit) for digit in there.target]
    scale = pd.read_parquet(segment.file("scale.parquet"))
    assert (scale["low"].tolist(), scale["high"].tolist()) == ([0], [16])


def test_the_page_speaks_of_ten_classes_and_of_no_drug(tmp_path: Path) -> None:
    said = say("run", written(tmp_path, "digits"), "--store", tmp_path / "store")
    page = (Path(said.line) / "report.html").read_text(encoding="utf-8")
    assert "1,797 pictures of the data set “digits”" in page
    assert "The label of a cell is its “class”, one of 10." in page
    assert "treated" not in page.partition("<main>")[0]
    assert "well effects" not in said.err


def folder_of(root: Path, side: int = 12, mode: str = "L") -> Path:
    """Two classes, three pictures each."""
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(3):
            shape = (side, side) if mode == "L" else (side, side, 3)
            pixels = generator("picture", name, number).integers(0, 255, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_folder_of_folders_is_read_pixel_for_pixel(mode: str, tmp_path: Path) -> None:
    segment = segmented(tmp_path, "image_folder", f'folder = "{folder_of(tmp_path / "pets", mode=mode)}"')
    crops, cells = crops_of(segment), read_cells(segment)
    assert cells["class"].tolist() == ["cat"] * 3 + ["dog"] * 3
    for crop, name in zip(crops, cells["cell_id"], strict=True):
        pixels = np.asarray(Image.open(tmp_path / "pets" / name))
        assert np.array_equal(np.moveaxis(crop, 0, -1).squeeze(), pixels)


def test_pictures_of_several_sizes_are_refused_or_brought_to_one(tmp_path: Path) -> None:
    pets = folder_of(tmp_path / "pets")
    Image.new("L", (30, 20), 7).save(pets / "dog" / "wide.png")
    code, err = refused(tmp_path, "image_folder", f'folder = "{pets}"')
    assert code == 3 and "wide.png is 20 x 30 pixels" in err and "side_px" in err
    segment = segmented(tmp_path, "image_folder", f'folder = "{pets}"\nside_px = 8')
    crops = crops_of(segment)
    assert crops.shape == (7, 1, 8, 8)
    assert (crops[-1] == 7).all()


WRONG: dict[str, tuple[Any, str, int]] = {
    "no picture": (lambda pets: (pets / "cat" / "x.png").write_bytes(b"none"), "cannot be read as a picture", 3),
    "in colour": (lambda pets: Image.new("RGB", (12, 12)).save(pets / "dog" / "x.png"), "is RGB of 8 bits", 3),
    "transparent": (lambda pets: Image.new("RGBA", (12, 12)).save(pets / "dog" / "x.png"), "Pillow calls it RGBA", 3),
    "an empty class": (lambda pets: (pets / "cow").mkdir(), "cow holds no picture", 3),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_is_no_picture_like_the_others_is_named(case: str, tmp_path: Path) -> None:
    spoil, words, code = WRONG[case]
    pets = folder_of(tmp_path / "pets")
    spoil(pets)
    ended, err = refused(tmp_path, "image_folder", f'folder = "{pets}"')
    assert words in err
    assert ended == code


def test_a_folder_that_is_not_there_is_a_slip(tmp_path: Path) -> None:
    code, err = refused(tmp_path, "image_folder", 'folder = "nowhere"')
    assert code == 2 and "nowhere" in err


def idx(array: np.ndarray) -> bytes:
    """As MNIST's publisher packs arrays of bytes."""
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty digits in the publisher's four files, and torchvision told that these are the published ones."""
    from torchvision.datasets import MNIST

    folder = tmp_path / "published"
    folder.mkdir()
    digits = generator("mnist").integers(0, 255, (20, 28, 28), dtype=np.uint8)
    files = {
        "train-images-idx3-ubyte.gz": digits[:15],
        "train-labels-idx1-ubyte.gz": np.arange(15, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte.gz": digits[15:],
        "t10k-labels-idx1-ubyte.gz": np.arange(5, dtype=np.uint8),
    }
    for name, array in files.items():
        (folder / name).write_bytes(idx(array))
    monkeypatch.setattr(MNIST, "resources", [(name, md5((folder / name).read_bytes()).hexdigest()) for name in files])
    return folder


def test_mnist_is_the_same_downloaded_and_from_a_folder(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with serving(Manners(mnist)) as address:
        monkeypatch.setattr(MNIST, "mirrors", [f"{address}/"])
        downloaded = segmented(tmp_path / "a", "mnist")
    local = segmented(tmp_path / "b", "mnist", f'folder = "{mnist}"')
    assert downloaded.fingerprint == local.fingerprint
    assert downloaded.card.files == local.card.files
    assert np.array_equal(crops_of(downloaded), crops_of(local))
    cells = read_cells(local)
    assert cells["official_part"].tolist() == ["train"] * 15 + ["test"] * 5
    assert cells["class"].tolist()[:11] == [str(number % 10) for number in range(11)]


def test_mnist_that_cannot_be_had_or_is_another_is_said_so(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    code, err = refused(tmp_path, "mnist", "tries = 1")
    assert code == 4 and "folder = " in err
    (mnist / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(5, np.uint8)))
    code, err = refused(tmp_path, "mnist", f'folder = "{mnist}"')
    assert code == 5 and "is not the published one" in err
    (mnist / "t10k-labels-idx1-ubyte.gz").unlink()
    code, err = refused(tmp_path, "mnist", f'folder = "{mnist}"')
    assert code == 3 and "does not hold t10k-labels-idx1-ubyte.gz" in err


def test_cifar_is_read_by_torchvision_from_the_publishers_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    pixels = generator("cifar").integers(0, 255, (6, 3072), dtype=np.uint8)
    contents: dict[str, Any] = {
        "data_batch_1": {"data": pixels[:4], "labels": [0, 1, 2, 3]},
        "test_batch": {"data": pixels[4:], "labels": [4, 5]},
        "batches.meta": {"label_names": list("abcdefghij")},
    }
    sums = {}
    for name, content in contents.items():
        (batches / name).write_bytes(pickle.dumps(content))
        sums[name] = md5((batches / name).read_bytes()).hexdigest()
    with tarfile.open(tmp_path / CIFAR10.filename, "w:gz") as archive:
        archive.add(batches, batches.name)
    monkeypatch.setattr(CIFAR10, "tgz_md5", md5((tmp_path / CIFAR10.filename).read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    segment = segmented(tmp_path, "cifar10", f'folder = "{tmp_path}"')
    assert np.array_equal(crops_of(segment).reshape(6, 3072), pixels)
    assert read_cells(segment)["class"].tolist() == list("abcdef")


def test_a_class_is_a_word_though_it_looks_like_a_number_or_like_nothing(tmp_path: Path) -> None:
    pets = folder_of(tmp_path / "pets")
    (pets / "cat").rename(pets / "01")
    (pets / "dog").rename(pets / "NA")
    segment = segmented(tmp_path, "image_folder", f'folder = "{pets}"')
    assert read_cells(segment)["class"].tolist() == ["01"] * 3 + ["NA"] * 3


def test_folders_train_and_test_become_official_parts(tmp_path: Path) -> None:
    for part in ("train", "test"):
        folder_of(tmp_path / "pets" / part)
    segment = segmented(tmp_path, "image_folder", f'folder = "{tmp_path / "pets"}"\nparts = true')
    assert read_cells(segment)["official_part"].value_counts().to_dict() == {"train": 6, "test": 6}


def test_pictures_that_change_are_another_data_set_and_their_place_is_not(tmp_path: Path) -> None:
    pets = folder_of(tmp_path / "pets")
    before = segmented(tmp_path, "image_folder", f'folder = "{pets}"').card.fingerprint
    moved = pets.rename(tmp_path / "moved")
    (tmp_path / "pets").mkdir()
    pets = moved.rename(tmp_path / "pets" / "pets")  # elsewhere, under the same name
    assert segmented(tmp_path, "image_folder", f'folder = "{pets}"').card.fingerprint == before
    Image.new("L", (12, 12), 9).save(pets / "cat" / "0.png")
    assert segmented(tmp_path, "image_folder", f'folder = "{pets}"').card.fingerprint != before


def test_the_second_mirror_is_asked_where_the_first_does_not_answer(
    mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import MNIST

    with serving(Manners(mnist)) as address:
        monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/", f"{address}/"])
        assert len(crops_of(segmented(tmp_path, "mnist", "tries = 1"))) == 20
