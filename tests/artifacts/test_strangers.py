"""Artifacts from untrusted sources: no code in them is run, and nothing is written outside the store."""

import io
import json
import os
import pickle
import random
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import fuzzing
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from chain import Chain, run, say
from tiny import tiny_field

from cellssl.artifacts.card import Card, FileEntry, read_card
from cellssl.artifacts.crops import open_crops
from cellssl.artifacts.hashing import sha256_of
from cellssl.artifacts.tables import read_table
from cellssl.bounded import parse_json
from cellssl.datasets.crops.npy_stack import Stack
from cellssl.datasets.tables.csv_table import read_table as read_csv
from cellssl.errors import DataError, IntegrityError


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


@pytest.fixture
def theirs(chain: Chain, tmp_path: Path) -> fuzzing.Store:
    """A store of a stranger, and a secret beside it."""
    return fuzzing.Store.of(chain.root, chain.recipe, tmp_path)


def stores(store: fuzzing.Store) -> list[object]:
    return ["--store", store.root / "mine", "--store", store.theirs, "--force", "--device", "cpu"]


def refused(words: list[object], code: int = 5) -> str:
    """Run a command that must end in a sentence; return that sentence."""
    with fuzzing.watched() as opened:
        said = say(*words)
    assert said.code == code, said.err
    assert not [path for path in opened if "/outside" in path]
    assert said.err.count("error: ") == 1 and "Traceback" not in said.err
    return said.err


def changed(folder: Path, **parts: object) -> None:
    card = json.loads((folder / "artifact.json").read_text())
    fuzzing.seal(folder, {**card, **parts})


def test_a_card_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    folder = tmp_path / "split" / "0123456789ab"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "artifact.json")
    for place in (folder, tmp_path / "pipe.json", Path("/dev/zero")):
        refused(["verify", place], 2 if place != folder else 5)


def test_pipes_in_a_store_are_not_waited_for(chain: Chain, tmp_path: Path) -> None:
    root = chain.copy_cells(tmp_path)
    gathered = chain.made("segment")
    for pipe in ("by-recipe/r/main/all/segment.json", "hashes/a.jsonl", f"segment/{gathered.fingerprint}.lock"):
        (root / pipe).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(root / pipe)
        os.utime(root / pipe, (0, 0))  # a lock that cannot be read counts for two minutes
    (root / "segment" / gathered.fingerprint / "parts.json").unlink()
    refused(["verify", "--store", root])
    said = run("segment", chain.recipe, "--store", root, "--device", "cpu")
    assert said.code == 0, said.err


def test_a_card_is_no_link_to_a_file_elsewhere(theirs: fuzzing.Store) -> None:
    folder = theirs.made("split")
    (folder / "artifact.json").rename(theirs.root / "outside" / "card")
    (folder / "artifact.json").symlink_to(theirs.root / "outside" / "card")
    with pytest.raises(IntegrityError, match="is not the card"):
        read_card(folder)


@pytest.mark.parametrize(
    "text", ["9" * 5000, "[" * 5000 + "]" * 5000, "NaN", "1e999", '{"a": 1, "a": 2}', '"\\ud800"', "-1" + "0" * 30]
)
def test_json_that_python_stumbles_over_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(f'{{"a": {text}}}')


CARDS: dict[str, dict[str, object]] = {
    "inputs": {"segment": "../../outside"},
    "section": [],
    "metrics": [],
    "run": 3,
    "files": {"split.parquet": {"bytes": -1, "sha256": "ab" * 32}},
    "kind": "../outside",
    "fingerprint": "../../../out",
    "extras": ["../../outside/secret"],
    "algorithm": "1",
    "outside": {"a": 1},
}


@pytest.mark.parametrize("part", CARDS)
def test_a_card_with_a_part_of_the_wrong_type_or_a_way_out_is_refused(theirs: fuzzing.Store, part: str) -> None:
    folder = theirs.made("split")
    changed(folder, **{part: CARDS[part]})
    assert str(folder) in refused(["embed", theirs.recipe, "--arm", "intensities", *stores(theirs)])


@pytest.mark.parametrize("metrics", [{}, {"cells": 240, "channels": 3, "crop_px": 48, "input_px": 32}, {"cells": "x"}])
def test_metrics_that_are_missing_or_of_another_type_name_the_card(
    theirs: fuzzing.Store, metrics: dict[str, object]
) -> None:
    folder = theirs.made("pretrain")
    changed(folder, metrics=metrics)
    assert "metrics." in refused(["embed", theirs.recipe, *stores(theirs)])


@pytest.mark.parametrize(
    "parts", ['{"p": "../../outside"}', '{"p": "/outside"}', '{"p": 3}', '["0123456789ab"]', "{}", '{"p": null}', "["]
)
def test_parts_lead_to_artifacts_of_the_store_only(theirs: fuzzing.Store, parts: str) -> None:
    folder = next(one for one in theirs.artifacts("segment") if (one / "parts.json").is_file())
    (folder / "parts.json").write_text(parts)
    fuzzing.seal(folder)
    assert "parts.json" in refused(["embed", theirs.recipe, "--arm", "intensities", *stores(theirs)])


