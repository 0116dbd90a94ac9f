"""A shared model opens without cellssl, and gives the vectors that cellssl gives; its folder is whole, or says so."""

import json
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from chain import Chain, say
from conftest import REPOSITORY
from safetensors.torch import load_file, save_file

from cellssl.artifacts import embeddings
from cellssl.artifacts.card import read_card
from cellssl.artifacts.store import Artifact, Store
from cellssl.artifacts.tables import read_cells
from cellssl.imaging.scaling import scaled
from cellssl.learning.embed import EmbeddingViews, embed
from cellssl.sharing import model_card
from cellssl.sharing.request import Export
from cellssl.stages.embed.models import load_encoder
from cellssl.stages.pretrain.settings import Settings

LEVELS = (np.array([423.3, 966.4, 1117.9]), np.array([7088.9, 21177.6, 17396.3]))
"""The grey values of each channel that become black and white on the page."""
WITHOUT = """
import sys, importlib.abc
class Nothing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {without!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nothing())
"""
"""What begins a program in which some libraries are not installed."""
OF_TWO = """
assert np.abs(embed_other(crops, low, high).numpy()).max() == 0
assert np.array_equal(embed(crops, low, high).numpy(), vectors)
"""
"""What is true of two models in one program, where the weights of the other one are 0."""
OURS = ("cellssl", "torchvision", "timm")


def shown(number: int) -> str:
    """A program of the page on sharing models."""
    return blocks(REPOSITORY / "docs" / "sharing-models.md", "python")[number]


def run_as_shown(place: Path, model: Path, crops: np.ndarray, program: str, without: tuple[str, ...]) -> np.ndarray:
    """Run a program of the page in a new Python that lacks some libraries; return its vectors."""
    np.save(place / "crops.npy", crops)
    shutil.copytree(model, place / "my-model")
    text = WITHOUT.format(without=without) + program + 'np.save("vectors.npy", vectors)\n'
    done = subprocess.run([sys.executable, "-P", "-c", text], capture_output=True, text=True, check=False, cwd=place)
    assert done.returncode == 0, done.stderr
    return np.load(place / "vectors.npy")


