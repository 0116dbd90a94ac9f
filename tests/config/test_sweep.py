"""Sweeps: tables in, points out; what is wrong with one is said in one sentence, with the cure."""

from pathlib import Path
from typing import Any

import pytest

from cellssl.config.recipe import Recipe, from_table
from cellssl.config.sweep import with_value
from cellssl.errors import UsageError
from cellssl.pipeline.grid import grid
from cellssl.pipeline.sweep_arms import expand_sweep

VIEW = ["horizontal_flip", {"name": "rotate", "degrees": 180}, {"name": "affine", "scale": [0.9, 1.1]}]
BASE: dict[str, Any] = {
    "name": "made-up",
    "fetch": {"dataset": "simulated"},
    "pretrain": {"branches": {"context": {"view": VIEW, "objective": "moco"}}},
    "evaluate": {},
    "arm": {
        "wide": {"pretrain": {"branches": {"context": {"weight": 2.0}}}},
        "intensities": {"embed": {"model": "intensities"}},
        "random": {"embed": {"model": "random"}},
    },
}
DEGREES = "pretrain.branches.context.view.rotate.degrees"
PLACE = DEGREES.replace("rotate", "1")


def swept(**tables: Any) -> Recipe:
    return expand_sweep(from_table({**BASE, "sweep": tables}, Path(), "made-up.toml"))


