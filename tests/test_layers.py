"""The house: imports point down only, rooms stand apart, and what must be quick loads nothing heavy."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from chain import Chain

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "cellssl"
LAYERS = (
    {
        "bounded",
        "counting",
        "durations",
        "errors",
        "events",
        "randomness",
        "files",
        "letters",
        "disk",
        "spreadsheets",
        "device",
        "rank",
        "images",
    },
    {"config"},
    {"artifacts", "datasets", "imaging", "learning", "profiling", "reporting"},
    {"engine"},
    {"stages"},
    {"pipeline"},
    {"sharing"},
    {"cli"},
)
"""From the bottom up. Folders of one layer do not import each other; files of the lowest one may."""
HEAVY = {"torch", "torchvision", "pandas", "skimage", "sklearn", "scipy", "matplotlib", "pyarrow", "timm"}
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_FLOORS = {"stages": 4, "a folder of stages": 6}


def module_name(file: Path) -> str:
    """cellssl/learning/view.py -> cellssl.learning.view; a package bears the name of its folder."""
    return ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(file): file for file in FILES}


def imported(file: Path) -> Iterator[str]:
    """The modules of the package that a file imports, wherever in it: in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("cellssl."):
                yield name if name in MODULES else name.rpartition(".")[0]


IMPORTS = {name: set(imported(file)) - {name} for name, file in MODULES.items()}


def layer(module: str) -> int:
    """How high the folder or base file of a module stands."""
    place = module.split(".")[1]
    return next(number for number, places in enumerate(LAYERS) if place in places)


@pytest.mark.parametrize("module", [name for name in MODULES if name not in ("cellssl", "cellssl.__main__")])
def test_imports_point_down_only(module: str) -> None:
    for other in IMPORTS[module]:
        assert other in MODULES, f"{module} imports {other}, which is no module"
        same = module.split(".")[1] == other.split(".")[1]
        base = layer(module) == layer(other) == 0
        assert same or base or layer(other) < layer(module), f"{module} imports {other}"


@pytest.mark.parametrize("module", MODULES)
def test_no_import_leads_back(module: str) -> None:
    ahead, seen = [[module]], {module}
    while ahead:
        way = ahead.pop()
        for other in IMPORTS.get(way[-1], ()):
            assert other != module, " -> ".join([*way, other])
            if other not in seen:
                seen.add(other)
                ahead.append([*way, other])


def floors(graph: Mapping[str, set[str]]) -> int:
    """The longest way down through imports, counted in places."""

    @cache
    def height(place: str) -> int:
        return 1 + max((height(other) for other in graph[place]), default=0)

    return max(map(height, graph))


def test_stages_stand_on_few_floors() -> None:
    of_stages = {name: ".".join(name.split(".")[:3]) for name in MODULES if name.startswith("cellssl.stages.")}
    folders: dict[str, set[str]] = {folder: set() for folder in of_stages.values()}
    for name, folder in of_stages.items():
        inside = {of_stages[other] for other in IMPORTS[name] if other in of_stages}
        folders[folder] |= inside - {folder}
    assert floors(folders) <= MOST_FLOORS["stages"]
    for folder in folders:
        files = [name for name in of_stages if of_stages[name] == folder]
        assert floors({name: IMPORTS[name] & set(files) for name in files}) <= MOST_FLOORS["a folder of stages"], folder


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
        heavy_after(
            f"from cellssl.config import recipe\nfor name in {list(map(str, shipped))!r}: recipe.load(name)", tmp_path
        )
        == set()
    )


def test_an_encoder_with_published_weights_is_validated_without_anything_heavy(tmp_path: Path) -> None:
    encoder = '{ name = "timm", model = "resnet50.a1_in1k", weights = "imagenet" }'
    (tmp_path / "r.toml").write_text(f'[pretrain]\nencoder = {encoder}\n[embed]\nmodel = "imagenet"\n')
    assert heavy_after("from cellssl.config import recipe\nrecipe.load('r.toml').settings('embed')", tmp_path) == set()


def test_every_part_of_every_room_loads_nothing_heavy(tmp_path: Path) -> None:
    code = "from cellssl.cli.explain import PLUGIN_FOLDERS\n" + invoking("explain", "pretrain")
    assert (
        heavy_after(code + "\nfor folder in PLUGIN_FOLDERS: assert invoke(['explain', folder]) == 0", tmp_path) == set()
    )


def test_up_to_date_loads_nothing_heavy(chain: Chain, tmp_path: Path) -> None:
    assert heavy_after(invoking("run", chain.recipe, "--store", chain.root), tmp_path) == set()


def test_the_whole_chain_leaves_nothing_in_the_home_directory_nor_where_it_was_started(chain: Chain) -> None:
    assert chain.made("report", "all").file("report.html").is_file()
    assert list(chain.home.rglob("*")) == []
