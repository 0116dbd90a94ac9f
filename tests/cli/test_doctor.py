"""doctor: what this machine has and lacks for a recipe, and weights that are downloaded before they are needed."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest
from chain import Chain, Said, say
from made_up_datasets import write_image_table
from made_up_screen import write_screen
from misbehaving_server import ServerBehaviour, serving

from cellssl.artifacts.store import Store
from cellssl.imaging import cellpose_network as cellpose

CYTO = ("--set", 'segment.method={ name = "cellpose", model = "cyto" }')
"""The network that the file in the shared data is one of."""


def findings(said: Said) -> dict[str, str]:
    """What was found of every subject."""
    return {one["subject"]: one["words"] for one in json.loads(said.out)["findings"]}


def test_it_says_what_this_machine_can_do(tmp_path: Path) -> None:
    said = say("doctor", "--store", tmp_path / "store", "--json")
    assert said.code == 0 and said.err == ""
    found = findings(said)
    assert "cores" in found["processor"] and "where training runs in" in found["device"]
    assert "torch 2." in found["libraries"] and "cellpose 3.1" in found["libraries"]
    assert f"{tmp_path / 'store'}, " in found["store"] and "crops of 196 px" in found["store"]
    assert not (tmp_path / "store").exists()


def test_a_recipe_that_needs_nothing_more_is_fine(chain: Chain) -> None:
    said = chain.say("doctor")
    assert said.code == 0 and "every stage has what it needs" in said.out


@pytest.mark.parametrize(
    ("words", "sentence", "cure"),
    [
        (["--device", "cuda:7"], "the GPU 'cuda:7' was asked for", "--device auto"),
        (
            ["--set", "segment.method.name=cellpose", "--set", "segment.method.model=cyto9"],
            "no network 'cyto9'",
            "cyto",
        ),
        (["--set", "embed.model=ffffffffffff"], "no artifact ffffffffffff", "fingerprint"),
        (["--set", "pretrain.init_from=no.pth"], "no weights file", "pretrain.init_from"),
        (["--store", "/dev/null/store"], "/dev/null cannot be written", "--store"),
    ],
)
def test_what_is_missing_is_said_with_its_cure(chain: Chain, words: list[str], sentence: str, cure: str) -> None:
    said = chain.say("doctor", *words) if "--store" not in words else say("doctor", chain.recipe, *words)
    assert said.code == 2, said.err
    assert sentence in said.out and sentence in said.err and cure in said.err
    assert ("room for" in said.out) == ("--store" not in words)


def test_images_that_are_not_there_are_counted(tmp_path: Path) -> None:
    folder = write_image_table(tmp_path)
    (folder / "mine.toml").write_text(IMAGES)
    assert say("doctor", folder / "mine.toml", "--store", tmp_path / "store").code == 0
    for name in ("P1_B02_1_dna.tif", "P2_C03_2_actin.tif"):
        (folder / "images" / name).unlink()
    said = say("doctor", folder / "mine.toml", "--store", tmp_path / "store")
    assert said.code == 2
    assert f"missing image, 2 times; first: {folder}/images/P1_B02_1_dna.tif does not exist" in said.err


def test_images_that_a_mirror_on_this_machine_lacks_are_counted(tmp_path: Path) -> None:
    recipe = write_screen(tmp_path) / "recipe.toml"
    recipe.write_text(recipe.read_text() + BRANCH)
    assert say("doctor", recipe, "--store", tmp_path / "store").code == 0
    (tmp_path / "there/BBBC021_v1_images_Week1_1.zip").unlink()
    said = say("doctor", recipe, "--store", tmp_path / "store")
    assert said.code == 2 and "12 images that the data set names are not there; first: Week1_1/" in said.err


def test_what_status_refuses_doctor_refuses_too(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('fetch.dataset = "simulated"\n[cluster]\n')
    words = (tmp_path / "r.toml", "--store", tmp_path / "store")
    refused, said = say("status", *words), say("doctor", *words)
    assert (refused.code, said.code) == (2, 2)
    assert "pretrain has no branch with a weight above 0" in refused.err and refused.err == said.err


BRANCH = """
[pretrain.branches.c]
view = ["horizontal_flip"]
"""
IMAGES = f"""
[fetch.dataset]
name = "image_table"
table = "plate.csv"
channels = {{ dna = "dna", actin = "actin" }}
columns = {{ plate = "plate", well = "well", site = "site" }}
{BRANCH}
"""


def test_weights_are_downloaded_ahead_and_found_in_the_store(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cytotorch_0").write_bytes(b"weights" * 1000)
    words = ["doctor", chain.recipe, "--store", tmp_path / "store", *CYTO]
    with serving(ServerBehaviour(tmp_path)) as address:
        monkeypatch.setitem(cellpose.SOURCES, 3, f"{address}/")
        before, downloaded, after = say(*words), say(*words, "--download"), say(*words)
    assert [before.code, downloaded.code, after.code] == [2, 0, 0], (before, downloaded)
    assert "'cyto' are not there" in before.out and "--download" in before.err
    assert (tmp_path / "store/weights/cellpose/cytotorch_0").read_bytes() == b"weights" * 1000


def test_a_server_that_cannot_be_reached_is_a_network_fault_that_says_where_to_put_the_file(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(ServerBehaviour(tmp_path)) as address:
        monkeypatch.setitem(cellpose.SOURCES, 3, f"{address}/")
        said = say("doctor", chain.recipe, "--store", tmp_path / "store", *CYTO, "--download")
    assert said.code == 4 and "answered 404" in said.err
    assert f"put the file at {tmp_path / 'store/weights/cellpose/cytotorch_0'}" in said.err


@pytest.mark.soak
def test_cellpose_finds_nuclei_by_the_network_that_was_downloaded(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    weights = shared_data / "weights" / "cellpose3_cyto_from_scellseg.pth"
    shutil.copy(weights, tmp_path / "cytotorch_0")
    mine = ["--store", tmp_path / "store", "--store", chain.root, *CYTO, "--set", "segment.method.diameter_um=15"]
    missing = say("segment", chain.recipe, *mine)
    assert missing.code == 2 and "cellssl doctor RECIPE --download" in missing.err
    with serving(ServerBehaviour(tmp_path)) as address:
        monkeypatch.setitem(cellpose.SOURCES, 3, f"{address}/")
        assert say("doctor", chain.recipe, *mine, "--download").code == 0
    made = say("segment", chain.recipe, *mine, "--plate", plate(chain))
    part = Store(tmp_path / "store").resolve(made.line, ("segment",)).card
    assert part.metrics["kept"] > 0.7 * chain.made("segment").card.metrics["kept"]
    ran = part.run["segmenter"]
    assert ran["model"] == "cyto" and ran["device"] == "cpu" and ran["cellpose"].startswith("3.")
    assert ran["weights_sha256"] == sha256(weights.read_bytes()).hexdigest()


def plate(chain: Chain) -> str:
    """The name of the only plate."""
    return str(next(iter(json.loads(chain.made("segment").file("parts.json").read_text()))))
