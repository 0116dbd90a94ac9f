"""The JSON Schema of recipes: what the tool takes it takes, and a typo is refused as the tool refuses it."""

import copy
import json
import random
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chain import RECIPE, say
from conftest import REPOSITORY
from jsonschema import Draft7Validator
from jsonschema.exceptions import best_match

from cellssl.config.paths import NAME, shipped_folder
from cellssl.config.recipe import SCHEMA, SCHEMA_LINE, from_table
from cellssl.errors import UsageError

FOLDER = shipped_folder("recipes")
RECIPES = sorted(FOLDER.glob("*.toml"))
SHIPPED = json.loads((FOLDER / SCHEMA).read_text(encoding="utf-8"))
VALIDATOR = Draft7Validator(SHIPPED)
Table = dict[str, Any]
BEYOND = re.compile(
    r"shares must be three parts of 1|must be (a number or a pair )?\[low, high\]|two blocks are called|"
    r"a block needs a model, an arm, or a name$|a block cannot be called|of arm '.*: a branch needs either view or|"
    r"\[sweep\] names (an arm|[3-9] settings)|needs (either values, or from|at least two values, each once)"
)
"""What a schema cannot see, in the words of the tool; docs/commands.md lists it."""


def table(path: Path) -> Table:
    return tomllib.loads(path.read_text(encoding="utf-8"))


def tool_says(recipe: Table) -> str | None:
    """What the tool says of a recipe; None where it takes it."""
    try:
        from_table(copy.deepcopy(recipe), Path(), "r.toml").check()
    except UsageError as error:
        return error.message
    return None


def test_the_file_beside_the_recipes_is_what_explain_prints() -> None:
    said = say("explain", "--schema")
    assert said.code == 0
    assert said.out == (FOLDER / SCHEMA).read_text(encoding="utf-8"), f"cellssl explain --schema > recipes/{SCHEMA}"


def test_the_schema_is_one_of_draft_7_and_small() -> None:
    Draft7Validator.check_schema(SHIPPED)
    assert (FOLDER / SCHEMA).stat().st_size < 500_000


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_fits_the_schema_that_its_first_line_names(path: Path) -> None:
    first, _ = path.read_text(encoding="utf-8").split("\n", 1)
    assert first == SCHEMA_LINE
    assert (path.parent / first.removeprefix("#:schema ")).is_file()
    assert best_match(VALIDATOR.iter_errors(table(path))) is None


