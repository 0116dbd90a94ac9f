"""Pictures with classes become crops: the library's digits, published sets from a folder or a server, one's own."""

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from cellssl.artifacts.tables import read_table
from cellssl.datasets import cifar10, digits, image_folder, mnist
from cellssl.errors import DataError, IntegrityError, NetworkError, UsageError
from cellssl.randomness import generator

Fetched = tuple[int, Path, dict[str, Any]]
NO_CACHE = Path("/not/there")


def made(chosen: Any, out: Path) -> tuple[np.ndarray, pd.DataFrame]:
    """What `make` writes: the crops, and the row of each."""
    for _ in chosen.make(chosen.plan(NO_CACHE), out):
        pass
    return np.load(out / "crops.npy"), pd.read_csv(out / "cells.csv", dtype=str)


def pixels(n: int, side: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """(n, y, x) or (n, y, x, c), uint8."""
    shape = (n, side, side) if channels == 1 else (n, side, side, channels)
    return generator("pictures", seed).integers(0, 256, shape, dtype=np.uint8)


def test_digits_are_scikit_learns(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    crops, rows = made(digits.Settings(), tmp_path)
    loaded = load_digits()
    assert np.array_equal(crops[:, 0], loaded.images)
    assert np.array_equal(rows["class"].astype(int), loaded.target)
    assert list(rows.columns) == ["cell_id", "field_id", "class"]


def idx(array: np.ndarray) -> bytes:
    """An array in the format of MNIST's files, packed."""
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes(), mtime=0)


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four files like MNIST's, of 40 and 20 pictures, which torchvision takes for the published ones."""
    from torchvision.datasets import MNIST

    folder = tmp_path / "published"
    folder.mkdir()
    for part, n in (("train", 40), ("t10k", 20)):
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(pixels(n, 28, seed=n)))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(n) % 10))
    sums = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name, _ in MNIST.resources}
    monkeypatch.setattr(MNIST, "resources", list(sums.items()))
    return folder


def test_mnist_comes_from_a_folder_with_the_publishers_parts(small_mnist: Path, tmp_path: Path) -> None:
    crops, rows = made(mnist.Settings(folder=small_mnist), tmp_path / "out")
    assert np.array_equal(crops[:, 0], np.concatenate([pixels(40, 28, seed=40), pixels(20, 28, seed=20)]))
    assert rows["official_part"].value_counts().to_dict() == {"train": 40, "test": 20}
    assert list(rows["class"]) == [str(n % 10) for n in (*range(40), *range(20))]
    assert rows["cell_id"].is_unique
    assert set(rows["field_id"]) == {field.field_id for field in mnist.Settings().plan(NO_CACHE)}


@pytest.fixture
def server(small_mnist: Path) -> Iterator[str]:
    """The address of a server that gives out the folder."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(small_mnist))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()


@pytest.fixture
def nobody() -> str:
    """An address that nobody listens at."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as gone:
        return f"http://127.0.0.1:{gone.server_port}/"


def test_a_downloaded_set_is_the_one_of_a_folder_and_the_second_mirror_is_asked(
    small_mnist: Path, server: str, nobody: str, cellssl: Callable[..., Fetched], tmp_path: Path, monkeypatch: Any
) -> None:
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", [nobody, server])
    (tmp_path / "r.toml").write_text('[fetch.dataset]\nname = "mnist"\ntries = 1\n')
    downloaded = cellssl("fetch", str(tmp_path / "r.toml"))
    local = cellssl("fetch", str(tmp_path / "r.toml"), "--set", f"fetch.dataset.folder={small_mnist}", store="other")
    assert downloaded[0] == local[0] == 0
    assert downloaded[2]["fingerprint"] == local[2]["fingerprint"]
    assert downloaded[2]["files"] == local[2]["files"]


