"""embed: the layer, the projector, the draws of a view, and the formats."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from chain import Chain, say
from safetensors.torch import load_file

from cellssl.artifacts.card import read_card
from cellssl.artifacts.store import Artifact
from cellssl.learning.embed import EmbeddingViews
from cellssl.learning.transforms import horizontal_flip, rotate
from cellssl.learning.view import View
from cellssl.randomness import generator
from cellssl.stages.embed.models import load_network
from cellssl.stages.embed.settings import Settings
from cellssl.stages.pretrain.networks import keys_of
from cellssl.stages.shared.cell_tables import chosen_cells, read_embeddings
from cellssl.stages.shared.scaled_crops import scaled_crops, upstream_segment

CROPS = torch.from_numpy(generator("layers").random((3, 3, 32, 32), dtype="float32"))


@pytest.fixture
def words(chain: Chain, tmp_path: Path) -> list[str]:
    return [str(chain.recipe), "--store", str(tmp_path / "store"), "--store", str(chain.root), "--device", "cpu"]


def embed(words: list[str], *settings: str) -> Artifact:
    made = Path(say("embed", *words, *(word for one in settings for word in ("--set", f"embed.{one}"))).line)
    return Artifact(made, read_card(made))


def layer_of(model: Artifact, **settings: object) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = load_network(model, Settings(**settings)).eval()(CROPS)
    return out


def test_the_flattened_layer_averages_to_the_pooled_one(chain: Chain) -> None:
    whole = layer_of(chain.made("pretrain"), layer="flattened")
    assert whole.shape == (3, 16 * 8 * 8)
    torch.testing.assert_close(whole.reshape(3, 16, 64).mean(dim=2), layer_of(chain.made("pretrain")))


def test_the_projector_is_the_trained_head_on_the_pooled_layer(chain: Chain) -> None:
    model = chain.made("pretrain")
    tensors = load_file(model.file("heads.safetensors"))
    first, second = ([tensors[f"branch_context.projector.{n}.{kind}"] for kind in ("weight", "bias")] for n in (0, 2))
    pooled = layer_of(model)
    expected = torch.relu(pooled @ first[0].T + first[1]) @ second[0].T + second[1]
    unit = torch.nn.functional.normalize(expected, dim=1)
    torch.testing.assert_close(layer_of(model, layer="projector"), unit)


def test_the_projectors_of_several_branches_stand_side_by_side_or_one_is_chosen(chain: Chain, words: list[str]) -> None:
    two = [
        "--set",
        "pretrain.branches.second={ view = ['invert'], objective = { name = 'moco', queue = 16, dim = 4 } }",
    ]
    made = Path(say("pretrain", *words, *two, "--set", "pretrain.epochs=1").line)
    model = Artifact(made, read_card(made))
    both = layer_of(model, layer="projector")
    assert both.shape == (3, 8 + 4)
    assert torch.equal(both[:, 8:], layer_of(model, layer="projector", branch="second"))
    settings = [f"embed.model={made}", "embed.layer=projector", "embed.branch=secnd"]
    said = say("embed", *words, *(word for one in settings for word in ("--set", one)))
    assert said.code == 2 and "did you mean 'second'?" in said.err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model=random", "layer=projector"], "model = 'random' is untrained and has no projector"),
        (["branch=context"], "branch chooses a projector"),
    ],
)
def test_impossible_settings_are_an_error_before_any_work(words: list[str], settings: list[str], message: str) -> None:
    said = say("embed", *words, *(word for one in settings for word in ("--set", f"embed.{one}")))
    assert said.code == 2 and message in said.err


VIEW = 'view=["horizontal_flip", { name = "rotate", degrees = 180 }]'


def test_the_vector_of_a_view_is_the_mean_over_single_draws_in_any_batch(chain: Chain, words: list[str]) -> None:
    averaged = embed(words, VIEW, "draws=3", "batch=5")
    cells, vectors = read_embeddings(averaged)
    singles = one_by_one(chain, list(cells["cell_id"]), draws=3)
    assert vectors == pytest.approx(singles.mean(axis=1), abs=1e-5)
    assert np.ptp(singles, axis=1).max() > 1e-3


def one_by_one(chain: Chain, cell_ids: list[str], draws: int) -> np.ndarray:
    """Return the vectors (n, draws, dim) of single draws, each cell in a batch of its own."""
    segment = upstream_segment(chain.made("split"), chain.store)
    crops = scaled_crops(segment, chain.store, chosen_cells(chain.made("split"), segment))
    network = load_network(chain.made("pretrain"), Settings()).eval()
    views = EmbeddingViews(
        32, View((horizontal_flip.Settings(), rotate.Settings(degrees=180))), draws, keys_of(cell_ids)
    )
    found = []
    for row in range(len(crops)):
        seen = torch.cat(list(views.render(torch.from_numpy(crops.read(np.array([row]))), np.array([row]))))
        with torch.no_grad():
            found.append(network(seen).numpy())
    return np.stack(found)


def test_settings_without_effect_do_not_change_the_fingerprint(words: list[str], chain: Chain) -> None:
    own, measured = chain.made("embed").fingerprint, chain.made("embed", "intensities").fingerprint
    assert embed(words, "draws=3").fingerprint == own != embed(words, VIEW).fingerprint
    assert embed([*words, "--arm", "intensities"], VIEW, "layer=flattened").fingerprint == measured


def test_the_csv_holds_the_same_as_the_parquet_table(words: list[str]) -> None:
    made = embed(words, 'formats=["csv.gz"]')
    table = pd.read_parquet(made.file("embeddings.parquet"))
    csv = pd.read_csv(made.file("embeddings.csv.gz"))
    assert csv["Metadata_cell_id"].tolist() == table["Metadata_cell_id"].tolist()
    assert np.array_equal(csv["emb_0001"].to_numpy(np.float32), table["emb_0001"].to_numpy())


def test_a_weights_file_gives_the_untrained_network_with_these_weights(words: list[str], tmp_path: Path) -> None:
    import torchvision

    with torch.random.fork_rng():
        theirs = torchvision.models.resnet18(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    theirs.fc = torch.nn.Identity()
    encoder = ["--set", "pretrain.encoder={ name = 'resnet18', standardise = false }"]
    settings = [*encoder, "--set", f"embed.model={tmp_path / 'theirs.pth'}"]
    made = Path(say("pretrain", *words, *settings).line)
    assert read_card(Path(say("embed", *words, *settings).line)).inputs["pretrain"] == made.name
    with torch.no_grad():
        torch.testing.assert_close(layer_of(Artifact(made, read_card(made))), theirs(CROPS), atol=1e-5, rtol=1e-4)


def test_a_weights_file_inside_an_artifact_is_an_error_that_names_the_artifact(chain: Chain, words: list[str]) -> None:
    file = chain.made("pretrain").file("encoder.safetensors")
    said = say("embed", *words, "--set", f"embed.model={file}")
    assert said.code == 2 and f'set embed.model = "{file.parent}"' in said.err


def test_features_hold_the_shape_of_the_nucleus_and_its_texture(words: list[str]) -> None:
    cells, vectors = read_embeddings(embed(words, "model=features"))
    assert vectors[:, -3:] == pytest.approx(cells[["area_px", "eccentricity", "solidity"]].to_numpy(), rel=1e-6)
    assert np.isfinite(vectors).all()
    assert vectors.shape[1] == 3 * 13 + 3
