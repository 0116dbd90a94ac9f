"""The house: imports point down only, rooms stand apart, and what must be quick loads nothing heavy."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chain import Chain

PACKAGE = Path(__file__).resolve().parents[1] / "cellssl"
BASE = {"errors", "events", "rooms", "randomness", "settings", "recipe", "sweep", "doses"}
MIDDLE = {"artifacts", "datasets", "imaging", "learning", "profiling", "reporting"}
HEAVY = {"torch", "torchvision", "pandas", "skimage", "sklearn", "scipy", "matplotlib", "pyarrow", "timm"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(parts: tuple[str, ...]) -> str:
    """The first part of a module's name below the package."""
    return parts[0] if parts else ""


def imports(file: Path) -> Iterator[str]:
    """The rooms that a file imports from, wherever in it the import stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("cellssl."))


def rank(name: str) -> int:
    """How high a room stands."""
    return {"cli": 3, "stages": 2, **dict.fromkeys(MIDDLE, 1)}.get(name, 0)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_down_and_middle_rooms_stand_apart(file: Path) -> None:
    here = room(file.relative_to(PACKAGE).with_suffix("").parts)
    if here in ("__init__", "__main__"):
        return
    for other in set(imports(file)) - {here}:
        apart = rank(other) < rank(here) or (rank(here) == rank(other) == 0)
        assert apart or (here, other) == ("recipe", "stages"), f"{file} imports {other}"
        assert other in BASE | MIDDLE | {"cli", "stages"}


def test_every_public_module_opens_with_its_name_and_one_sentence() -> None:
    for file in FILES:
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        if file.name == "__init__.py":
            continue
        name = file.stem
        assert text.startswith(f"{name}: "), f"{file} opens with {text[:40]!r}"


def heavy_after(code: str, cwd: Path) -> set[str]:
    """Which heavy libraries are loaded when some code has run in a fresh interpreter."""
    loud = f"{code}\nimport json, sys\nsys.stderr.write('LOADED' + json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", loud], cwd=cwd, capture_output=True, text=True, check=True)
    return HEAVY & set(json.loads(done.stderr.rpartition("LOADED")[2]))


def invoking(*words: object) -> str:
    """Code that runs one command to its end."""
    return f"from cellssl.cli import invoke\nassert invoke({list(map(str, words))!r}) == 0"


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    assert heavy_after(invoking("--help"), tmp_path) == set()


def test_a_recipe_is_validated_without_anything_heavy(tmp_path: Path) -> None:
    shipped = sorted((PACKAGE.parent / "recipes").glob("*.toml"))
    assert shipped
    assert (
        heavy_after(f"from cellssl import recipe\nfor name in {list(map(str, shipped))!r}: recipe.load(name)", tmp_path)
        == set()
    )


def test_an_encoder_with_published_weights_is_validated_without_anything_heavy(tmp_path: Path) -> None:
    encoder = '{ name = "timm", model = "resnet50.a1_in1k", weights = "imagenet" }'
    (tmp_path / "r.toml").write_text(f'[pretrain]\nencoder = {encoder}\n[embed]\nmodel = "imagenet"\n')
    assert heavy_after("from cellssl import recipe\nrecipe.load('r.toml').settings('embed')", tmp_path) == set()


def test_every_part_of_every_room_loads_nothing_heavy(tmp_path: Path) -> None:
    code = "from cellssl.cli.explain import ROOMS\n" + invoking("explain", "pretrain")
    assert heavy_after(code + "\nfor room in ROOMS: assert invoke(['explain', room]) == 0", tmp_path) == set()


def test_up_to_date_loads_nothing_heavy(chain: Chain, tmp_path: Path) -> None:
    assert heavy_after(invoking("run", chain.recipe, "--store", chain.root), tmp_path) == set()


def test_the_whole_chain_leaves_nothing_in_the_home_directory_nor_where_it_was_started(chain: Chain) -> None:
    assert chain.made("report", "all").file("report.html").is_file()
    assert list(chain.home.rglob("*")) == []