def test_without_a_network_the_exit_is_4_and_the_cure_names_a_folder(
    nobody: str, cellssl: Callable[..., Fetched], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", [nobody])
    (tmp_path / "r.toml").write_text('[fetch.dataset]\nname = "mnist"\ntries = 1\n')
    code, _, card = cellssl("fetch", str(tmp_path / "r.toml"))
    assert code == NetworkError.exit_code
    assert 'fetch.dataset = { name = "mnist", folder = ' in card["said"]


def test_another_file_under_the_published_name_is_refused(small_mnist: Path, tmp_path: Path) -> None:
    (small_mnist / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(20)))
    with pytest.raises(IntegrityError, match="t10k-labels"):
        made(mnist.Settings(folder=small_mnist), tmp_path / "out")


def test_a_file_that_is_not_in_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz"):
        made(mnist.Settings(folder=tmp_path), tmp_path / "out")


def test_cifar_keeps_its_colours_and_the_names_of_its_classes(tmp_path: Path, monkeypatch: Any) -> None:
    from torchvision.datasets import CIFAR10

    names, content = ["ant", "bee"], pixels(6, 32, 3)
    flat = content.transpose(0, 3, 1, 2).reshape(6, -1)
    batch = {name: {"data": flat[row : row + 1], "labels": [row % 2]} for row, name in enumerate("abcde")}
    files = {**batch, "test": {"data": flat[5:], "labels": [1]}, "batches.meta": {"label_names": names}}
    packed = {name: pickle.dumps(value) for name, value in files.items()}
    sums = {name: hashlib.md5(value).hexdigest() for name, value in packed.items()}
    with tarfile.open(tmp_path / CIFAR10.filename, "w:gz") as archive:
        for name, value in packed.items():
            entry = tarfile.TarInfo(f"{CIFAR10.base_folder}/{name}")
            entry.size = len(value)
            archive.addfile(entry, io.BytesIO(value))
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5((tmp_path / CIFAR10.filename).read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, "train_list", [[name, sums[name]] for name in batch])
    monkeypatch.setattr(CIFAR10, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": sums["batches.meta"]})
    crops, rows = made(cifar10.Settings(folder=tmp_path), tmp_path / "out")
    assert np.array_equal(crops, content.transpose(0, 3, 1, 2))
    assert list(rows["class"]) == ["ant", "bee", "ant", "bee", "ant", "bee"]
    assert list(rows["official_part"]) == ["train"] * 5 + ["test"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six PNGs of 12 x 12 px in two classes, one of them called 01."""
    for number, picture in enumerate(pixels(6, 12)):
        classed = tmp_path / "pets" / ("01" if number < 3 else "NA")
        classed.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(classed / f"{number}.png")
    (tmp_path / "pets" / "01" / "Thumbs.db").write_bytes(b"no picture")
    return tmp_path / "pets"


def test_a_folder_a_class_becomes_crops_with_the_folders_names(
    folder: Path, cellssl: Callable[..., Fetched], tmp_path: Path
) -> None:
    (tmp_path / "r.toml").write_text(
        '[fetch.dataset]\nname = "image_folder"\nfolder = "pets"\n[segment]\nreference = "range"\n'
    )
    assert cellssl("fetch", str(tmp_path / "r.toml"))[0] == 0
    code, path, _ = cellssl("segment", str(tmp_path / "r.toml"))
    assert code == 0
    cells, scale = read_table(path / "cells.parquet"), read_table(path / "scale.parquet")
    assert list(cells["class"]) == ["01"] * 3 + ["NA"] * 3
    assert (scale["low"].tolist(), scale["high"].tolist()) == ([0], [255])


def test_pictures_that_change_make_another_result_and_a_place_does_not(folder: Path, tmp_path: Path) -> None:
    def identity(where: Path) -> object:
        chosen = image_folder.Settings(folder=where)
        return chosen.identity(chosen.plan(NO_CACHE), lambda path: hashlib.sha256(path.read_bytes()).hexdigest())

    before = identity(folder)
    assert identity(folder.rename(tmp_path / "moved")) == before
    Image.fromarray(pixels(1, 12, seed=9)[0]).save(tmp_path / "moved" / "01" / "0.png")
    assert identity(tmp_path / "moved") != before


def test_parts_of_a_folder_become_official_parts(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sorted").mkdir()
    folder.rename(tmp_path / "sorted" / "train")
    (tmp_path / "sorted" / "test" / "01").mkdir(parents=True)
    Image.fromarray(pixels(1, 12)[0]).save(tmp_path / "sorted" / "test" / "01" / "0.png")
    _, rows = made(image_folder.Settings(folder=tmp_path / "sorted", parts=True), tmp_path / "out")
    assert rows["official_part"].value_counts().to_dict() == {"train": 6, "test": 1}


def test_a_side_brings_pictures_of_all_sizes_to_one_and_keeps_their_middle(tmp_path: Path) -> None:
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    striped = np.zeros((10, 30, 3), np.uint8)
    striped[:, 10:20] = (10, 20, 30)
    Image.fromarray(striped).save(tmp_path / "pets" / "cat" / "a.png")
    tifffile.imwrite(tmp_path / "pets" / "cat" / "b.tif", np.full((20, 20, 3), 7, np.uint8), photometric="rgb")
    crops, _ = made(image_folder.Settings(folder=tmp_path / "pets", side_px=10), tmp_path / "out")
    assert crops.shape == (2, 3, 10, 10)
    assert (crops[0] == np.array([10, 20, 30])[:, None, None]).all()
    assert (crops[1] == 7).all()


def _larger(folder: Path) -> None:
    Image.fromarray(pixels(1, 14)[0]).save(folder / "NA" / "9.png")


def _oblong(folder: Path) -> None:
    Image.fromarray(pixels(1, 14)[0][:10]).save(folder / "01" / "0.png")


def _coloured(folder: Path) -> None:
    Image.fromarray(pixels(1, 12, 3)[0]).save(folder / "NA" / "9.png")


def _palette(folder: Path) -> None:
    Image.fromarray(pixels(1, 12)[0]).convert("P").save(folder / "NA" / "9.png")


def _cut_off(folder: Path) -> None:
    whole = (folder / "NA" / "5.png").read_bytes()
    (folder / "NA" / "5.png").write_bytes(whole[: len(whole) // 2])


def _empty_class(folder: Path) -> None:
    (folder / "none").mkdir()


@pytest.mark.parametrize(
    ("harm", "word"),
    [
        (_larger, "14 x 14 pixels"),
        (_oblong, "no square"),
        (_coloured, "RGB of 8 bits"),
        (_palette, "Pillow calls it P"),
        (_cut_off, "cannot be read"),
        (_empty_class, "holds no picture"),
    ],
)
def test_pictures_that_do_not_fit_are_named_with_a_cure(
    folder: Path, tmp_path: Path, harm: Callable[[Path], None], word: str
) -> None:
    harm(folder)
    with pytest.raises(DataError, match=word) as caught:
        made(image_folder.Settings(folder=folder), tmp_path / "out")
    assert caught.value.hint


def test_a_folder_that_is_not_there_or_has_no_classes_is_a_slip(tmp_path: Path) -> None:
    for place in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UsageError):
            image_folder.Settings(folder=place).plan(NO_CACHE)


def test_a_range_is_asked_only_of_data_that_know_it(cellssl: Callable[..., Fetched], tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", np.ones((4, 8, 8, 1), np.uint8))
    (tmp_path / "cells.csv").write_text("plate\n" + "P1\n" * 4)
    (tmp_path / "r.toml").write_text(
        '[fetch.dataset]\nname = "crop_stack"\nstack = "stack.npy"\ntable = "cells.csv"\nchannels = ["dna"]\n'
        'columns = { plate = "plate" }\n[segment]\nreference = "range"\n'
    )
    assert cellssl("fetch", str(tmp_path / "r.toml"))[0] == 0
    code, _, card = cellssl("segment", str(tmp_path / "r.toml"))
    assert code == UsageError.exit_code
    assert "does not say what range" in card["said"]
