"""overrides: a --set that asks for another result has pointers of its own; one that does not has the recipe's."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from cellssl.config.overrides import pointers_of
from cellssl.config.recipe import load
from cellssl.files import write_text

RECIPE = """
name = "mine"
[fetch.dataset]
name = "simulated"
[cluster]
k = 3
[arm.coarse.cluster]
k = 2
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_text(tmp_path / "r.toml", RECIPE)
    return tmp_path / "r.toml"


def name_of(recipe: Path, overrides: Sequence[str]) -> str:
    return pointers_of(load(str(recipe), overrides), overrides)[0]


@pytest.mark.parametrize(
    "overrides",
    [[], ["segment.workers=2"], ["cluster.k=3"], ["cluster.k=9", "cluster.k = 3"], ["name=mine"], ["embed.batch=3"]],
)
def test_without_another_result_the_name_stays(recipe: Path, overrides: list[str]) -> None:
    assert name_of(recipe, overrides) == "mine"


@pytest.mark.parametrize(
    "override", ["cluster.k=4", "arm.coarse.cluster.k=4", "seeds=[1]", "evaluate={}", "hits={}", "report.title=x"]
)
def test_another_result_has_another_name(recipe: Path, override: str) -> None:
    assert name_of(recipe, [override]).startswith("mine+")
    assert pointers_of(load(str(recipe), [override]), [override, "segment.workers=2"])[1] == [override]


def test_the_order_of_overrides_does_not_matter_and_their_values_do(recipe: Path) -> None:
    two = ["cluster.k=4", "split.seed=1"]
    assert name_of(recipe, two) == name_of(recipe, [*reversed(two), "segment.workers=2"])
    assert name_of(recipe, two) != name_of(recipe, ["cluster.k=4", "split.seed=2"])


def test_a_name_that_is_overridden_is_taken_as_it_is(recipe: Path) -> None:
    assert name_of(recipe, ["name=other", "cluster.k=4"]) == "other"
    assert name_of(recipe, ["name=mine", "cluster.k=4"]).startswith("mine+")


def test_a_recipe_that_is_none_without_its_overrides_has_a_name_too(recipe: Path) -> None:
    write_text(recipe, RECIPE.replace('name = "simulated"', "").replace('"mine"', '"mine"'))
    assert name_of(recipe, ["fetch.dataset.name=simulated"]).startswith("mine+")


def test_another_file_of_the_user_is_another_result(recipe: Path, tmp_path: Path) -> None:
    write_text(
        recipe, RECIPE.replace('name = "simulated"', 'name = "image_table"\ntable = "a.csv"\nchannels = {d = "d"}')
    )
    assert name_of(recipe, [f"fetch.dataset.table={tmp_path}/b.csv"]).startswith("mine+")
    assert name_of(recipe, [f"fetch.dataset.table={tmp_path}/a.csv"]) == "mine"
