"""verify: every byte of a result, and of all that it stands on, is compared with the cards."""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tifffile
from chain import Chain, Said, say
from tiny import tiny_field

from cellssl.artifacts.card import FileEntry
from cellssl.artifacts.hash_cache import HashCache
from cellssl.artifacts.hashing import Hashed, identity_of

TABLE = "plate,well,site,compound,dna\nP,A01,1,DMSO,a.tif\nP,A02,1,drug,b.tif\n"
RECIPE = """
name = "own"
[fetch.dataset]
name = "image_table"
table = "plate.csv"
channels = { dna = "dna" }
columns = { plate = "plate", well = "well", site = "site", compound = "compound" }
pixel_um = 0.5
"""


@pytest.fixture
def mine(chain: Chain, tmp_path: Path) -> Chain:
    """The whole chain in a store of its own, which a test may damage."""
    shutil.copytree(chain.root, tmp_path / "store")
    return replace(chain, root=tmp_path / "store")


def verify(root: Path, *words: object) -> Said:
    return say("verify", *words, "--store", root)


def zero(file: Path) -> Path:
    """Write zeros over the last bytes of a file, whose size and time stay."""
    before = file.stat()
    with file.open("r+b") as opened:
        opened.seek(-100, os.SEEK_END)
        opened.write(bytes(100))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    return file


@pytest.mark.parametrize(("stage", "pattern"), [("segment", "crops.npy"), ("fetch", "*/*.tif")])
def test_zeroed_pixels_of_a_part_are_found_from_the_artifact_that_gathers(
    mine: Chain, stage: str, pattern: str
) -> None:
    file = zero(next((mine.root / stage).glob(f"*/{pattern}")))
    for words in ([mine.made("segment").path], []):
        said = verify(mine.root, *words)
        assert said.code == 5
        assert f"{file} does not have the bytes that its card lists" in said.err
        assert f"cellssl {stage} RECIPE --plate Sim1_00001 --store {mine.root} --force" in said.err
    assert verify(mine.root, mine.made("segment").path, "--shallow").code == 0


def test_the_cures_that_verify_prints_repair_the_store(mine: Chain) -> None:
    aside = len(list(mine.root.glob("*/*.aside-*")))
    zero(mine.made("split").path / "split.parquet")
    zero(mine.made("embed", "intensities").path / "embeddings.parquet")
    faults = json.loads(verify(mine.root, "--json").out)["faults"]
    assert len(faults) == 2
    for fault in faults:
        command, _, recipe = fault["cure"].removesuffix(" makes it again").partition(" (RECIPE is ")
        assert recipe == "'tiny')"
        assert say(*command.replace("RECIPE", str(mine.recipe)).split()[1:]).code == 0
    said = verify(mine.root)
    assert said.code == 0
    assert f"{aside + 2} results set aside" in said.err


@pytest.mark.parametrize("stage", ["segment", "pretrain", "embed"])
def test_a_stage_reads_no_damaged_bytes(mine: Chain, stage: str) -> None:
    name = {"segment": "crops.npy", "pretrain": "encoder.safetensors", "embed": "embeddings.parquet"}[stage]
    file = next((mine.root / stage).glob(f"*/{name}")) if stage == "segment" else mine.made(stage).path / name
    zero(file)
    said = mine.say("cluster" if stage == "embed" else "embed", "--force")
    assert said.code == 5
    assert f"{file} does not have the bytes that its card lists" in said.err
    assert f"cellssl {stage} RECIPE" in said.err


def test_what_a_chain_has_just_written_is_not_read_again(made_once: Chain) -> None:
    cache = HashCache(made_once.root / "hashes")
    for stage in ("segment", "split", "pretrain", "embed"):
        artifact = made_once.made(stage)
        assert {name for name in artifact.card.files if "/" not in name} == {
            name for name, entry in artifact.card.files.items() if cache.known(artifact.path / name) == entry.sha256
        }


def test_verify_reads_what_the_cache_vouches_for_and_corrects_the_cache(mine: Chain) -> None:
    file = zero(mine.made("split").path / "split.parquet")
    right = mine.made("split").card.files["split.parquet"].sha256
    HashCache(mine.root / "hashes").note({file: Hashed(right, identity_of(file), settled=True)})
    assert verify(mine.root, mine.made("split").path, "--shallow").code == 5


