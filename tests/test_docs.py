"""What README and docs show is true: commands parse, recipes exist, and the example of one's own plates runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import REPOSITORY
from made_up_screen import write_screen
from typer.main import get_command

from cellssl.artifacts.card import read_card
from cellssl.cli import invoke
from cellssl.cli.app import app
from cellssl.config import plugins
from cellssl.config.paths import shipped_folder
from cellssl.config.recipe import from_table
from cellssl.pipeline.sweep_arms import expand_sweep

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
COMMAND = re.compile(r"(?:^|\()(?:\S*/)?cellssl ([a-z][^#\n)]*)", re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def shown_commands() -> list[list[str]]:
    text = "\n".join(block for page in PAGES for block in blocks(page, "sh"))
    return [shlex.split(line) for line in COMMAND.findall(text)]


@pytest.mark.parametrize("words", shown_commands(), ids=" ".join)
def test_a_command_that_is_shown_has_these_flags_and_this_recipe(words: list[str]) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert words[0] in commands
    known = {flag for option in commands[words[0]].params for flag in option.opts}
    assert {word for word in words if word.startswith("-")} <= known
    shipped = {path.stem for path in shipped_folder("recipes").glob("*.toml")}
    named = {
        word for word in words[1:2] if re.fullmatch(r"bbbc021-\w+|tonight|demo|digits|mnist|cifar\S+|sweep-\w+", word)
    }
    assert named <= shipped


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert link.startswith("http") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipes_that_are_shown_are_toml(page: Path) -> None:
    for block in blocks(page, "toml"):
        tomllib.loads(block)


def test_the_example_of_ones_own_plates_runs_as_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = REPOSITORY / "docs" / "own-plates.md"
    table = blocks(page, "")[0]
    (tmp_path / "plate.csv").write_text(table)
    (tmp_path / "mine.toml").write_text(blocks(page, "toml")[0])
    (tmp_path / "images").mkdir()
    for name in re.findall(r"images/\S+?\.tif", table):
        tifffile.imwrite(tmp_path / name, field_of_discs())
    monkeypatch.chdir(tmp_path)
    assert invoke(["segment", "mine.toml"]) == 2  # fetch comes first, and the cure says so
    assert "--to fetch" in capsys.readouterr().err
    assert invoke(["run", "mine.toml", "--to", "segment", "--set", "segment.crop_px=64"]) == 0
    artifact = Path(capsys.readouterr().out.strip())
    assert (artifact / "contact-sheet.png").is_file()
    assert read_card(artifact).metrics["kept"] == 2 * 9


def test_the_example_of_profiles_from_elsewhere_runs_as_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = REPOSITORY / "docs" / "evaluation.md"
    (tmp_path / "profiles.csv").write_text(blocks(page, "csv")[0])
    monkeypatch.chdir(tmp_path)
    shown = [words for words in shown_commands() if words[:2] == ["evaluate", "profiles"]]
    assert len(shown) == 2
    found = []
    for words in shown:
        assert invoke(words) == 0, capsys.readouterr().err
        found.append(read_card(Path(capsys.readouterr().out.strip())).metrics)
    assert found[0]["nsc"]["accuracy"] == found[0]["nscb"]["accuracy"] == 1.0
    assert found[1]["leave_one_plate_out"]["linear"]["balanced_accuracy"] == 1.0


def test_the_objective_that_is_shown_is_one_file_and_keeps_the_contract_of_all(tmp_path: Path) -> None:
    package = tmp_path / "cellssl"
    shutil.copytree(REPOSITORY / "cellssl", package, ignore=shutil.ignore_patterns("__pycache__"))
    shown = blocks(REPOSITORY / "docs" / "objectives.md", "python")[0]
    (package / "learning" / "objectives" / "alignment.py").write_text(shown, encoding="utf-8")
    words = "-P -m pytest -n 0 tests/parts/test_objectives.py -k alignment"  # -P: the copy, not the checkout
    plain = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, *words.split()]
    done = subprocess.run(command, cwd=REPOSITORY, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed.group(1)) >= 10


def test_every_objective_has_its_paragraph() -> None:
    page = (REPOSITORY / "docs" / "objectives.md").read_text(encoding="utf-8")
    for name in plugins.names("cellssl.learning.objectives"):
        assert f"**`{name}`**" in page, name


def test_sweeps_that_are_shown_turn_knobs_that_there_are() -> None:
    shown = [tomllib.loads(block) for block in blocks(REPOSITORY / "docs" / "choosing-views.md", "toml")]
    sweeps = [one["sweep"] for one in shown if "sweep" in one]
    assert sweeps
    base = tomllib.loads((shipped_folder("recipes") / "demo.toml").read_text(encoding="utf-8"))
    for sweep in sweeps:
        recipe = expand_sweep(from_table({**base, "sweep": sweep}, Path(), "page"))
        assert any(point.arm == "sum" for point in recipe.points.values())


def test_the_page_on_fetching_shows_a_recipe_and_reads_a_result_as_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = REPOSITORY / "docs" / "fetching.md"
    settings = from_table(tomllib.loads(blocks(page, "toml")[0]), tmp_path, "page").settings("fetch")
    assert settings.dataset.compounds == ("nocodazole", "taxol")
    monkeypatch.chdir(write_screen(tmp_path / "screen"))
    assert invoke(["fetch", "recipe.toml"]) == 0
    fetched = Path(capsys.readouterr().out.strip())
    read: dict[str, Any] = {}
    exec(blocks(page, "python")[0].replace("FINGERPRINT", fetched.name), read)
    assert read["dna"].shape == (120, 120)


def field_of_discs() -> np.ndarray:
    """Nine bright nuclei of 18 px radius on a grid, none at the edge."""
    rows, columns = np.mgrid[:300, :300]
    near = np.minimum.reduce([np.hypot(rows - r, columns - c) for r in (60, 150, 240) for c in (60, 150, 240)])
    return (500 + 3000 * (near < 18)).astype(np.uint16)
