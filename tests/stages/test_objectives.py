"""Objectives through the command line: they find the columns that they need, and their projectors can embed."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from chain import Chain, say, start
from safetensors.torch import load_file
from stages.test_embed import pixels

from cellssl.artifacts.card import read_card
from cellssl.artifacts.store import Artifact
from cellssl.stages.embed.models import load_encoder
from cellssl.stages.shared.cell_tables import read_embeddings


@pytest.fixture
def words(chain: Chain, tmp_path: Path) -> list[str]:
    """Return the tiny recipe for two epochs, and a store of the test's own on top of the shared one."""
    stores = ["--store", str(tmp_path / "store"), "--store", str(chain.root)]
    return [str(chain.recipe), *stores, "--device", "cpu", "--set", "pretrain.epochs=2"]


def with_objective(name: str, **settings: object) -> list[str]:
    given = "".join(f", {key} = {json.dumps(value)}" for key, value in settings.items())
    return ["--set", f'pretrain.branches.context.objective={{ name = "{name}"{given} }}']


def with_branch(branch: str, name: str, **settings: object) -> list[str]:
    table = "".join(f", {key} = {json.dumps(value)}" for key, value in settings.items())
    view = 'view = ["horizontal_flip"]'
    return ["--set", f'pretrain.branches.{branch}={{ {view}, objective = {{ name = "{name}"{table} }} }}']


def test_labels_and_doses_reach_the_losses_and_early_stopping_still_works(words: list[str]) -> None:
    branches = [
        *with_objective("supcon", dim=8),
        *with_branch("dose", "dose_aware", dim=8),
        *with_branch("moa", "supcon", label="moa"),
    ]
    said = say("pretrain", *words, *branches, "--set", "pretrain.early_stopping={ every_epochs = 1, patience = 2 }")
    lines = [json.loads(line) for line in (Path(said.line) / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) and "dose/weight_of_nearest" in line for line in lines)
    assert np.isfinite(lines[-1]["validation_loss"])


def test_a_column_that_no_cell_has_is_an_error_with_a_hint(words: list[str]) -> None:
    said = say("pretrain", *words, *with_objective("supcon", label="cell_line"))
    assert said.code == 2 and "learns from the column 'cell_line', which no cell has" in said.err
    assert "split.treated" in said.err


def test_the_projector_layer_is_the_output_of_looc_s_projectors(chain: Chain, words: list[str]) -> None:
    looc = with_objective("looc", sensitive_to=["rotate"], queue=16, dim=8, hidden_dim=16)
    model = say("pretrain", *words, *looc)
    made = Path(say("embed", *words, *looc, "--set", "embed.layer=projector").line)
    _, vectors = read_embeddings(Artifact(made, read_card(made)))
    artifact = Artifact(Path(model.line), read_card(Path(model.line)))
    heads = load_file(artifact.file("heads.safetensors"))
    crops = F.interpolate(torch.from_numpy(pixels(chain)), size=32, mode="bilinear", antialias=False)
    encoder = load_encoder(artifact, "query").eval()
    spaces = []
    with torch.no_grad():
        trunk = encoder(crops)
        for space in (0, 1):
            w = {
                key.rpartition(f"projectors.{space}.")[2]: value for key, value in heads.items() if ".projectors" in key
            }
            hidden = F.relu(trunk @ w["0.weight"].T + w["0.bias"])
            spaces.append(F.normalize(hidden @ w["2.weight"].T + w["2.bias"], dim=1))
    np.testing.assert_allclose(vectors, torch.cat(spaces, dim=1).numpy(), atol=1e-4)


def test_embedding_with_an_untrained_momentum_encoder_or_projector_is_an_error(words: list[str]) -> None:
    simclr = with_objective("simclr", dim=8)
    assert say("pretrain", *words, *simclr).code == 0
    momentum = say("embed", *words, *simclr, "--set", "embed.network=momentum")
    assert momentum.code == 2 and "no objective of this model trains a momentum encoder" in momentum.err
    never = [*simclr, "--set", "pretrain.epochs=0"]
    assert say("pretrain", *words, *never).code == 0
    heads = say("embed", *words, *never, "--set", "embed.layer=projector")
    assert heads.code == 2 and "was not trained, so it has no projector" in heads.err
    rotation = with_objective("rotation", relative=True)
    assert say("pretrain", *words, *rotation).code == 0
    heads = say("embed", *words, *rotation, "--set", "embed.layer=projector")
    assert heads.code == 2 and "no objective of" in heads.err and "has a projector" in heads.err


def test_projectors_of_the_momentum_encoder_are_an_error_before_any_work(words: list[str]) -> None:
    said = say("embed", *words, "--set", "embed.layer=projector", "--set", "embed.network=momentum")
    assert said.code == 2 and 'goes with network = "query"' in said.err


