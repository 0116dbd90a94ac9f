"""Recipes: what is right is read as it stands; what is wrong gets one sentence and the cure."""

import copy
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from chain import RECIPE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellssl.config import paths as recipes
from cellssl.config.recipe import SCHEMA_LINE, from_table, load, overlay
from cellssl.errors import UsageError

MINIMAL = '[fetch]\ndataset = "simulated"\n'


def written(folder: Path, text: str) -> str:
    path = folder / "r.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def fault_of(folder: Path, text: str, *overrides: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load(written(folder, text), overrides)
    return caught.value


def test_shipped_recipes_are_valid_and_say_what_they_are_for() -> None:
    shipped = sorted(recipes.shipped_folder("recipes").glob("*.toml"))
    for path in shipped:
        assert load(path.stem).name == path.stem
        assert path.read_text(encoding="utf-8").startswith(f"{SCHEMA_LINE}\n# ")
    assert shipped


def test_defaults_stand_where_nothing_is_written(tmp_path: Path) -> None:
    recipe = load(written(tmp_path, MINIMAL))
    assert (recipe.name, recipe.seeds, recipe.arm_names()) == ("r", (0,), ("main",))
    assert recipe.settings("segment").crop_px == 196
    assert recipe.settings("segment").non_default() == {}


def test_an_arm_lies_over_the_sections_and_leaves_the_others_alone(tmp_path: Path) -> None:
    arm = '[pretrain.branches.a]\nview = ["invert"]\nweight = 0.5\n[arm.b.pretrain]\nbranches.a.weight = 0.25\n'
    recipe = load(written(tmp_path, MINIMAL + arm))
    assert recipe.settings("pretrain", "b").branches["a"].weight == 0.25
    assert recipe.settings("pretrain", "main").branches["a"].weight == 0.5
    assert recipe.settings("pretrain", "b").branches["a"].view == recipe.settings("pretrain").branches["a"].view


def test_a_part_with_another_name_replaces_the_knobs_of_the_former() -> None:
    below = {"encoder": {"name": "small", "widths": [8]}}
    assert overlay(below, {"encoder": {"name": "vgg13"}}) == {"encoder": {"name": "vgg13"}}
    assert overlay(below, {"encoder": {"widths": [9]}}) == {"encoder": {"name": "small", "widths": [9]}}
    assert overlay({"encoder": "small"}, {"encoder": {"widths": [9]}})["encoder"] == {"name": "small", "widths": [9]}


def test_overlay_changes_neither_side() -> None:
    below = {"a": {"b": {"c": 1}}}
    before = copy.deepcopy(below)
    overlay(below, {"a": {"b": {"c": 2}}})
    assert below == before


@pytest.mark.parametrize(
    ("override", "stage", "knob", "value"),
    [
        ("segment.crop_px=96", "segment", "crop_px", 96),
        ("segment.border=pad", "segment", "border", "pad"),
        ('segment.border="drop"', "segment", "border", "drop"),
        ("split.shares=[0.5, 0.25, 0.25]", "split", "shares", (0.5, 0.25, 0.25)),
        ("cluster.assign_to = 3f9a2c71d0e4", "cluster", "assign_to", "3f9a2c71d0e4"),
        ("pretrain.epochs=1e2", "pretrain", "epochs", 100.0),
        ("pretrain.epochs=3", "pretrain", "epochs", 3.0),
    ],
)
def test_set_takes_a_toml_value_or_else_text(
    tmp_path: Path, override: str, stage: str, knob: str, value: object
) -> None:
    assert getattr(load(written(tmp_path, MINIMAL), [override]).settings(stage), knob) == value


def test_the_last_set_wins(tmp_path: Path) -> None:
    recipe = load(written(tmp_path, MINIMAL), ["segment.crop_px=64", "segment.crop_px=32"])
    assert recipe.settings("segment").crop_px == 32


def test_what_is_written_as_the_default_is_the_default(tmp_path: Path) -> None:
    plain, spelled = (
        load(written(tmp_path, MINIMAL + more)) for more in ("", "[segment]\ncrop_px = 196\nworkers = 3\n")
    )
    assert plain.settings("segment").non_default() == spelled.settings("segment").non_default()


