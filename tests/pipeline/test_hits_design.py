"""hits_design: what a design does not allow hits to find is said before any work; what makes it impossible stops."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chain import Said, say

from cellssl.config import recipe as recipes
from cellssl.pipeline.hits_design import PlannedWell, design_sentences, planned_wells
from cellssl.stages.hits.design_warnings import at_once
from cellssl.stages.hits.settings import Settings

STACK = """
name = "stack"
[fetch]
controls = ["DMSO"]
[fetch.dataset]
name = "crop_stack"
stack = "stack.npy"
table = "stack.csv"
axes = "ncyx"
channels = ["red", "green"]
columns = { plate = "plate", well = "well", compound = "compound" }
[segment]
reference = "all"
[embed]
model = "intensities"
cells = "segment"
[cluster]
normalise = ["zscore", "l2"]
[hits]
"""


def wells(treated: dict[str, int], controls: int, plates: int = 1) -> list[PlannedWell]:
    """Return the wells of plates that are all alike."""
    return [
        PlannedWell(f"P{plate}", f"{name}{number}", None if name == "DMSO" else (name, 1.0), name == "DMSO")
        for plate in range(plates)
        for name, count in {**treated, "DMSO": controls}.items()
        for number in range(count)
    ]


def test_one_well_per_treatment_has_effects_and_no_q_value() -> None:
    (sentence,) = design_sentences(wells({"a": 1, "b": 1}, controls=8), Settings())
    assert "effects and ranks" in sentence and "no q-values" in sentence


def test_a_design_whose_smallest_p_value_is_above_alpha_is_named_with_it() -> None:
    (sentence,) = design_sentences(wells({"a": 2}, controls=2), Settings())  # 4 choose 2 = 6 ways, doubled
    assert "0.33" in sentence and "more wells per treatment, or more control wells" in sentence
    assert not design_sentences(wells({"a": 2}, controls=2), Settings(alpha=0.4))


def test_a_design_that_needs_several_hits_at_once_says_how_many() -> None:
    many = {f"drug-{number}": 2 for number in range(20)}
    (sentence,) = design_sentences(wells(many, controls=10), Settings())  # 66 ways; 20 * 2 / 66 / 0.05 > 12
    assert "at least 13 treatments of 20" in sentence


def test_a_q_value_has_to_be_below_alpha_and_not_equal_to_it() -> None:
    assert at_once(0.0025, treatments=20, alpha=0.05) == 2  # 20 * 0.0025 = 0.05
    assert at_once(0.0024, treatments=20, alpha=0.05) == 1


def test_a_control_with_many_wells_does_not_hide_that_others_cannot_be_active() -> None:
    library = {f"drug-{number}": 2 for number in range(60)}  # 66 ways, doubled: 0.03; 60 * 0.03 / 0.05 > 36
    (sentence,) = design_sentences(wells({**library, "positive": 12}, controls=10), Settings())
    assert "for 60 of 61 treatments" in sentence and "at least 37 treatments of 61" in sentence
    few = wells({**{f"drug-{number}": 1 for number in range(5)}, "b": 2, "positive": 12}, controls=2)
    assert any(text.startswith("1 of 2 treatments cannot have") for text in design_sentences(few, Settings()))


def test_the_cure_is_what_limits_the_p_value() -> None:
    one_control = wells({"a": 1, "b": 1}, controls=1, plates=4)
    (sentence,) = design_sentences(one_control, Settings())
    assert "more control wells per plate would give them" in sentence and "replicates" not in sentence
    many = wells({f"drug-{number}": 4 for number in range(100)}, controls=16)
    (sentence,) = design_sentences(many, Settings(null_size=100))
    assert "a larger hits.null_size would allow smaller ones" in sentence and "more wells" not in sentence


def test_treatments_that_cannot_be_tested_beside_others_are_counted() -> None:
    (sentence,) = design_sentences(wells({"a": 4, "b": 1}, controls=8), Settings())
    assert sentence.startswith("1 of 2 treatments cannot be tested")


def test_labels_that_change_within_rows_only_need_control_wells_there() -> None:
    plate = [PlannedWell("P", f"A0{column}", ("a", 1.0), control=False) for column in (1, 2)]
    plate += [PlannedWell("P", f"{row}0{column}", None, control=True) for row in "AB" for column in (3, 4, 5, 6)]
    assert design_sentences(plate, Settings()) == []  # 10 choose 2 = 45 ways
    (sentence,) = design_sentences(plate, Settings(permute_within=("plate", "row")))  # 6 choose 2 = 15 ways
    assert "0.13" in sentence


def test_replicates_on_several_plates_are_enough() -> None:
    assert design_sentences(wells({"a": 1, "b": 1}, controls=8, plates=4), Settings()) == []


def stack(folder: Path, compounds: dict[str, list[str]], hits: str = "") -> Path:
    """Return a recipe for crops of wells with these compounds, by plate; an empty name is an unknown compound."""
    rows = [(plate, f"W{row}", name) for plate, names in compounds.items() for row, name in enumerate(names)]
    table = pd.DataFrame(rows, columns=["plate", "well", "compound"])
    np.save(folder / "stack.npy", np.zeros((len(table), 2, 12, 12), np.uint16))
    table.to_csv(folder / "stack.csv", index=False)
    (folder / "stack.toml").write_text(STACK + hits)
    return folder / "stack.toml"


def tried(recipe: Path, *words: str) -> Said:
    return say(*words[:1], recipe, *words[1:], "--store", recipe.parent / "store")


@pytest.mark.parametrize("command", [("run", "--dry-run"), ("check",), ("hits", "--dry-run")])
def test_what_a_design_does_not_allow_is_said_before_any_work(tmp_path: Path, command: tuple[str, ...]) -> None:
    recipe = stack(tmp_path, {"P0": ["DMSO"] * 4 + ["a", "b"]})
    said = tried(recipe, *command)
    assert said.code == 0 and said.err.count("hits: no treatment") == 1
    assert not list(tmp_path.glob("store/*/*/artifact.json"))


def test_a_sentence_that_holds_for_some_arms_names_them(tmp_path: Path) -> None:
    arms = "[arm.mild.hits]\nalpha = 0.5\n[arm.strict.hits]\nalpha = 0.01\n[arm.as_main.cluster]\nk = 3\n"
    recipe = stack(tmp_path, {"P0": ["DMSO"] * 3 + ["a", "a"]}, arms)  # 10 ways, doubled
    said = tried(recipe, "check")
    assert said.err.count("hits of main, as_main: no treatment can have a q-value below 0.05") == 1, said.err
    assert said.err.count("hits of strict: no treatment") == 1 and "of mild" not in said.err


def test_a_script_reads_what_a_design_does_not_allow(tmp_path: Path) -> None:
    found = json.loads(tried(stack(tmp_path, {"P0": ["DMSO"] * 4 + ["a", "b"]}), "check", "--json").out)
    assert len(found["hits"]) == 1 and "no q-value" in found["hits"][0]
    enough = stack(tmp_path, {f"P{plate}": ["DMSO"] * 8 + ["a", "b"] for plate in range(3)})
    assert json.loads(tried(enough, "check", "--json").out)["hits"] == []


@pytest.mark.parametrize("command", [("check",), ("run",), ("run", "--dry-run"), ("hits", "--dry-run")])
def test_hits_without_any_control_stop_before_any_work(tmp_path: Path, command: tuple[str, ...]) -> None:
    recipe = stack(tmp_path, {"P0": ["a", "b"], "P1": ["a", "b"]})
    said = tried(recipe, *command)
    assert said.code == 2 and "no plate has a control well" in said.err and "q-value" not in said.err
    assert "fetch.controls" in said.err and 'hits.reference = "all"' in said.err
    assert not list(tmp_path.glob("store/*/*/artifact.json"))
    compared_with_all = tried(stack(tmp_path, {"P0": ["a", "b"], "P1": ["a", "b"]}, 'reference = "all"'), "check")
    assert compared_with_all.code == 0


def test_a_plate_without_controls_beside_others_is_named_and_does_not_stop_hits(tmp_path: Path) -> None:
    said = tried(stack(tmp_path, {"P0": ["DMSO", "DMSO", "a"], "P1": ["a", "b"]}), "check")
    assert said.code == 0 and "1 plate with 2 treated wells will be left out, for no control well: P1" in said.err


def test_controls_that_no_simulated_well_has_stop_before_any_work(tmp_path: Path) -> None:
    said = say("run", "demo", "--dry-run", "--set", 'fetch.controls=["NOPE"]', "--store", tmp_path)
    assert said.code == 2 and "no plate has a control well" in said.err


def test_hits_without_any_treatment_stop_before_any_work(tmp_path: Path) -> None:
    said = tried(stack(tmp_path, {"P0": ["DMSO", "DMSO", ""]}), "run", "--dry-run")
    assert said.code == 2 and "no well has a treatment" in said.err and "leave [hits] out" in said.err


def test_wells_of_a_plan_are_those_that_the_simulation_will_fetch() -> None:
    recipe = recipes.load("demo")
    plates = {"Sim1_00001": recipe.settings("fetch").dataset.plan(Path("/nowhere"))}
    found = planned_wells(recipe, "sum", plates)
    assert sum(one.control for one in found) == 12 and len({one.treatment for one in found}) == 5