def test_objectives_with_different_momentum_are_an_error_and_others_do_not_count(
    words: list[str],
) -> None:
    differing = [*with_objective("byol", momentum=0.9), *with_branch("other", "dino", momentum=0.99)]
    assert "share one momentum encoder" in say("pretrain", *words, *differing, "--dry-run").err
    agreeing = [*with_objective("byol", momentum=0.9), *with_branch("other", "simclr")]
    assert say("pretrain", *words, *agreeing, "--dry-run").code == 0


def test_a_queue_that_the_recipe_does_not_name_is_made_to_fit_and_one_that_it_names_is_refused(
    chain: Chain, tmp_path: Path
) -> None:
    chain.copy_cells(tmp_path / "store")
    words = ("--store", tmp_path / "store", "--set", "pretrain.epochs=0.2", "--device", "cpu")
    default = chain.recipe.read_text().replace("queue = 16, ", "")
    (tmp_path / "default.toml").write_text(default)
    made = say("pretrain", tmp_path / "default.toml", *words)
    card = json.loads((Path(made.line) / "artifact.json").read_text())
    cells, queue = card["metrics"]["cells"], card["metrics"]["fitted_queues"]["context"]
    assert queue == (cells - 1) // 16 * 16 < cells <= 1024, card["metrics"]
    assert made.err.count(f"branch context: the queue has {queue:,} keys in place of 1,024") == 1
    assert card["section"]["branches"]["context"]["objective"]["queue"] == 1024
    (tmp_path / "named.toml").write_text(default.replace('"moco", ', '"moco", queue = 1024, '))
    refused = say("pretrain", tmp_path / "named.toml", *words, "--force")
    assert refused.code == 2 and "a queue of 1,024 keys is not smaller" in refused.err
    projected = say("embed", tmp_path / "default.toml", *words, "--set", "embed.layer=projector")
    assert projected.code == 0, projected.err


def with_positives(**given: object) -> list[str]:
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in given.items())
    return ["--set", f"pretrain.branches.context.positives={{ {table} }}"]


def test_positives_are_counted_and_the_page_names_the_scores_of_their_labels(words: list[str]) -> None:
    positives = with_positives(same=["compound"], other=["well"], share=1.0)
    said = say("run", *words, *positives, "--arm", "main", "--seed", "0")
    assert "have another one of the same compound in another well; the others keep their own views" in said.err
    assert "the model learned from compound (positives of the branch context), so its score for label" in said.err
    assert "1 of 1 scored compound was in its training" in said.err
    page = (Path(said.line) / "report.html").read_text(encoding="utf-8")
    assert "the model learned from labels that it is scored for" in page and "without using any label" not in page
    (model,) = Path(words[words.index("--store") + 1]).glob("pretrain/*/artifact.json")
    metrics = read_card(model.parent).metrics
    assert metrics["positives"]["context"]["share_with_partner"] == 1.0
    assert metrics["learned_labels"][0]["columns"] == ["compound"]


def test_a_killed_training_with_positives_gives_the_same_bytes(words: list[str], chain: Chain, tmp_path: Path) -> None:
    positives = [*with_positives(same=["compound"], share=0.5), "--set", "pretrain.checkpoint_s=0"]
    whole = Path(say("pretrain", *words, *positives).line)
    again = [str(chain.recipe), "--store", str(tmp_path / "other"), "--store", str(chain.root), "--device", "cpu"]
    command = ["pretrain", *again, *positives, "--set", "pretrain.epochs=2"]
    process = start(*command)
    while not list((tmp_path / "other").glob("pretrain/*.partial/**/last.ckpt")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    resumed = Path(say(*command).line)
    assert read_card(resumed).files == read_card(whole).files


@pytest.mark.parametrize(
    ("given", "objective", "message", "cure"),
    [
        ({"same": ["compoud"]}, "moco", "positives.same names the column 'compoud'", "did you mean 'compound'?"),
        ({"other": ["plate"]}, "moco", "another one of the same compound and dose in another plate", "two wells among"),
        ({"same": ["plate"], "other": ["well"]}, "moco", "all training cells have the same plate", "mask_same = false"),
        ({}, "mae", "mae cannot take positives from metadata, because it reconstructs hidden patches", ""),
        ({"same": ["well"], "other": ["well"]}, "moco", "both the same and another well", ""),
    ],
)  # fmt: skip
def test_positives_that_cannot_be_are_an_error_with_its_cure(
    words: list[str], given: dict[str, object], objective: str, message: str, cure: str
) -> None:
    said = say("pretrain", *words, *with_objective(objective), *with_positives(**given))
    assert said.code == 2 and message in said.err and cure in said.err