def refused(**tables: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        swept(**tables)
    return caught.value


def test_every_value_is_an_arm_in_the_place_of_the_one_it_varies() -> None:
    recipe = swept(turn={"knob": DEGREES, "values": [0, 90]})
    assert recipe.arm_names() == (
        "main+turn=0", "main+turn=90", "wide+turn=0", "wide+turn=90", "intensities", "random",
    )  # fmt: skip
    view = recipe.settings("pretrain", "wide+turn=90").branches["context"].view
    assert (view[1].degrees, recipe.settings("pretrain", "wide+turn=90").branches["context"].weight) == (90, 2.0)
    assert recipe.settings("pretrain", "main").branches["context"].view[1].degrees == 180


def test_an_arm_that_the_knob_cannot_touch_stays_one() -> None:
    assert {"intensities", "random"} <= set(swept(turn={"knob": DEGREES, "values": [0, 9]}).arm_names())
    both = swept(size={"knob": "pretrain.encoder", "values": ["small", "vgg11"]}).arm_names()
    assert "random+size=vgg11" in both and "intensities" in both
    assert "intensities+k=3" in swept(k={"knob": "cluster.k", "values": [2, 3]}).arm_names()


def test_a_setting_of_hits_is_swept_in_every_arm() -> None:
    sweep = {"chain": {"knob": "hits.aggregate", "values": ["median", "mean"]}}
    recipe = expand_sweep(from_table({**BASE, "hits": {}, "sweep": sweep}, Path(), "made-up.toml"))
    assert "intensities+chain=mean" in recipe.arm_names()
    assert grid(recipe, ["main+chain=mean"], [0], "report") == [
        ("main+chain=mean", 0, stage) for stage in ("cluster", "evaluate", "hits")
    ]


def test_a_point_to_be_chosen_is_searched_for_hits_once() -> None:
    sweep = {"choose": "ami", "k": {"knob": "cluster.k", "values": [2, 3]}}
    recipe = expand_sweep(from_table({**BASE, "hits": {}, "sweep": sweep}, Path(), "made-up.toml"))
    points = ["main+k=2", "main+k=2+val"]
    assert [arm for arm, _, stage in grid(recipe, points, [0], "report") if stage == "hits"] == ["main+k=2"]


def test_a_branch_of_one_arm_is_swept_in_that_arm() -> None:
    of_one = {"pretrain": {"branches": {"near": {"view": VIEW, "objective": "moco"}}}}
    table = {**BASE, "arm": {**BASE["arm"], "two": of_one}}
    sweep = {"turn": {"knob": DEGREES.replace("context", "near"), "values": [0, 90]}}
    names = expand_sweep(from_table({**table, "sweep": sweep}, Path(), "made-up.toml")).arm_names()
    assert names == ("main", "wide", "intensities", "random", "two+turn=0", "two+turn=90")


def test_evenly_spaced_values_are_named_as_a_person_writes_them() -> None:
    recipe = swept(arms=["main"], w={"knob": "pretrain.branches.context.weight", "from": 0.1, "to": 0.7, "steps": 7})
    assert [name for name in recipe.arm_names() if name.startswith("main")] == [
        f"main+w={value}" for value in ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7")
    ]


def test_whole_ends_make_whole_values() -> None:
    recipe = swept(arms=["main"], b={"knob": "pretrain.batch", "from": 32, "to": 128, "steps": 4})
    assert [recipe.settings("pretrain", arm).batch for arm in recipe.points] == [32, 64, 96, 128]


def test_two_knobs_make_a_grid_and_each_alone_where_they_are_not_together() -> None:
    tables: dict[str, Any] = {
        "arms": ["main"],
        "turn": {"knob": DEGREES, "values": [0, 90]},
        "low": {"knob": "pretrain.branches.context.view.affine.scale.0", "values": [0.5, 0.7]},
    }
    grid, alone = swept(**tables), swept(together=False, **tables)
    assert list(grid.points)[:2] == ["main+turn=0+low=0.5", "main+turn=0+low=0.7"]
    assert grid.settings("pretrain", "main+turn=0+low=0.7").branches["context"].view[2].scale == (0.7, 1.1)
    assert list(alone.points) == ["main+turn=0", "main+turn=90", "main+low=0.5", "main+low=0.7"]
    assert alone.settings("pretrain", "main+low=0.5").branches["context"].view[1].degrees == 180


def test_a_point_to_be_chosen_is_scored_on_val_too() -> None:
    recipe = swept(arms=["main"], choose="linear", turn={"knob": DEGREES, "values": [0, 90]})
    assert list(recipe.points) == ["main+turn=0", "main+turn=0+val", "main+turn=90", "main+turn=90+val"]
    assert [recipe.settings(stage, "main+turn=0+val").part for stage in ("cluster", "evaluate")] == ["val", "val"]
    assert recipe.settings("pretrain", "main+turn=0+val") == recipe.settings("pretrain", "main+turn=0")


def test_the_second_of_two_alike_is_meant_by_its_number() -> None:
    view = {"pretrain": {"view": ["invert", {"name": "rotate", "degrees": 1}, {"name": "rotate", "degrees": 2}]}}
    assert with_value(view, "pretrain.view.rotate#2.degrees", 9)["pretrain"]["view"][2]["degrees"] == 9
    assert with_value(view, "pretrain.view.invert.p", 0.5)["pretrain"]["view"][0] == {"name": "invert", "p": 0.5}
    assert view["pretrain"]["view"][2]["degrees"] == 2
    with pytest.raises(UsageError, match="occurs 2 times"):
        with_value(view, "pretrain.view.rotate.degrees", 9)


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no knob": ({}, "names 0 settings", "knob and values"),
    "three knobs": (
        {name: {"knob": f"cluster.{name}", "values": [2, 3]} for name in "kab"}, "names 3 settings", "together = false",
    ),
    "one value": ({"k": {"knob": "cluster.k", "values": [2]}}, "at least two values", ""),
    "a value twice": ({"k": {"knob": "cluster.k", "values": [2, 2]}}, "each once", ""),
    "no values": ({"k": {"knob": "cluster.k"}}, "either values, or from, to and steps", ""),
    "values and ends": ({"k": {"knob": "cluster.k", "values": [2, 3], "from": 2}}, "either values, or", ""),
    "a mistyped word": ({"k": {"knob": "cluster.k", "value": [2, 3]}}, "unknown key 'value'", "did you mean 'values'"),
    "a mistyped section": ({"k": {"knob": "clustr.k", "values": [2, 3]}}, "'clustr'", "did you mean 'cluster'"),
    "a mistyped knob": ({"k": {"knob": "cluster.kk", "values": [2, 3]}}, "unknown key 'kk'", "did you mean 'k'"),
    "a mistyped transform": (
        {"turn": {"knob": DEGREES.replace("rotate", "rotat"), "values": [0, 1]}}, "no 'rotat'", "did you mean 'rotate'",
    ),
    "a wrong type": ({"k": {"knob": "cluster.k", "values": ["two", "three"]}}, "cluster", ""),
    "out of range": ({"w": {"knob": "pretrain.branches.context.weight", "values": [-1, 1]}}, "weight", ""),
    "an unknown arm": ({"arms": ["man"], "k": {"knob": "cluster.k", "values": [2, 3]}}, "'man'", "did you mean 'main'"),
    "an unknown score": ({"choose": "am", "k": {"knob": "cluster.k", "values": [2, 3]}}, "choose", ""),
    "the same knob twice": (
        {name: {"knob": "cluster.k", "values": [2, 3]} for name in "ab"}, "the same setting", "another",
    ),
    "a knob of the report": ({"t": {"knob": "report.title", "values": ["a", "b"]}}, "not a section of a result", ""),
    "a name that is a path": ({"../k": {"knob": "cluster.k", "values": [2, 3]}}, "cannot be called '../k'", ""),
    "a value that is no number": ({"w": {"knob": DEGREES, "values": [float("nan"), 1]}}, "finite number", "explain"),
    "an end that is no number": (
        {"w": {"knob": DEGREES, "from": 0, "to": float("inf"), "steps": 3}}, "must be a finite number", "explain",
    ),
    "a list as value": ({"w": {"knob": "split.shares", "values": [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]}}, "a text", ""),
    "zero twice": ({"turn": {"knob": DEGREES, "values": [0.0, -0.0]}}, "each once", ""),
    "two of one name": ({"l": {"knob": "evaluate.label", "values": ["a b", "a-b"]}}, "both be called 'a-b'", ""),
    "a value too long": ({"l": {"knob": "evaluate.label", "values": ["a" * 300, "b"]}}, "60 letters", ""),
    "no arms": ({"arms": [], "turn": {"knob": DEGREES, "values": [0, 1]}}, "arms", ""),
    "an arm that it leaves alone": (
        {"arms": ["intensities"], "turn": {"knob": DEGREES, "values": [0, 1]}}, "nothing in the arm", "out",
    ),
    "a name that is a column": ({"seed": {"knob": "cluster.k", "values": [2, 3]}}, "called 'seed'", "it varies"),
    "the part": ({"p": {"knob": "cluster.part", "values": ["val", "test"]}}, "cannot be swept", "choose"),
    "the same knob under two names": (
        {name: {"knob": knob, "values": [1, 2]} for name, knob in {"a": DEGREES, "b": PLACE}.items()}, "same thing", "",
    ),
    "a knob in a knob": (
        {
            "a": {"knob": "pretrain.encoder", "values": ["small", "vgg11"]},
            "b": {"knob": "pretrain.encoder.name", "values": ["small", "vgg13"]},
        }, "a and b of [sweep] set the same thing", "another",
    ),
    "an unknown branch": (
        {"turn": {"knob": DEGREES.replace("context", "contxt"), "values": [0, 1]}}, "[sweep.turn]", "did you mean",
    ),
    "a place in what is not given": (
        {"s": {"knob": "pretrain.branches.context.view.rotate.fill.0", "values": [0, 1]}}, "does not set fill", "",
    ),
    "nothing that changes": (
        {"arms": ["main"], "k": {"knob": "fetch.dataset.name.x", "values": [2, 3]}}, "dataset", "",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(WRONG))
def test_what_is_wrong_is_said_in_one_sentence(case: str) -> None:
    tables, words, cure = WRONG[case]
    error = refused(**tables)
    assert words in error.message and "\n" not in error.message
    assert cure in (error.hint or "")