def test_up_to_date_says_what_was_not_compared_and_refuses_what_is_cut_short(mine: Chain) -> None:
    said = mine.say("segment")
    assert said.code == 0
    assert "not compared with the card since it came here or changed" in said.err
    crops = next((mine.root / "segment").glob("*/crops.npy"))
    os.truncate(crops, crops.stat().st_size - 2)
    said = mine.say("segment")
    assert said.code == 5
    assert f"{crops} is " in said.err and "cellssl segment RECIPE --plate" in said.err


def test_an_image_of_the_user_that_changed_is_found(tmp_path: Path) -> None:
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", tiny_field(name, "dna"))
    (tmp_path / "plate.csv").write_text(TABLE)
    (tmp_path / "own.toml").write_text(RECIPE)
    fetched = say("fetch", tmp_path / "own.toml", "--store", tmp_path / "store").line
    assert verify(tmp_path / "store").code == 0
    zero(tmp_path / "a.tif")
    (tmp_path / "b.tif").unlink()
    said = verify(tmp_path / "store", fetched)
    assert said.code == 5
    assert "a.tif has changed since it was fetched" in said.err
    assert "b.tif is an image of yours and cannot be read" in said.err
    assert "put the former file back" in said.err


def test_an_input_in_no_known_store_is_said_and_is_no_damage(chain: Chain, tmp_path: Path) -> None:
    embed = chain.made("embed")
    copied = shutil.copytree(embed.path, tmp_path / "embed" / embed.fingerprint)
    said = verify(tmp_path)
    assert said.code == 2
    assert "is in no known store, so it was not compared; nor were 1 others" in said.err
    assert verify(tmp_path, "--shallow").code == 0
    assert say("verify", copied, "--store", tmp_path, "--store", chain.root).code == 0


def test_a_part_that_is_gone_is_damage(mine: Chain) -> None:
    (part,) = json.loads(mine.made("segment").file("parts.json").read_text()).values()
    shutil.rmtree(mine.root / "segment" / part)
    said = verify(mine.root, mine.made("segment").fingerprint)
    assert said.code == 5
    assert "it holds the files of plate Sim1_00001" in said.err


@pytest.mark.parametrize(
    ("make", "words"),
    [
        ("aaaaaaaaaaaa.partial", "unfinished work"),
        ("notes", "is no artifact: it holds no artifact.json"),
        ("", "is a folder of artifacts"),
        ("..", "is a store, not an artifact"),
        ("0/table", "is a file"),
    ],
)
def test_what_is_no_artifact_is_called_what_it_is(chain: Chain, tmp_path: Path, make: str, words: str) -> None:
    shutil.copytree(chain.made("split").path, tmp_path / "split" / "0")
    place = tmp_path / "split" / make
    if make.startswith("0"):
        place.write_text("")
    else:
        place.mkdir(exist_ok=True)
    said = verify(tmp_path, place)
    assert said.code == 2
    assert words in said.err


def test_a_result_set_aside_is_compared_and_gc_is_its_cure(mine: Chain) -> None:
    split = mine.made("split").path
    aside = split.rename(split.with_name(f"{split.name}.aside-0123abcd"))
    assert verify(mine.root, aside).code == 0
    zero(aside / "split.parquet")
    said = verify(mine.root, aside)
    assert said.code == 5
    assert "cellssl gc --yes removes it" in said.err


def test_a_store_that_is_not_there_or_empty_is_not_called_whole(tmp_path: Path) -> None:
    assert verify(tmp_path / "nowhere").code == 2
    assert verify(tmp_path).code == 2
    assert list(tmp_path.iterdir()) == []


def test_nothing_outside_the_stores_is_read(mine: Chain, tmp_path: Path) -> None:
    whole = mine.made("segment")
    for parts in ({"P": "../../precious"}, {"P": ["a"]}, ["a"], 3):
        text = json.dumps(parts)
        (whole.path / "parts.json").write_text(text)
        entry = FileEntry(len(text), hashlib.sha256(text.encode()).hexdigest())
        replace(whole.card, files={**whole.card.files, "parts.json": entry}).write(whole.path)
        said = verify(mine.root, whole.path)
        assert said.code == 5, said.err
        assert "Traceback" not in said.err


def test_an_upstream_store_is_not_written_to(mine: Chain, tmp_path: Path) -> None:
    shutil.rmtree(mine.root / "hashes")
    before = sorted(mine.root.rglob("*"))
    stores = ["--store", tmp_path / "own", "--store", mine.root]
    assert say("embed", mine.recipe, *stores, "--arm", "intensities", "--force").code == 0
    assert verify(tmp_path / "own", mine.made("split").path).code == 0
    assert sorted(mine.root.rglob("*")) == before