def test_what_the_pages_and_other_tests_show_fits_where_the_tool_takes_it() -> None:
    pages = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
    shown = [
        block
        for page in pages
        for block in re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    taken = [one for one in map(tomllib.loads, [RECIPE, *shown]) if tool_says(one) is None]
    assert len(taken) > 10
    for one in taken:
        assert best_match(VALIDATOR.iter_errors(one)) is None, one


def test_every_setting_has_its_meaning_and_numbers_have_their_unit() -> None:
    places = {name: one["properties"] for name, one in SHIPPED["definitions"].items() if "properties" in one}
    assert len(places) > 100
    for name, settings in places.items():
        for key, setting in settings.items():
            assert name.startswith("arm.") or setting.get("description"), (name, key)
    assert places["segment"]["crop_px"]["default"] == 196
    assert "pixels" in places["segment"]["crop_px"]["description"]
    assert places["pretrain"]["checkpoint_s"]["description"] == "Seconds between two checkpoints. Unit: seconds."


TYPOS = {
    "a key of a section": ("pretrain.learning_rat", 0.1, "pretrain", "learning_rat"),
    "a section": ("pretrian", {}, "", "pretrian"),
    "a key of a nested table": ("segment.quality.min_solidty", 0.5, "segment.quality", "min_solidty"),
    "a setting of a plugin": ("fetch.dataset.plate", 2, "fetch.dataset", "plate"),
    "the name of a plugin": ("pretrain.encoder", "vgg31", "pretrain.encoder", "vgg31"),
    "the name in a table": ("pretrain.branches.context.objective", {"name": "mocco"}, "objective.name", "mocco"),
    "a setting of a transform": ("pretrain.branches.context.view", [{"name": "rotate", "degres": 9}], "0", "degres"),
    "a transform": ("pretrain.branches.context.view", ["rotat"], "view.0", "rotat"),
    "a setting of the default plugin": ("cluster.method", {"n_intt": 3}, "cluster.method", "n_intt"),
    "a choice": ("pretrain.optimizer", "adm", "pretrain.optimizer", "adm"),
    "a link of a chain": ("cluster.normalise", ["zscore", "l3"], "cluster.normalise.1", "l3"),
    "a setting in an arm": ("arm.centre.pretrain.epoch", 3, "arm.centre.pretrain", "epoch"),
    "a plugin's setting in an arm": ("arm.centre.fetch", {"dataset": {"plats": 3}}, "fetch.dataset", "plats"),
    "a plugin in an arm": ("arm.centre.pretrain.encoder", "resnet", "pretrain.encoder", "resnet"),
    "a section of an arm": ("arm.centre.embedd", {}, "arm.centre", "embedd"),
    "a key of a block": ("embed.blocks", [{"model": "features", "wheight": 2}], "embed.blocks.0", "wheight"),
    "a key of a sweep": ("sweep.hue", {"knob": "a.b", "valeus": [1, 2]}, "sweep.hue", "valeus"),
    "a former name": ("cluster.starts", 3, "cluster", "starts"),
    "a number below its bound": ("segment.crop_px", 3, "segment.crop_px", "3"),
    "a text for a number": ("pretrain.epochs", "400", "pretrain.epochs", "400"),
    "a number for a text": ("name", 3, "name", "3"),
    "a branch without views": ("pretrain.branches.context", {"weight": 2.0}, "branches.context", "view"),
    "the name of a branch": ("pretrain.branches", {"a b": {"view": []}}, "pretrain.branches", "a b"),
    "the name of an arm": ("arm", {"a/b": {}}, "arm", "a/b"),
    "a name with a dash of typesetters": ("name", "day–2", "name", "day–2"),
    "the path of a swept setting": ("sweep.k", {"knob": "epochs", "values": [1, 2]}, "sweep.k.knob", "epochs"),
    "a single value of a sweep": ("sweep.k", {"knob": "cluster.k", "values": [3]}, "sweep.k.values", "[3]"),
    "a sweep without an end": ("sweep.k", {"knob": "cluster.k", "from": 3}, "sweep.k", "to"),
}


@pytest.mark.parametrize("typo", TYPOS.values(), ids=TYPOS)
def test_a_typo_is_named_by_the_schema_as_by_the_tool(typo: tuple[str, Any, str, str]) -> None:
    path, value, place, word = typo
    recipe = table(FOLDER / "demo.toml")
    *above, last = path.split(".")
    inside = recipe
    for step in above:
        inside = inside.setdefault(step, {})
    inside[last] = value
    fault = best_match(VALIDATOR.iter_errors(recipe))
    assert fault is not None
    assert ".".join(map(str, fault.absolute_path)).endswith(place)
    assert word in fault.message
    said = tool_says(recipe)
    assert said is not None
    assert word in said


EXCLUDE = {
    "sweep": {"k": {"knob": "cluster.k", "values": [2, 3], "from": 2}},
    "pretrain": {"branches": {"context": {"view": [], "views": {"query": [], "key": []}}}},
    "embed": {"blocks": [{"model": "random", "arm": "centre"}]},
}


@pytest.mark.parametrize("section", EXCLUDE)
def test_keys_of_a_table_that_exclude_each_other_are_refused_by_both(section: str) -> None:
    recipe = {section: EXCLUDE[section]}
    assert tool_says(recipe) is not None
    assert not VALIDATOR.is_valid(recipe)


def test_a_sweep_of_nothing_is_refused_by_both() -> None:
    recipe = {"sweep": {"together": True}}
    assert tool_says(recipe) is not None
    assert not VALIDATOR.is_valid(recipe)


# --- patterns, which are ECMAScript's in editors and Python's here ----------------------------------------------------


def patterns(schema: Any = SHIPPED) -> set[str]:
    """Every pattern of the schema."""
    if not isinstance(schema, dict | list):
        return set()
    own = {schema["pattern"]} if isinstance(schema, dict) and isinstance(schema.get("pattern"), str) else set()
    return own.union(*map(patterns, schema.values() if isinstance(schema, dict) else schema))


def test_no_pattern_has_a_shorthand_that_is_ascii_in_editors_and_unicode_in_python() -> None:
    assert len(patterns()) > 3
    for pattern in patterns():
        assert not re.search(r"\\(?!x[0-9a-f]{2}|u[0-9a-f]{4})[A-Za-z0-9]|\(\?[^:]", pattern), pattern


def parts(letters: str, size: int) -> list[str]:
    return [letters[start : start + size] for start in range(0, len(letters), size)]


def test_names_have_the_letters_of_all_scripts() -> None:
    letters = "".join(re.findall(r"\w", "".join(map(chr, range(sys.maxunicode + 1)))))
    assert len(letters) > 100_000
    of_folders = re.compile(SHIPPED["properties"]["name"]["pattern"])
    of_sweeps = re.compile(SHIPPED["properties"]["sweep"]["propertyNames"]["else"]["pattern"])
    assert all(of_folders.search(some) for some in parts(letters, 100))
    assert all(of_sweeps.search("a" + some) for some in parts(letters, 29))
    ascii_names = [first + second for first in map(chr, range(128)) for second in ("", *map(chr, range(128)))]
    assert all(bool(NAME.fullmatch(one)) == bool(of_folders.search(one)) for one in ascii_names if one[-1] != "\n")


NODE = shutil.which("node")
TRY_ALL = """
const {patterns, taken, refused} = JSON.parse(require("fs").readFileSync(0, "utf8"));
for (const flags of ["", "u"]) {
  patterns.forEach((one) => new RegExp(one, flags));
  const name = new RegExp(patterns[0], flags);
  console.log(taken.every((one) => name.test(one)), refused.some((one) => name.test(one)));
}
"""


@pytest.mark.skipif(NODE is None, reason="needs node, for the regular expressions of ECMAScript")
def test_names_with_umlauts_fit_in_ecmascript_too() -> None:
    name = SHIPPED["properties"]["name"]["pattern"]
    given = {
        "patterns": [name, *patterns()],
        "taken": ["Plätte-ü", "größe", "細胞", "kjerne_ø.2+b", "𐐀", "a" * 100],
        "refused": ["a b", "a/b", "-a", "", "a\n", "a–b", "a" * 101],
    }
    assert NODE is not None
    said = subprocess.run([NODE, "-e", TRY_ALL], input=json.dumps(given), capture_output=True, text=True, check=True)
    assert said.stdout == "true false\n" * 2


def test_a_schema_is_of_whole_recipes() -> None:
    said = say("explain", "--schema", "moco")
    assert said.code == 2
    assert "cellssl explain moco --json" in said.err


# --- the tool and the schema, one change after another ----------------------------------------------------------------

VALUES: tuple[Any, ...] = (
    *("word", "", True, 1.5, -1, 0, 10**6, -0.5),
    *([], ["word"], [1, 2], [0.5, 0.1], {}, {"word": 1}, {"name": "word"}),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in a recipe."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inside:
        yield (*path, key)
        yield from places(below, (*path, key))


def changed(recipe: Table, path: tuple[Any, ...], how: int) -> Table:
    """The recipe with another value in one place; or with another key, without that key, or with one more."""
    new = copy.deepcopy(recipe)
    inside: Any = new
    for step in path[:-1]:
        inside = inside[step]
    key, was = path[-1], inside[path[-1]]
    if how < len(VALUES):
        inside[key] = copy.deepcopy(VALUES[how])
    elif how == len(VALUES):
        inside[key] = f"{was}x" if isinstance(was, str) else [was]
    elif isinstance(inside, dict):
        more = {f"{key}x": was} if how == len(VALUES) + 1 else {"unknown": 1} if how == len(VALUES) + 2 else {}
        if how != len(VALUES) + 2:
            del inside[key]
        inside |= more
    return new


def changes(recipe: Table) -> list[tuple[tuple[Any, ...], int]]:
    return [(path, how) for path in places(recipe) for how in range(len(VALUES) + 4)]


def disagreements(recipe: Table, chosen: list[tuple[tuple[Any, ...], int]]) -> list[tuple[Any, ...]]:
    """The changes that the schema refuses and the tool takes, or the other way round for no reason in BEYOND."""
    found = []
    for path, how in chosen:
        new = changed(recipe, path, how)
        said, fits = tool_says(new), VALIDATOR.is_valid(new)
        if fits != (said is None) and not (fits and said is not None and BEYOND.search(said)):
            found.append((path, how, said))
    return found


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_schema_refuses_what_the_tool_refuses_and_nothing_else(path: Path) -> None:
    recipe = table(path)
    chosen = random.Random(path.stem).sample(changes(recipe), 12)
    assert not disagreements(recipe, chosen)


@pytest.mark.soak  # 3 minutes on one core
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_schema_agrees_with_the_tool_on_many_changes(path: Path) -> None:
    recipe = table(path)
    every = changes(recipe)
    assert not disagreements(recipe, random.Random(1).sample(every, min(600, len(every))))