@pytest.mark.parametrize("place", ["/a\0b", "a\0b"])
def test_an_image_with_a_name_that_no_file_can_have_is_refused(theirs: fuzzing.Store, place: str) -> None:
    folder = next(path for path in theirs.artifacts("fetch") if (path / "truth.csv").exists())
    table = pd.read_parquet(folder / "fields.parquet")
    table.loc[0, "path_dna"] = place
    table.to_parquet(folder / "fields.parquet", index=False)
    fuzzing.seal(folder)
    assert "fields.parquet" in refused(["segment", theirs.recipe, *stores(theirs)])
    assert say("verify", folder).code == (5 if place.startswith("/") else 0)


def test_a_report_of_a_training_whose_log_lacks_a_loss_is_refused(theirs: fuzzing.Store) -> None:
    (trained,) = theirs.artifacts("pretrain")
    (trained / "metrics.jsonl").write_text('{"step": 1, "context/chance": 2.0}\n')
    fuzzing.seal(trained)
    words = ["report", theirs.recipe, "--store", theirs.root / "mine", "--store", theirs.theirs, "--force"]
    assert "metrics.jsonl" in refused(words)


def test_a_header_that_claims_400_gigabytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "crops.npy"
    for shape in ((2**20, 3, 256, 256), (-1, 3, 4, 4), (2, 3, 4), (2**62, 2**62, 1, 1)):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<u2", "fortran_order": False, "shape": shape})
        path.write_bytes(header.getvalue() + bytes(100))
        with pytest.raises(IntegrityError, match="is not a stack of crops"):
            open_crops(path)


@pytest.mark.parametrize("dtype", ["<f4", ">u2", "|O", "<U1", "|V2"])
def test_a_stack_of_another_type_is_refused(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "crops.npy", np.zeros((2, 3, 4, 4), dtype), allow_pickle=True)
    with pytest.raises(IntegrityError, match="is not a stack of crops"):
        open_crops(tmp_path / "crops.npy")


def test_an_npz_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("images.npy", "w") as file,
    ):
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (300, 1000, 1000)})
        for _ in range(300):
            file.write(bytes(1_000_000))
    with pytest.raises(DataError, match="more than 200 times"):
        Stack(path, "nyx").shape()


def test_a_table_whose_text_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    text = pa.DictionaryArray.from_arrays(np.zeros(4_000_000, np.int32), pa.array(["x" * 10_000]))
    pq.write_table(pa.table({"a": text}), tmp_path / "t.parquet")
    with fuzzing.watched(), pytest.raises(IntegrityError, match="is not the table"):
        read_table(tmp_path / "t.parquet")


COLUMNS = {
    "no column": lambda table: table.drop_columns(["label"]),
    "lists": lambda table: table.set_column(0, "cell_id", pa.array([[1]] * len(table))),
    "numbers": lambda table: table.set_column(0, "cell_id", pa.array(range(len(table)))),
    "gaps": lambda table: table.set_column(2, "split", pa.nulls(len(table), pa.string())),
    "copies": lambda table: pa.concat_tables([table, table]),
    "unknown cells": lambda table: table.set_column(0, "cell_id", pa.array([f"x{n}" for n in range(len(table))])),
    "unknown parts": lambda table: table.set_column(2, "split", pa.array(["future"] * len(table))),
}


@pytest.mark.parametrize("change", COLUMNS)
def test_a_table_with_other_columns_is_refused(theirs: fuzzing.Store, change: str) -> None:
    folder = theirs.made("split")
    pq.write_table(COLUMNS[change](pq.read_table(folder / "split.parquet")), folder / "split.parquet")
    fuzzing.seal(folder)
    refused(["embed", theirs.recipe, "--arm", "intensities", *stores(theirs)])


@pytest.mark.parametrize("seed", range(4))
def test_weights_that_lie_about_their_places_are_refused_or_read(theirs: fuzzing.Store, seed: int) -> None:
    folder = theirs.made("pretrain")
    file = folder / "encoder.safetensors"
    file.write_bytes(fuzzing.changed_safetensors(file.read_bytes(), random.Random(seed)))
    fuzzing.seal(folder)
    assert not fuzzing.fault_of(["embed", theirs.recipe, *stores(theirs)])


@pytest.mark.parametrize("kind", ["segment", "split", "embed"])
def test_a_few_forged_artifacts_end_in_a_sentence(theirs: fuzzing.Store, kind: str) -> None:
    for seed in range(2):
        chance = random.Random(seed)
        folder = chance.choice(theirs.artifacts(kind))
        what = fuzzing.forge(folder, chance)
        for words in (["verify", folder], ["split", theirs.recipe, *stores(theirs)]):
            assert not (fault := fuzzing.fault_of(words)), f"{what}: {fault}"
        theirs.restore(folder)


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000, "nan", "0x" + "f" * 4000])
def test_a_recipe_with_such_a_number_is_a_usage_error(tmp_path: Path, value: str) -> None:
    (tmp_path / "r.toml").write_text(f'name = "r"\n[split]\nseed = {value}\n')
    refused(["status", tmp_path / "r.toml"], 2)
    (tmp_path / "r.toml").write_text('name = "r"\n[fetch]\ndataset = "simulated"\n')
    refused(["status", tmp_path / "r.toml", "--set", f"split.seed={value}"], 2)


def test_a_table_that_is_a_device_is_bad_data(tmp_path: Path) -> None:
    for place in (Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_csv(place)
