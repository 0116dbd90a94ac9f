"""Damaged and forged files of every kind, some minutes of each: a sentence and an exit code, and nothing read outside.

CELLSSL_FUZZ_S is how long each kind is tried (60 seconds), CELLSSL_FUZZ_SEED where to begin (0).
"""

import io
import os
import random
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from chain import Chain
from conftest import REPOSITORY
from fuzzing import Store, changed_recipe, fault_of, flipped, forge, watched
from PIL import Image
from tiny import tiny_field

from cellssl.config import recipe as recipes
from cellssl.datasets.crops.npy_stack import Stack
from cellssl.datasets.tables.csv_table import read_table
from cellssl.datasets.transfer.byte_ranges import LocalByteRanges
from cellssl.datasets.transfer.zip_directory import (
    BrokenArchiveError,
    BrokenMemberError,
    extract_member,
    read_directory,
)
from cellssl.errors import CellsslError
from cellssl.images.reading import read_channel, read_labels
from cellssl.learning.weight_files import read_tensors

SECONDS = float(os.environ.get("CELLSSL_FUZZ_S", "60"))
SEED = int(os.environ.get("CELLSSL_FUZZ_SEED", "0"))
pytestmark = pytest.mark.soak


def tries(kind: str) -> Iterator[random.Random]:
    """Yield a source of chance per try, and print how many there were; its seed names a try that failed."""
    end, number = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        yield random.Random(f"{kind}.{SEED}.{number}")
        number += 1
    print(f"\n{kind}, seed {SEED}: {number} tries in {SECONDS:.0f} s")


@pytest.mark.parametrize("kind", ["fetch", "segment", "split", "pretrain", "embed", "cluster", "evaluate", "hits"])
def test_forged_artifacts_end_in_a_sentence(chain: Chain, tmp_path: Path, kind: str) -> None:
    store = Store.of(chain.root, chain.recipe, tmp_path)
    for number, chance in enumerate(tries(kind)):
        folder = chance.choice(store.artifacts(kind))
        what = forge(folder, chance)
        for words in store.commands(folder, chance):
            assert not (fault := fault_of(words)), f"{kind}.{SEED}.{number}: {what}: {words[0]}: {fault}"
        store.restore(folder)


def image_files(folder: Path) -> list[Path]:
    """One plane in every container and compression that is read."""
    plane = tiny_field("a", "dna")
    for name in (None, "lzw", "zlib", "packbits", "zstd", "jpeg2000"):
        tifffile.imwrite(folder / f"{name}.tif", plane, compression=name)
    tifffile.imwrite(folder / "tiles.tif", plane, tile=(32, 32), compression="zlib", predictor=True)
    tifffile.imwrite(folder / "big.tif", plane, bigtiff=True, byteorder=">")
    Image.fromarray(plane).save(folder / "a.png")
    for suffix in ("bmp", "jpg"):
        Image.fromarray((plane >> 8).astype(np.uint8)).save(folder / f"a.{suffix}")
    return sorted(folder.iterdir())


def test_damaged_images_are_data_errors(tmp_path: Path) -> None:
    good = [(path.suffix, path.read_bytes()) for path in image_files(tmp_path)]
    for chance in tries("image"):
        suffix, data = chance.choice(good)
        file = tmp_path / f"damaged{suffix}"
        file.write_bytes(flipped(data, chance))
        read_all_ways(file, read_channel, read_labels)


def read_all_ways(file: Path, *readers: object) -> None:
    for reader in readers:
        with watched():
            try:
                reader(file)  # type: ignore[operator]
            except CellsslError as error:
                assert error.message


def test_damaged_stacks_tables_and_weights_are_errors_with_a_sentence(tmp_path: Path, chain: Chain) -> None:
    stack = np.arange(5 * 8 * 8, dtype=np.uint16).reshape(5, 8, 8)
    np.save(tmp_path / "a.npy", stack)
    np.savez_compressed(tmp_path / "a.npz", images=stack)
    (tmp_path / "a.csv").write_text("plate,well\n" + "P1,A01\n" * 20)
    good = [path.read_bytes() for path in sorted(tmp_path.glob("a.*"))]
    weights = chain.made("pretrain").file("encoder.safetensors").read_bytes()
    for chance in tries("user files"):
        for place, (name, data) in enumerate(zip(("a.csv", "a.npy", "a.npz"), good, strict=True)):
            (tmp_path / name).write_bytes(flipped(data, chance))
            if place == 0:
                read_all_ways(tmp_path / name, read_table)
            else:
                read_all_ways(tmp_path / name, lambda path: Stack(path, "nyx").crops(np.arange(2)), shape_of)
        (tmp_path / "w.safetensors").write_bytes(flipped(weights, chance))
        read_all_ways(tmp_path / "w.safetensors", read_tensors)


def shape_of(path: Path) -> tuple[int, ...]:
    return Stack(path, "nyx").shape()


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(20):
            archive.writestr(f"P/{number}.tif", bytes(5_000) + bytes([number]) * 500)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for chance in tries("archive"):
        file, member = tmp_path / "a.zip", f"P/{chance.randrange(20)}.tif"
        file.write_bytes(flipped(packed.getvalue(), chance))
        with watched():
            try:
                ranges = LocalByteRanges(file)
                entry = read_directory(ranges).find(member)
                extract_member(ranges, entry, member, tmp_path / "out" / "x.tif", scratch, lambda _: None)
            except (BrokenArchiveError, BrokenMemberError, CellsslError, LookupError):
                pass
        assert not list(scratch.iterdir())


def test_damaged_recipes_are_usage_errors(tmp_path: Path) -> None:
    good = [path.read_text() for path in sorted((REPOSITORY / "recipes").glob("*.toml"))]
    for chance in tries("recipe"):
        file = tmp_path / "r.toml"
        file.write_text(changed_recipe(chance.choice(good), chance), encoding="utf-8", errors="surrogatepass")
        with watched():
            try:
                recipes.load(str(file))
            except CellsslError as error:
                assert error.exit_code == 2, error.message
