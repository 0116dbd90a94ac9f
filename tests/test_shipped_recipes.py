"""What every shipped recipe promises: it is valid, says what it is for, and the two for a lab's own plates run."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tifffile
from tiny import tiny_field

from cellssl.cli import invoke
from cellssl.config import paths
from cellssl.config import recipe as recipes
from cellssl.pipeline.sweep_arms import expand_sweep

FOLDER = paths.shipped_folder("recipes")
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
PAPER = {
    "bbbc021-nocodazole": (1750, {"first": "0.19 ± 0.01", "second": "0.37 ± 0.03", "ours": "0.51", "imagenet": "0.39"}),
    "bbbc021-taxol": (950, {"first": "0.16 ± 0.05", "second": "0.38 ± 0.01", "ours": "0.52", "imagenet": "0.43"}),
    "bbbc021-cytochalasin-b": (
        1150,
        {"first": "0.27 ± 0.02", "second": "0.45 ± 0.01", "ours": "0.66", "imagenet": "0.57"},
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_is_valid_in_every_arm_and_stage(name: str) -> None:
    recipe = expand_sweep(recipes.load(name))
    for arm in recipe.arm_names():
        for stage in recipes.CHAIN if recipe.has("fetch") else recipe.merged(arm):
            recipe.settings(stage, arm)
    assert recipe.name == name


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_opens_with_purpose_and_command(name: str) -> None:
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    opening = text[: text.index("\nname = ")]
    assert all(line.startswith("#") for line in opening.splitlines())
    assert re.search(r"^# cellssl (run|demo)", opening, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(PAPER))
def test_the_papers_recipes_hold_the_papers_settings(name: str) -> None:
    recipe = recipes.load(name)
    cells_per_class, ami = PAPER[name]
    training, moco = recipe.settings("pretrain"), recipe.settings("pretrain").branches["centre"].objective
    assert recipe.settings("split").cells_per_class == cells_per_class
    assert recipe.settings("report").paper_ami == ami
    assert (training.batch, training.epochs, training.learning_rate) == (128, 400, 0.001)
    assert (moco.queue, moco.temperature, training.weight_decay) == (1024, 0.07, 0.0001)
    baselines = {"random", "intensities", "features", "imagenet"}
    assert set(recipe.arm_names()) == {"ours", "first", "second", "context", "centre", *baselines}
    assert recipe.settings("pretrain", "imagenet").published().encoder.all_values()["weights"] == "imagenet"
    assert recipe.settings("pretrain", "imagenet").encoder.plugin_name() == "resnet101"


ACTIVE = {
    "ours": {"context": 0.4, "centre": 1.0},
    "first": {"first": 1.0},
    "second": {"second": 1.0},
    "context": {"context": 1.0},
    "centre": {"centre": 1.0},
}


@pytest.mark.parametrize("arm", sorted(ACTIVE))
def test_an_arm_of_the_papers_recipes_runs_its_branches_only(arm: str) -> None:
    branches = recipes.load("bbbc021-taxol").settings("pretrain", arm).active()
    assert {name: branch.weight for name, branch in branches.items()} == ACTIVE[arm]


def test_the_quick_demo_shows_the_same_as_the_demo_with_less_work() -> None:
    demo, quick = recipes.load("demo"), recipes.load("demo-quick")
    assert set(quick.arm_names()) < set(demo.arm_names()) and len(quick.seeds) < len(demo.seeds)
    assert sum(quick.settings("embed", arm).model == "pretrain" for arm in quick.arm_names()) == 2
    assert quick.settings("pretrain").branches == demo.settings("pretrain").branches
    for stage, setting in (("pretrain", "epochs"), ("split", "cells_per_class")):
        assert getattr(quick.settings(stage), setting) < getattr(demo.settings(stage), setting)
    assert "quick" in quick.settings("report").title


def test_reading_every_recipe_loads_no_heavy_library() -> None:
    code = (
        "import sys; from cellssl.config import recipe as recipes\n"
        f"for name in {NAMES!r}: recipes.load(name)\n"
        "print([heavy for heavy in ('torch', 'pandas', 'skimage', 'requests') if heavy in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def lab(folder: Path, plate: str) -> Path:
    """A lab's folder with images of two channels and plate.csv."""
    (folder / "images").mkdir(parents=True)
    lines = ["plate,well,site,dna,actin"]
    for well in ("B02", "C03"):
        for site in (1, 2):
            stem = f"images/{well}_{site}"
            for channel in ("dna", "actin"):
                tifffile.imwrite(folder / f"{stem}_{channel}.tif", tiny_field(plate + stem, channel))
            lines.append(f"{plate},{well},{site},{stem}_dna.tif,{stem}_actin.tif")
    (folder / "plate.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def made(capsys: pytest.CaptureFixture[str], *words: str) -> Path:
    """The artifact that a command makes."""
    assert invoke(list(words)) == 0, capsys.readouterr().err
    return Path(capsys.readouterr().out.strip())


def test_a_lab_trains_on_its_plate_and_applies_the_model_to_the_next_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(lab(tmp_path / "first", "P1"))
    small = ["segment.crop_px=32", "segment.min_area_px=50", "segment.workers=1"]
    training = [
        'pretrain.encoder={ name = "small", widths = [8, 16] }',
        "pretrain.epochs=1",
        "pretrain.batch=8",
        "cluster.k=2",
    ]
    common = ["--store", str(tmp_path / "store")]
    for knob in small:
        common += ["--set", knob]
    first = [*common, *(word for knob in training for word in ("--set", knob))]
    made(capsys, "run", "own-plates", "--to", "cluster", "--arm", "main", *first)
    model = made(capsys, "pretrain", "own-plates", *first)
    clusters = made(capsys, "cluster", "own-plates", *first)
    monkeypatch.chdir(lab(tmp_path / "second", "P2"))
    earlier = ["--set", f"embed.model={model}", "--set", f"cluster.assign_to={clusters}"]
    made(capsys, "run", "tonight", "--to", "cluster", *common, *earlier)
    assigned = made(capsys, "cluster", "tonight", *common, *earlier)
    wells = pd.read_csv(assigned / "wells.csv")
    assert set(wells["plate"]) == {"P2"}
    card = json.loads((assigned / "artifact.json").read_text())
    assert card["inputs"]["assign_to"] == clusters.name
    assert card["metrics"]["cells"] == 4 * 6