def test_a_branch_of_weight_0_equals_its_absence(tmp_path: Path) -> None:
    one = '[pretrain.branches.a]\nview = ["invert"]\n'
    two = one + '[pretrain.branches.b]\nview = ["grayscale"]\nweight = 0\n'
    changed = [load(written(tmp_path, MINIMAL + text)).settings("pretrain").non_default() for text in (one, two)]
    assert changed[0] == changed[1]


WRONG = {
    "an unknown section": ("[segmnt]\n", "unknown section or key 'segmnt'", "did you mean 'segment'?"),
    "an unknown key": ("[segment]\ncroppx = 9\n", "unknown key 'croppx'", "did you mean 'crop_px'?"),
    "a wrong type": ("[segment]\ncrop_px = 9.5\n", "crop_px: must be a valid integer, got 9.5", "explain segment"),
    "text for a number": ('[segment]\ncrop_px = "96"\n', "crop_px: must be a valid integer", "explain segment"),
    "a number for text": ("[cluster]\nassign_to = 3\n", "assign_to: must be a valid string", "explain cluster"),
    "true for a number": ("[cluster]\nn_init = true\n", "n_init: must be a valid integer", "explain cluster"),
    "neither number nor range": ("[cluster]\nk = true\n", "k: must be a whole number of 2 or more", "explain cluster"),
    "a range that falls": ("[cluster]\nk = [8, 2]\n", "k: must be a whole number of 2 or more", "explain cluster"),
    "out of range": ("[segment]\ncrop_px = 7\n", "crop_px: must be greater than or equal to 8", "explain segment"),
    "not a number": ("[pretrain]\nlearning_rate = nan\n", "learning_rate: must be a finite number", "explain pretrain"),
    "infinite": ("[pretrain]\nepochs = inf\n", "epochs: must be a finite number", "explain pretrain"),
    "infinite in a list": ("[split]\nshares = [inf, 0.0, 0.0]\n", "shares.0: must be a finite number", "explain split"),
    "a nameless part": ("[pretrain.branches.a]\nview = [{ degrees = 20 }]\n", "must be a name", "there are: "),
    "an unknown encoder": (
        '[pretrain]\nencoder = "vgg_13"\n',
        "there is no 'vgg_13' in encoders",
        "did you mean 'vgg13'?",
    ),
    "a path for a part": ('[pretrain]\nencoder = "../os"\n', "there is no '../os' in encoders", "there are: "),
    "a private part": ('[pretrain]\nencoder = "_vgg"\n', "there is no '_vgg' in encoders", "did you mean"),
    "an unknown view": (
        '[pretrain.branches.a]\nview = ["rotat"]\n',
        "branches.a.view.0.name: there is no 'rotat' in transforms",
        "did you mean 'rotate'?",
    ),
    "an unknown knob of a view": (
        '[pretrain.branches.a]\nview = [{ name = "rotate", degree = 9 }]\n',
        "unknown key 'degree'",
        "did you mean 'degrees'?",
    ),
    "neither view nor views": ("[pretrain.branches.a]\nweight = 1\n", "a branch needs either view or views", "explain"),
    "two momenta": (
        '[pretrain.branches.a]\nview = []\nobjective = { name = "moco", momentum = 0.9 }\n'
        "[pretrain.branches.b]\nview = []\n",
        "their momentum must be equal",
        "explain",
    ),
    "a branch no file can be named by": (
        '[pretrain.branches."a b"]\nview = []\n',
        "'a b' cannot be the name of a branch",
        "explain",
    ),
    "doses that are no doses": (
        '[split]\ntreated = { compounds = ["a"], doses = "top" }\n',
        'treated.doses: must be "all", "top 4", a range such as "0.1 to 3", or a list',
        "explain split",
    ),
    "the top 0 doses": (
        '[split]\ntreated = { compounds = ["a"], doses = "top 0" }\n',
        "treated.doses: must be",
        "explain",
    ),
    "a dose as a number": (
        '[split]\ntreated = { compounds = ["a"], doses = 5 }\n',
        "treated.doses: must be",
        "explain",
    ),
    "a dose as text": (
        '[split]\ntreated = { compounds = ["a"], doses = ["x"] }\n',
        "treated.doses: must be",
        "explain",
    ),
    "no compound": ("[split]\ntreated = { compounds = [] }\n", "treated.compounds: ", "explain split"),
    "shares beyond 1": ("[split]\nshares = [0.7, 0.3, 0.3]\n", "shares must be three parts of 1", "explain split"),
    "nothing to train on": ("[split]\nshares = [0.0, 0.0, 1.0]\n", "that of train above 0", "explain split"),
    "two shares": ("[split]\nshares = [0.5, 0.5]\n", "shares.2: is required but not given", "explain split"),
    "seeds as a number": ("seeds = 3\n", "seeds must be a list of whole numbers", ""),
    "no seeds": ("seeds = []\n", "seeds must hold at least one number", ""),
    "a seed twice": ("seeds = [1, 1]\n", "each once", ""),
    "true as a seed": ("seeds = [true]\n", "seeds must be a list of whole numbers", ""),
    "a name with a slash": ('name = "../x"\n', "name '../x' cannot name a folder", "letters, digits"),
    "an empty name": ('name = ""\n', "name '' cannot name a folder", "letters, digits"),
    "a name too long for a folder": (f'name = "{"x" * 300}"\n', "cannot name a folder", "at most 100"),
    "a number as a name": ("name = 5\n", "name 5 cannot name a folder", "letters"),
    "an arm like the main arm": ("[arm.main.pretrain]\n", "has the name 'main' of the main arm", "another name"),
    "an arm that is no table": ("[arm]\na = 3\n", "arm 'a' must be tables", ""),
    "arms that are no tables": ("arm = 3\n", "arm must be tables", ""),
    "an unknown section of an arm": ("[arm.a.pretran]\n", "unknown section 'pretran'", "did you mean 'pretrain'?"),
    "a fault in an arm": ("[arm.a.segment]\ncrop_px = 1\n", "[segment] of arm 'a': crop_px", "explain segment"),
    "a section that is a number": ("segment = 4\n", "segment must be a section, [segment]", ""),
    "a helper file as a data set": (
        "[arm.a.fetch]\ndataset = 'field'\n",
        "there is no 'field' in datasets",
        "there are: ",
    ),
    "too many rows for a plate": (
        "[arm.a.fetch.dataset]\nname = 'simulated'\nwells_per_treatment = 6\n",
        "lower wells_per_treatment",
        "explain",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_recipe_gets_one_sentence_and_the_cure(tmp_path: Path, case: str) -> None:
    text, sentence, cure = WRONG[case]
    head, table = (text, MINIMAL) if not text.startswith("[") else (MINIMAL, text)
    fault = fault_of(tmp_path, head + table)
    assert sentence in fault.message
    assert "\n" not in fault.message
    assert cure in fault.hint
    assert fault.exit_code == 2


def test_a_section_without_its_data_set_says_what_is_missing(tmp_path: Path) -> None:
    assert "[fetch]: dataset: is required but not given" in fault_of(tmp_path, "[fetch]\n").message


@pytest.mark.parametrize(
    "content", [b"name = ", b"\xff\xfe", b"a = 1\na = 2", b"[" * 5000, b"a = " + b"[" * 5000, b"\x00"]
)
def test_what_is_not_toml_is_said_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"is not valid TOML|cannot be read"):
        load(str(path))


@pytest.mark.parametrize("reference", ["nope", "", "x" * 3000, "a\0b", "demo/x"])
def test_a_recipe_that_is_not_there_is_said_so(reference: str) -> None:
    with pytest.raises(UsageError, match="there is no recipe"):
        load(reference)


@pytest.mark.parametrize("folder", [".", "/"])
def test_a_folder_in_place_of_a_recipe_is_said_to_be_one(folder: str) -> None:
    with pytest.raises(UsageError, match="is a folder, not a recipe"):
        load(folder)


def test_a_mistyped_shipped_recipe_is_recognised() -> None:
    with pytest.raises(UsageError) as caught:
        load("deno")
    assert caught.value.hint == "did you mean 'demo'?"


@pytest.mark.parametrize(
    "override", ["", "=", "a", "a.=1", ".a=1", "..=", "a..b=1", "segment=1", "seeds.x=1", "name.y=1"]
)
def test_a_bad_override_is_said_so(tmp_path: Path, override: str) -> None:
    fault = fault_of(tmp_path, MINIMAL, override)
    assert "\n" not in fault.message


def test_a_deeply_nested_override_is_said_so(tmp_path: Path) -> None:
    fault_of(tmp_path, MINIMAL, "segment.crop_px=" + "[" * 5000)
    fault_of(tmp_path, MINIMAL, ".".join(["a"] * 5000) + "=1")


def test_a_recipe_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL, encoding="utf-8-sig")
    assert load(str(path)).settings("fetch").dataset.plugin_name() == "simulated"


