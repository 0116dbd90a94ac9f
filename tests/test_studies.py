"""Recipes of the paper's studies: they have its settings, and train a step on made-up images of the same shape."""

import re
from pathlib import Path

import numpy as np
import pytest
from chain import say
from PIL import Image

from cellssl.config import paths
from cellssl.config import recipe as recipes
from cellssl.pipeline.sweep_arms import expand_sweep
from cellssl.randomness import generator

FOLDER = paths.shipped_folder("recipes")
METHODS = {  # learning rate, batch size, dimension of a projection
    "barlow_twins": (0.3, 512, 2048),
    "byol": (1.0, 512, 256),
    "deepcluster_v2": (0.6, 512, 128),
    "dino": (0.3, 256, 256),
    "moco": (0.3, 512, 256),
    "nnbyol": (1.0, 512, 256),
    "nnclr": (0.4, 512, 256),
    "ressl": (0.05, 512, 256),
    "simclr": (0.4, 512, 256),
    "simsiam": (0.5, 512, 2048),
    "swav": (0.6, 512, 128),
    "vibcreg": (0.3, 512, 2048),
    "vicreg": (0.3, 256, 2048),
}


def unswept(name: str, folder: Path) -> Path:
    """Return a shipped recipe without its sweep."""
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    path = folder / f"{name}.toml"
    path.write_text(re.sub(r"\[sweep.*?(?=\[arm)", "", text, flags=re.DOTALL), encoding="utf-8")
    return path


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_method_has_the_papers_settings(method: str, tmp_path: Path) -> None:
    recipe = recipes.load(str(unswept("cifar10-bias", tmp_path)))
    assert set(recipe.arm_names()) == set(METHODS)
    training = recipe.settings("pretrain", method)
    objective = training.branches["all"].objective
    assert objective.plugin_name() == method
    assert (training.learning_rate, training.batch, objective.dim) == METHODS[method]
    assert (training.epochs, training.optimizer, training.encoder.stem) == (1000, "sgd", "small")


def test_the_sweeps_of_cifar_are_the_papers() -> None:
    arms = expand_sweep(recipes.load("cifar10-bias")).arm_names()
    counts = {knob: sum(f"moco+{knob}=" in arm for arm in arms) for knob in ("hue", "jitter", "crop", "flip")}
    assert counts == {"hue": 10, "jitter": 20, "crop": 8, "flip": 20}


def made_up(folder: Path, side: int, mode: str) -> Path:
    """Write two classes into folders train and test, 24 and 4 images each, unless they are there."""
    if folder.is_dir():
        return folder
    for part, n in (("train", 24), ("test", 4)):
        for name in ("ant", "bee"):
            (folder / part / name).mkdir(parents=True)
            for number in range(n):
                shape = (side, side, 3) if mode == "RGB" else (side, side)
                pixels = generator(part, name, number).integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for images and stores: the arms of a study share the images, the cells and their split."""
    return tmp_path_factory.mktemp("studies")


def trains(recipe: Path, arm: str, images: Path, store: Path) -> None:
    """Train an arm for a step or two, with queues and prototypes for few images."""
    text = recipe.read_text(encoding="utf-8")
    text = re.sub(r'\[fetch(\.dataset)?\]\n(dataset|name) = "\w+"', '[fetch.dataset]\nname = "image_folder"', text)
    text = re.sub('(name = "image_folder")', rf'\1\nfolder = "{images}"\nparts = true', text)
    for knob, value in (("epochs", 1), ("warmup_epochs", 0), ("batch", 16), ("queue", 32), ("prototypes", 8)):
        text = re.sub(rf"\b{knob} = \d+", f"{knob} = {value}", text)
    small = recipe.with_name("small.toml")
    small.write_text(text, encoding="utf-8")
    said = say(
        "run", small, "--store", store, "--arm", arm, "--seed", recipes.load(str(small)).seeds[0], "--to", "embed"
    )
    assert said.code == 0, said.err


QUICK = ("moco", "swav")
"""The methods whose step is tried on every run of the tests: one that compares pairs, one with clusters."""


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=() if name in QUICK else pytest.mark.soak) for name in sorted(METHODS)]
)
def test_a_method_trains_a_step_on_images_like_cifar(method: str, shared: Path, tmp_path: Path) -> None:
    trains(unswept("cifar10-bias", tmp_path), method, made_up(shared / "cifar", 32, "RGB"), shared / "store")


@pytest.mark.parametrize("arm", ["digit", "flow"])
def test_either_view_of_the_digits_trains_a_step_on_images_like_mnist(arm: str, shared: Path, tmp_path: Path) -> None:
    trains(unswept("mnist", tmp_path), arm, made_up(shared / "mnist", 28, "L"), shared / "store")


@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_the_views_of_the_digits_are_the_papers(name: str) -> None:
    recipe = recipes.load(name)
    views = {arm: recipe.settings("pretrain", arm).branches["view"].view for arm in ("digit", "flow")}
    pad, invert, rotate, crop = views["digit"]
    assert (pad.padding, invert.plugin_name(), rotate.degrees, crop.scale) == ((0.1, 0.4), "invert", 25.0, (0.5, 0.9))
    across, over, turn, window, erase = views["flow"]
    assert (across.p, over.p, turn.degrees) == (0.5, 0.5, 180.0)
    assert (window.scale, erase.scale, erase.p) == ((0.9, 1.1), (0.02, 0.3), 0.5)
