"""Artifacts from untrusted sources: no code in them is run, and nothing is written outside the store."""

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from chain import Chain, run, say
from tiny import tiny_field

from cellssl.artifacts.card import Card, FileEntry
from cellssl.artifacts.hashing import sha256_of


def forged(folder: Path, card: Card) -> Path:
    """Write a card that fits the files of a folder, as an attacker could."""
    files = {
        path.relative_to(folder).as_posix(): FileEntry(path.stat().st_size, sha256_of(path))
        for path in folder.rglob("*")
        if path.is_file() and path.name != "artifact.json"
    }
    replace(card, files=files).write(folder)
    return folder


def everything_but(root: Path, *folders: Path) -> set[Path]:
    return {path for path in root.rglob("*") if not any(path.is_relative_to(folder) for folder in folders)}


class Bomb:
    """An object that creates a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def copied(chain: Chain, stage: str, root: Path) -> Path:
    made = chain.made(stage)
    return Path(shutil.copytree(made.path, root / stage / made.fingerprint))


def test_a_field_named_like_a_path_writes_nothing_outside_the_store(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "dna.tif", tiny_field("a", "dna"))
    evil = "../" * 4 + "evil"
    (tmp_path / "plate.csv").write_text(f"plate,well,site,compound,dna\n{evil},A01,1,DMSO,dna.tif\n")
    (tmp_path / "r.toml").write_text(
        'name = "r"\n[fetch.dataset]\nname = "image_table"\ntable = "plate.csv"\nchannels = { dna = "dna" }\n'
        "pixel_um = 0.5\n[segment]\ncrop_px = 32\nkeep_labels = true\nworkers = 1\n"
    )
    store = tmp_path / "a/b/c/d/store"
    before = everything_but(tmp_path, store)
    said = say("run", tmp_path / "r.toml", "--store", store, "--to", "segment")
    assert said.code in (0, 2, 3), said.err
    assert everything_but(tmp_path, store) - {*store.parents} == before
    assert not list(tmp_path.rglob("*evil*.tif"))


@pytest.mark.parametrize("name", ["centroids.npz", "encoder.safetensors"])
def test_pickles_in_place_of_numbers_are_not_loaded(chain: Chain, tmp_path: Path, name: str) -> None:
    stage = "cluster" if name.endswith("npz") else "pretrain"
    theirs, mark = copied(chain, stage, tmp_path / "theirs"), tmp_path / "mark"
    bomb = np.empty(1, dtype=object)
    bomb[0] = Bomb(mark)
    if name.endswith("npz"):
        np.savez(theirs / name, centroids=bomb)
    else:
        (theirs / name).write_bytes(pickle.dumps(Bomb(mark)))
    forged(theirs, chain.made(stage).card)
    setting = f"cluster.assign_to={theirs}" if stage == "cluster" else f"embed.model={theirs}"
    store = ["--store", tmp_path / "mine", "--store", tmp_path / "theirs", "--store", chain.root]
    words = ["cluster" if stage == "cluster" else "embed", chain.recipe, *store, "--set", setting]
    assert run(*words).code != 0
    assert not mark.exists()


@pytest.mark.parametrize("field", ["fingerprint", "kind", "inputs", "parts"])
def test_a_card_with_a_path_makes_no_command_remove_or_write_there(chain: Chain, tmp_path: Path, field: str) -> None:
    root, precious = tmp_path / "store", tmp_path / "precious"
    precious.mkdir()
    (precious / "work").write_text("years")
    card = chain.made("split").card
    theirs = root / "split" / card.fingerprint
    theirs.mkdir(parents=True)
    way_out = "../../precious"
    changed = {"fingerprint": way_out, "kind": way_out, "inputs": {"segment": way_out}, "parts": {}}[field]
    if field == "parts":
        (theirs / "parts.json").write_text(json.dumps({"p": way_out}))
    forged(theirs, card if field == "parts" else replace(card, **{field: changed}))
    for words in (["verify", theirs], ["diff", theirs, theirs], ["gc", "--yes"]):
        say(*words, "--store", root)
    exported = tmp_path / "e.json"
    replace(card, **({} if field == "parts" else {field: changed})).write(tmp_path)
    (tmp_path / "artifact.json").rename(exported)
    say("embed", chain.recipe, "--store", root, "--input", exported, "--output", tmp_path / "out")
    assert (precious / "work").read_text() == "years"
    assert list(precious.iterdir()) == [precious / "work"]