def test_settings_of_a_default_part_can_be_set_without_its_name(tmp_path: Path) -> None:
    text = MINIMAL + '[pretrain.branches.c]\nview = ["rotate"]\n'
    recipe = load(written(tmp_path, text), ["pretrain.branches.c.objective.mask_same_cell=true"])
    objective = recipe.settings("pretrain").branches["c"].objective
    assert (objective.plugin_name(), objective.mask_same_cell) == ("moco", True)


def test_an_override_need_not_fit_the_arms_that_were_not_asked_for(tmp_path: Path) -> None:
    text = MINIMAL + '[arm.random.embed]\nmodel = "random"\n[arm.context.embed]\n'
    override = 'embed.layer="projector"'
    assert load(written(tmp_path, text), [override], "context").settings("embed", "context").layer == "projector"
    assert "arm 'random'" in fault_of(tmp_path, text, override).message


def test_an_unknown_arm_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(written(tmp_path, MINIMAL + "[arm.centre.cluster]\nk = 3\n")).settings("cluster", "center")
    assert caught.value.hint == "did you mean 'centre'?"


WHOLE = tomllib.loads(RECIPE)
JUNK = st.one_of(
    st.none().map(lambda _: {}),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(-3, 3), st.floats(), st.text(max_size=3)), max_size=4),
    st.dictionaries(st.sampled_from(["name", "view", "x", ""]), st.sampled_from(["small", "moco", 1, []]), max_size=2),
)


