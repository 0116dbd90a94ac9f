"""Embedding with published weights: an encoder of 0 epochs, with one result for all seeds."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from chain import Chain, say

from cellssl.artifacts.card import read_card
from cellssl.artifacts.store import Artifact, Store
from cellssl.config.recipe import from_table
from cellssl.pipeline.plan import Planner
from cellssl.stages.shared.cell_tables import chosen_cells, read_embeddings
from cellssl.stages.shared.scaled_crops import scaled_crops, upstream_segment


@pytest.fixture
def words(chain: Chain, tmp_path: Path) -> list[str]:
    """Return the tiny recipe, and a store of the test's own on top of the shared one."""
    return [str(chain.recipe), "--store", str(tmp_path / "store"), "--store", str(chain.root), "--device", "cpu"]


@pytest.fixture
def lite0(shared_data: Path, tmp_path: Path) -> Path:
    """Return real ImageNet weights under timm's names; the original file has the same tensors in the same order."""
    file = shared_data / "weights" / "efficientnet-lite0-57934424.pth"
    if not file.is_file():
        pytest.skip(f"no ImageNet weights at {file}")
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    path = tmp_path / "lite0.pth"
    torch.save(dict(zip(names, torch.load(file, weights_only=True).values(), strict=True)), path)
    return path


def imagenet(weights: Path) -> list[str]:
    encoder = f'{{ name = "timm", model = "tf_efficientnet_lite0", weights = "{weights}" }}'
    return ["--set", "embed.model=imagenet", "--set", f"pretrain.encoder={encoder}"]


def pixels(chain: Chain) -> np.ndarray:
    """Return the crops of the split, in the order of its embeddings, in [0, 1]."""
    split = chain.made("split")
    segment = upstream_segment(split, chain.store)
    crops = scaled_crops(segment, chain.store, chosen_cells(split, segment))
    return crops.read(np.arange(len(crops))).astype(np.float32) / 255


def states(words: list[str], *more: str) -> list[tuple[int | None, str]]:
    """Return seed and fingerprint of every pretrain artifact that the main arm uses."""
    plan = json.loads(say("status", *words[:5], *more, "--set", "seeds=[0,1]", "--arm", "main", "--json").out)
    return [(row["seed"], row["fingerprint"]) for row in plan["stages"] if row["stage"] == "pretrain"]


def test_published_weights_embed_cells_as_timm_does_with_them(chain: Chain, words: list[str], lite0: Path) -> None:
    whole = ["--set", "pretrain.input_px=48"]  # the crops' own side, so that nothing is resized
    model = say("pretrain", *words, *imagenet(lite0), *whole)
    weights = torch.load(lite0, weights_only=True)
    lite0.unlink()
    made = Path(say("embed", *words, "--set", f"embed.model={model.line}").line)
    theirs = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    theirs.load_state_dict({name: weights[name] for name in theirs.state_dict()})
    with torch.no_grad():
        expected = theirs(
            torch.from_numpy(pixels(chain)) * 2 - 1
        ).numpy()  # mean and standard deviation of its photographs: 0.5
    _, vectors = read_embeddings(Artifact(made, read_card(made)))
    np.testing.assert_allclose(vectors, expected, atol=1e-4)


def test_published_weights_give_one_artifact_for_all_seeds(words: list[str], lite0: Path) -> None:
    assert [seed for seed, _ in states(words, *imagenet(lite0))] == [None]
    assert [seed for seed, _ in states(words, "--set", "embed.model=random")] == [0, 1]


def test_the_pipeline_runs_on_published_weights_and_the_report_calls_them_a_baseline(
    words: list[str], lite0: Path
) -> None:
    said = say("run", *words, *imagenet(lite0), "--arm", "main")
    assert said.code == 0, said.err
    rows = json.loads((Path(said.line) / "scores.json").read_text())
    assert [(row["arm"], row["baseline"]) for row in rows] == [("main", True)]
    page = (Path(said.line) / "report.html").read_text(encoding="utf-8")
    assert sha256(lite0.read_bytes()).hexdigest() in page and "not known (nothing names it)" in page


def test_random_draws_weights_even_where_the_encoder_has_given_ones(words: list[str], lite0: Path) -> None:
    given, _ = imagenet(lite0)[3].split(", weights")
    random = ["--set", "embed.model=random", "--set"]
    with_weights = states(words, *random, imagenet(lite0)[3])
    assert with_weights == states(words, *random, f"{given} }}") != states(words, *imagenet(lite0))


def test_imagenet_with_a_network_without_published_weights_is_an_error_with_a_hint(words: list[str]) -> None:
    said = say("embed", *words, "--set", "embed.model=imagenet")
    assert said.code == 2 and said.out == ""
    assert 'embed.model = "imagenet" needs published weights, and small has none' in said.err
    assert 'pretrain.encoder = "resnet50"' in said.err


def test_an_arm_for_imagenet_may_have_its_own_network(tmp_path: Path) -> None:
    recipe = from_table(
        {
            "name": "own",
            "fetch": {"dataset": "simulated"},
            "pretrain": {"encoder": "vgg13", "input_px": 64},
            "arm": {"imagenet": {"pretrain": {"encoder": {"name": "resnet101"}}, "embed": {"model": "imagenet"}}},
        },
        tmp_path,
        "own.toml",
    )
    planned = Planner(recipe, "imagenet", 3, Store(tmp_path)).plan("embed")
    card = Planner(recipe, "imagenet", 3, Store(tmp_path)).plan("pretrain").card
    assert card.section["encoder"] == {
        "name": "resnet101",
        "weights": "imagenet",
        "standardise": None,
        "stem": "large",
        "channels": "together",
        "frozen_parts": 0,
        "licence": None,
    }
    assert card.section["epochs"] == 0 and card.section["input_px"] == 64 and "seed" not in card.section
    assert planned.inputs["pretrain"] == card.fingerprint
