"""Artifacts of earlier versions, kept in tests/archive, can be read; each is a store of the recipe of the tests."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from chain import say
from conftest import REPOSITORY
from safetensors.numpy import load_file

from cellssl.artifacts.card import FORMAT
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_table
from cellssl.config.recipe import CHAIN

ARCHIVES = sorted((REPOSITORY / "tests" / "archive").glob("format-*.tar.gz"))


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.removesuffix(".tar.gz"))
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a store that an earlier version wrote."""
    with tarfile.open(request.param) as archive:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since Python 3.11.4
        archive.extractall(tmp_path / "old", **safe)
    return tmp_path / "old"


def of_kind(store: Path, kind: str) -> Artifact:
    (folder,) = (store / kind).iterdir()
    return Store(store).resolve(folder, CHAIN)


def test_there_is_an_archive_of_the_present_format() -> None:
    assert f"format-{FORMAT}.tar.gz" in [path.name for path in ARCHIVES]


def test_every_byte_agrees_with_its_card(old: Path) -> None:
    folders = sorted(path.parent for path in old.glob("*/*/artifact.json"))
    assert len(folders) >= 4
    said = say("verify", "--shallow", *folders)  # their inputs are not in the archive
    assert said.code == 0, said.err
    assert "are as they were written" in said.out


def test_tables_vectors_and_weights_are_read(old: Path) -> None:
    assert {"cell_id", "split", "label"} <= set(read_table(of_kind(old, "split").file("split.parquet")).columns)
    vectors = read_table(of_kind(old, "embed").file("embeddings.parquet"))
    numbers = vectors[[name for name in vectors.columns if name.startswith("emb_")]].to_numpy()
    assert numbers.shape[1] == 16
    assert np.isfinite(numbers).all()
    assert load_file(of_kind(old, "pretrain").file("encoder.safetensors"))


def test_old_vectors_are_evaluated_by_this_version(old: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('name = "r"\n[fetch]\ndataset = "simulated"\n[evaluate]\nneighbours = 3\n')
    vectors = of_kind(old, "embed")
    said = say("evaluate", recipe, "--store", tmp_path / "new", "--store", old, "--input", vectors.path)
    assert said.code == 0, said.err
    assert "evaluate.neighbours: 3 against" in say("diff", said.line, of_kind(old, "evaluate").path).out