def places(table: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in a recipe."""
    if isinstance(table, dict):
        steps = list(table.items())
    else:
        steps = list(enumerate(table)) if isinstance(table, list) else []
    return [path, *(place for step, value in steps for place in places(value, (*path, step)))]


def mutated(path: tuple[Any, ...], junk: Any, how: str, key: str) -> Any:
    """The recipe with one value replaced, removed, or joined by another key."""
    table = copy.deepcopy(WHOLE)
    node: Any = table
    for step in path[:-1]:
        node = node[step]
    below = node[path[-1]]
    if how == "replace":
        node[path[-1]] = junk
    elif how == "add" and isinstance(below, dict):
        below[key] = junk
    else:
        del node[path[-1]]
    return table


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(
    st.sampled_from([path for path in places(WHOLE) if path]),
    JUNK,
    st.sampled_from(["replace", "replace", "add", "remove"]),
    st.one_of(st.text(max_size=6), st.sampled_from(["crop_px", "k", "model", "weight", "seed", "views"])),
)
def test_any_mutated_recipe_is_read_or_refused_in_one_sentence(
    path: tuple[Any, ...], junk: Any, how: str, key: str
) -> None:
    table = mutated(path, junk, how, key)
    try:
        recipe = from_table(table, Path.cwd(), "r.toml")
        recipe.check()
    except UsageError as error:
        assert error.message
        assert "\n" not in error.message
        assert len(error.message) < 1000
        return
    for stage in recipe.merged("main"):
        json.dumps(recipe.settings(stage).non_default(), allow_nan=False)
        json.dumps(recipe.settings(stage).all_values(), allow_nan=False)