@pytest.fixture(scope="module")
def shared(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the tiny chain, exported; tests only read it."""
    folder = tmp_path_factory.mktemp("shared") / "my model"
    said = say("export", chain.made("pretrain").path, folder, "--store", chain.root, "--license", "MIT")
    assert said.line == str(folder)
    return folder


@pytest.fixture(scope="module")
def shared_with_onnx(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with an ONNX file beside it."""
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("onnx") / "model"
    said = say("export", chain.made("pretrain").path, folder, "--store", chain.root, "--format", "onnx")
    assert said.code == 0, said.err
    return folder


def cells_of(chain: Chain) -> tuple[np.ndarray, np.ndarray]:
    """The raw crops of the embedded cells of the chain, and the vectors that cellssl wrote."""
    (folder,) = {path.parent for path in chain.root.glob("segment/*/crops.npy")}
    metadata, vectors = embeddings.read(chain.made("embed").file("embeddings.parquet"))
    cells = read_cells(chain.made("segment")).set_index("cell_id").loc[metadata["Metadata_cell_id"]]
    return np.load(folder / "crops.npy")[cells["crop_row"].to_numpy()], vectors


def test_the_page_opens_it_in_plain_torch_with_the_vectors_that_cellssl_wrote(
    chain: Chain, shared: Path, tmp_path: Path
) -> None:
    crops, vectors = cells_of(chain)
    plates = json.loads((shared / "preprocessor_config.json").read_text())["plates"]
    levels = [[one[name] for one in plates] for name in ("low", "high")]
    program = re.sub(r"^low, high = .*", f"low, high = {levels}", shown(0), flags=re.MULTILINE)
    program += "assert np.array_equal(embed(crops[:1], low, high).shape, (1, 16))\n"
    program += shown(1).replace("other-model", str(other_model(shared, tmp_path))) + OF_TWO
    found = run_as_shown(tmp_path, shared, crops, program, without=(*OURS, "pandas", "scipy"))
    assert len(found) > 300 and np.abs(found - vectors).max() < 1e-4


@pytest.mark.parametrize(
    ("number", "without"),
    [pytest.param(0, (), marks=pytest.mark.soak), (2, ("torch", "safetensors", "onnx"))],  # torch: 4 s to import
    ids=["torch", "onnxruntime"],
)
def test_the_page_opens_it_with_the_vectors_of_cellssl_for_real_crops(
    chain: Chain, shared_with_onnx: Path, shared_data: Path, tmp_path: Path, number: int, without: tuple[str, ...]
) -> None:
    with np.load(shared_data / "crops" / "bbbc021_crops_small.npz") as file:
        crops = (file["images_div16"][:64] << 4).transpose(0, 3, 1, 2)[:, :, 10:58, 10:58]
    found = run_as_shown(tmp_path, shared_with_onnx, crops, shown(number), without=(*OURS, *without))
    ours = vectors_of_cellssl(chain.made("pretrain"), crops)
    assert ours.std(axis=0).max() > 1e-3
    assert np.abs(found - ours).max() < 1e-4


def other_model(shared: Path, place: Path) -> Path:
    """A copy of the folder whose weights are 0, with weights of no use beside them."""
    other = shutil.copytree(shared, place / "other")
    weights = load_file(other / "model.safetensors")
    shutil.copy(other / "model.safetensors", other / "backup.safetensors")
    save_file({name: torch.zeros_like(one) for name, one in weights.items()}, other / "model.safetensors")
    return other


@pytest.mark.parametrize(
    ("low", "high", "is_refused"),
    [
        ([1, 2, 3], [2, 3, 4], False),
        ([1, 2, 3], [1, 3, 4], False),
        ([1, 2, 3], [2, 1, 4], True),
        ([1] * 3, [1] * 3, True),
    ],
)
def test_exchanged_levels_are_refused_and_an_empty_channel_is_not(
    shared: Path, low: list[int], high: list[int], is_refused: bool
) -> None:
    prepared = runpy.run_path(str(shared / "preprocess.py"))["prepared"]
    expected = json.loads((shared / "preprocessor_config.json").read_text())
    with pytest.raises(ValueError, match="high must be above low") if is_refused else nullcontext():
        prepared(np.zeros((1, 3, 48, 48)), low, high, expected, np)


def test_a_model_card_says_what_was_done_to_crops_before_the_scaling(chain: Chain, shared: Path) -> None:
    model = chain.made("pretrain")
    assert "Raw grey values" in (shared / "README.md").read_text()
    expects = {**model.card.metrics["expects"], "crop_mask": "cell", "illumination": "mean", "border": "pad"}
    expects["illumination_blur_px"] = 50.0
    card = replace(model.card, metrics={**model.card.metrics, "expects": expects})
    text = model_card.model_card(
        Export(Artifact(model.path, card), Store(chain.root), shared, ("model",), None), 16, with_onnx=False
    )
    for words in ("Raw grey values", "mirrored"):
        assert words not in text
    for words in ('crop_mask = "cell"', 'illumination = "mean"', 'border = "pad"', "standard deviation 50 px"):
        assert words in text


def test_the_onnx_file_describes_itself_and_names_no_folder_of_this_machine(shared_with_onnx: Path) -> None:
    onnx = pytest.importorskip("onnx")
    content = (shared_with_onnx / "model.onnx").read_bytes()
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert {one.key: one.value for one in model.metadata_props}["channels"] == "dna, tubulin, actin"
    assert b"/" + b"cellssl" not in content and b"site-packages" not in content
    (crops,), (vectors,) = model.graph.input, model.graph.output
    sizes = [one.dim_param or one.dim_value for one in crops.type.tensor_type.shape.dim]
    assert (crops.name, vectors.name, sizes[1:]) == ("crops", "vectors", [3, 32, 32]) and isinstance(sizes[0], str)


def test_a_folder_is_an_artifact_of_the_same_name_and_bytes(chain: Chain, shared: Path) -> None:
    model, card = chain.made("pretrain"), read_card(shared)
    assert (card.kind, card.fingerprint, card.metrics) == ("pretrain", model.fingerprint, model.card.metrics)
    assert Artifact(shared, card).faults() == []
    assert card.files["model.safetensors"] == model.card.files["encoder.safetensors"]
    assert {path.name for path in shared.iterdir()} == {*card.files, *card.extras, "artifact.json"}


def test_nothing_in_a_folder_names_this_machine(chain: Chain, shared: Path) -> None:
    host = chain.made("pretrain").card.run["host"]
    text = "\n".join(path.read_text() for path in shared.iterdir() if path.suffix != ".safetensors")
    for private in (str(chain.root), str(chain.home), f'"{host}"', '"host"', '"started"', '"platform"'):
        assert private not in text


def test_the_same_model_twice_is_the_same_bytes_and_nothing_is_written_again(
    chain: Chain, shared: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(shared, tmp_path / "copy")
    (copy / "network.py").unlink()
    before = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    export = ("export", chain.made("pretrain").path, copy, "--store", chain.root, "--license", "mit")
    assert say(*export).code == 0
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {
        path.name: path.read_bytes() for path in shared.iterdir()
    }
    rewritten = {path.name for path in copy.iterdir() if before.get(path.name) != path.stat().st_mtime_ns}
    assert rewritten == {"network.py", "artifact.json"}
    assert "up to date" in say(*export).err


def test_a_model_card_that_a_person_has_changed_is_kept(chain: Chain, shared: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(shared, tmp_path / "copy")
    (copy / "README.md").write_text("mine")
    said = say("export", chain.made("pretrain").path, copy, "--store", chain.root)
    assert said.code == 0 and "changed by hand" in said.err
    assert (copy / "README.md").read_text() == "mine" and Artifact(copy, read_card(copy)).faults() == []


@pytest.mark.parametrize("there", ["notes.txt", "README.md", "artifact.json"])
def test_a_folder_with_other_files_is_refused_and_stays_as_it_is(chain: Chain, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("mine")
    said = say("export", chain.made("pretrain").path, tmp_path, "--store", chain.root)
    assert said.code == 2 and there in said.err and "exported before" in said.err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_folder_that_was_left_half_made_is_completed(chain: Chain, shared: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(shared, tmp_path / "copy")
    for name in ("artifact.json", "README.md", "network.py"):
        (copy / name).unlink()
    (copy / ".network.py.0a1b2c3d.tmp").write_text("half")
    assert say("export", chain.made("pretrain").path, copy, "--store", chain.root, "--license", "mit").code == 0
    assert {path.name for path in copy.iterdir()} == {path.name for path in shared.iterdir()}


@pytest.mark.parametrize(
    ("kind", "words", "expected"),
    [
        ("split", (), "artifact of split"),
        ("embed", ("--format", "model"), "cannot be exported as 'model'"),
        ("pretrain", ("--license", "my own!"), "no identifier"),
        ("embed", ("--license", "mit"), "that of a model"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_a_cure(
    chain: Chain, tmp_path: Path, kind: str, words: tuple[str, ...], expected: str
) -> None:
    said = say("export", chain.made(kind).path, tmp_path / "out", "--store", chain.root, *words)
    assert said.code == 2 and expected in said.err and not (tmp_path / "out").exists()


def test_an_artifact_whose_weights_were_changed_is_not_exported(chain: Chain, tmp_path: Path) -> None:
    model = shutil.copytree(chain.made("pretrain").path, tmp_path / "model")
    with (model / "encoder.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x01")
    said = say("export", model, tmp_path / "out", "--store", chain.root)
    assert said.code == 5 and not list((tmp_path / "out").glob("*"))


def test_the_model_card_has_what_hubs_read_and_the_scores_of_the_chain(chain: Chain, shared: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(shared / "README.md")
    assert (card.data.license, card.data.library_name) == ("mit", "cellssl")
    assert card.data.pipeline_tag == "image-feature-extraction"
    scores = {one.metric_name: one.metric_value for one in card.data.eval_results}
    evaluation, clusters = chain.made("evaluate").card.metrics, chain.made("cluster").card.metrics
    assert scores["balanced accuracy, linear probe"] == evaluation["linear"]["balanced_accuracy"]
    assert scores["AMI of clusters and label"] == clusters["against"]["label"]["ami"]
    baseline = chain.made("evaluate", "intensities").card.metrics["knn"]["balanced_accuracy"]
    (row,) = [line for line in card.text.splitlines() if line.startswith("| baseline intensities")]
    assert f"{baseline:.3f}" in row and "sim-nocodazole" in card.text and "trained on 1 plate only" in card.text


def test_the_recipe_of_the_model_card_trains_the_same_model(chain: Chain, shared: Path) -> None:
    (recipe,) = [text for text in blocks(shared / "README.md", "toml") if "[pretrain]" in text]
    settings = Settings.model_validate(tomllib.loads(recipe)["pretrain"])
    section = chain.made("pretrain").card.section
    assert settings.all_values() == {name: value for name, value in section.items() if name in settings.all_values()}


def test_a_hostile_name_stays_text_in_the_model_card() -> None:
    name = "x\n---\nlicense: mit <script>alert(1)</script> | `" + "`" * 3
    shown = model_card.plain(name)
    assert "\n" not in shown and "<script>" not in shown.replace("\\<", "") and "|" not in shown.replace("\\|", "")
    block = model_card.fenced(model_card.as_recipe({"branches": {name: {"weight": 1.0}}}), "toml")
    assert block.splitlines()[-1] == "`" * 5


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of one language on a page."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def vectors_of_cellssl(model: Artifact, crops: np.ndarray) -> np.ndarray:
    """The vectors that `cellssl embed` gives to crops between the limits of the test."""
    pixels = torch.from_numpy(scaled(crops, *LEVELS))
    rows = np.arange(len(crops))
    (vectors,) = embed(load_encoder(model, "query"), [(rows, pixels)], EmbeddingViews(32), torch.device("cpu"))
    return vectors
