"""Small made-up files in the form that each data set reads; every function writes them into a folder."""

import gzip
import pickle
import struct
import tarfile
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tiny import tiny_field

from cellssl.randomness import generator

CLASS_NAMES = {"cifar10": list("abcdefghij"), "cifar100": [f"class {number:02d}" for number in range(100)]}


def write_image_table(folder: Path) -> Path:
    """Write plate.csv and its images: two plates of two wells with two fields each; return the folder."""
    lines = ["plate,well,site,drug,dose,dna,actin"]
    (folder / "images").mkdir(parents=True)
    for name in ("P1", "P2"):
        for well, drug, dose in (("B02", "DMSO", "0"), ("C03", "drug-a", "0.3")):
            for site in (1, 2):
                stem = f"images/{name}_{well}_{site}"
                for channel in ("dna", "actin"):
                    tifffile.imwrite(folder / f"{stem}_{channel}.tif", tiny_field(stem, channel))
                lines.append(f"{name},{well},{site},{drug},{dose},{stem}_dna.tif,{stem}_actin.tif")
    (folder / "plate.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_crop_stack(folder: Path) -> Path:
    """Write twelve cells of two plates in mixed order: cells.csv, and stack.npy as (n, y, x, c); return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = generator("stack").integers(100, 4000, (12, 16, 16, 2), dtype=np.uint16)
    np.save(folder / "stack.npy", pixels)
    rows = [f"P{1 + i % 2},{'B02' if i < 6 else 'C03'},{'DMSO,0' if i < 6 else 'drug-a,3'},{i * 10}" for i in range(12)]
    (folder / "cells.csv").write_text("\n".join(["plate,well,drug,dose,size", *rows]) + "\n")
    return folder


def write_class_folders(folder: Path, side: int = 12, mode: str = "L") -> Path:
    """Write two classes of three pictures each; return the folder."""
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(3):
            shape = (side, side) if mode == "L" else (side, side, 3)
            pixels = generator("picture", name, number).integers(0, 255, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def idx_bytes(array: np.ndarray) -> bytes:
    """Return an array of bytes in the format of the MNIST files."""
    return gzip.compress(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes(), mtime=0)


def write_mnist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write twenty digits as MNIST's four files, and patch their checksums into torchvision; return the folder."""
    from torchvision.datasets import MNIST

    folder.mkdir(parents=True)
    digits = generator("mnist").integers(0, 255, (20, 28, 28), dtype=np.uint8)
    files = {
        "train-images-idx3-ubyte.gz": digits[:15],
        "train-labels-idx1-ubyte.gz": np.arange(15, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte.gz": digits[15:],
        "t10k-labels-idx1-ubyte.gz": np.arange(5, dtype=np.uint8),
    }
    for name, array in files.items():
        (folder / name).write_bytes(idx_bytes(array))
    monkeypatch.setattr(MNIST, "resources", [(name, md5_of(folder / name)) for name in files])
    return folder


def cifar_pixels() -> np.ndarray:
    """Return six photographs, (6, 3072): all red values of a picture, then green, then blue."""
    return generator("cifar").integers(0, 255, (6, 3072), dtype=np.uint8)


def write_cifar(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write six photographs of classes 0 to 5, four of them for training, as the archive of cifar10 or cifar100.

    Patches the checksums into torchvision; returns the folder.
    """
    from torchvision import datasets

    reader = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    train, test, meta = (
        ("data_batch_1", "test_batch", "batches.meta") if name == "cifar10" else ("train", "test", "meta")
    )
    labels = "labels" if name == "cifar10" else "fine_labels"
    batches = folder / reader.base_folder
    batches.mkdir(parents=True)
    contents: dict[str, Any] = {
        train: {"data": cifar_pixels()[:4], labels: [0, 1, 2, 3]},
        test: {"data": cifar_pixels()[4:], labels: [4, 5]},
        meta: {reader.meta["key"]: CLASS_NAMES[name]},
    }
    for file, content in contents.items():
        (batches / file).write_bytes(pickle.dumps(content))
    with tarfile.open(folder / reader.filename, "w:gz") as archive:
        archive.add(batches, batches.name)
    monkeypatch.setattr(reader, "tgz_md5", md5_of(folder / reader.filename))
    monkeypatch.setattr(reader, "train_list", [[train, md5_of(batches / train)]])
    monkeypatch.setattr(reader, "test_list", [[test, md5_of(batches / test)]])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": md5_of(batches / meta)})
    return folder


def md5_of(path: Path) -> str:
    return md5(path.read_bytes()).hexdigest()
