"""A score says so where the model learned from a label that it follows from, and which treatments it had not seen."""

from typing import Any

import pandas as pd
import pytest

from cellssl.errors import UsageError
from cellssl.stages.evaluate.label_leaks import label_leaks
from cellssl.stages.evaluate.settings import Settings
from cellssl.stages.pretrain.positives import positives_of
from cellssl.stages.pretrain.settings import BranchSettings
from cellssl.stages.shared.learned_labels import LearnedLabels, leaks, of_branch


def cells(**columns: list[Any]) -> pd.DataFrame:
    """Return two cells of a control and of three compounds, of two mechanisms, on two plates."""
    table = {
        "compound": ["DMSO", "A", "B", "C"] * 2,
        "moa": [None, "one", "one", "two"] * 2,
        "dose_micromolar": [0.0, 1.0, 1.0, 1.0] * 2,
        "plate": ["P1"] * 4 + ["P2"] * 4,
        "label": ["control", "treated", None, None] * 2,
    }
    return pd.DataFrame(table | columns).assign(control=lambda made: made["compound"] == "DMSO")


LEARNED = of_branch("positives of the branch context", ["compound", "dose_micromolar"], cells().iloc[:2])


@pytest.mark.parametrize(
    ("columns", "is_concerned"),
    [(("label",), True), (("moa",), True), (("compound", "dose_micromolar"), True), (("plate",), False)],
)
def test_a_score_is_concerned_where_its_label_follows_from_what_was_learned(
    columns: tuple[str, ...], is_concerned: bool
) -> None:
    assert bool(leaks([LEARNED], cells(), columns, "it")) is is_concerned


def test_a_label_that_determines_what_was_learned_is_concerned_too() -> None:
    by_mechanism = of_branch("supcon of the branch context", ["moa"], cells())
    assert leaks([by_mechanism], cells(), ("compound",), "compounds")


def test_a_well_that_was_a_positive_is_one_of_its_plate_and_determines_its_compound() -> None:
    branch = BranchSettings.model_validate({"view": [], "positives": {"same": ["well"], "other": ["field"]}})
    wells = cells(well=["A", "B", "C", "D", "D", "C", "B", "A"])  # of other compounds on the other plate
    learned = of_branch("positives of the branch context", branch.learned_columns(), wells)
    assert learned.columns == ["plate", "well"]
    assert leaks([learned], wells, ("compound",), "compounds")


@pytest.mark.parametrize("is_training", [True, False])
def test_cells_that_are_all_controls_are_partners_of_each_other(is_training: bool) -> None:
    branch = BranchSettings.model_validate({"view": [], "positives": {"same": ["compound", "moa"], "other": ["plate"]}})
    controls = cells(cell_id=list("abcdefgh")).query("control").assign(compound="DMSO")
    doubled = pd.concat([controls, controls.assign(compound="water", cell_id=["y", "z"])], ignore_index=True)
    partners = positives_of("context", branch, doubled, is_training=is_training).partners
    assert partners.has_partner.all() and len(set(partners.treatments.tolist())) == 2


def test_validation_cells_without_a_value_have_no_partner_and_are_no_error() -> None:
    branch = BranchSettings.model_validate({"view": [], "positives": {"same": ["moa"], "other": ["plate"]}})
    table = cells(cell_id=list("abcdefgh"), moa=[None] * 8)
    assert positives_of("context", branch, table, is_training=False).partners.has_partner.sum() == 2
    with pytest.raises(UsageError, match="no treated cell has a value"):
        positives_of("context", branch, table)


def test_an_objective_without_negatives_refuses_to_keep_them_and_one_with_them_does_not() -> None:
    branch = {"view": [], "positives": {"mask_same": False}}
    with pytest.raises(ValueError, match=r"byol has no negatives, so .* changes nothing"):
        BranchSettings.model_validate({**branch, "objective": "byol"})
    assert BranchSettings.model_validate({**branch, "objective": "simclr"}).positives


def test_the_scored_compounds_that_the_training_had_are_counted() -> None:
    assert LEARNED.seen == ["A"]
    (leak,) = leaks([LEARNED], cells(), ("moa",), "mechanisms")
    assert leak.were_seen and leak.sentence.endswith("; 1 of 3 scored compounds was in its training")


def test_of_compounds_that_were_left_out_it_is_said_that_none_was_in_the_training() -> None:
    left_out = cells()[lambda table: ~table["compound"].isin(["A"])]
    (leak,) = leaks([LEARNED], left_out, ("moa",), "mechanisms")
    said = "; none of 2 scored compounds was in its training"
    assert not leak.were_seen and leak.sentence.endswith(f"{said}; controls were")
    (treated,) = leaks([LEARNED], left_out[~left_out["control"]], ("moa",), "mechanisms")
    assert treated.sentence.endswith(said)


def test_each_part_of_an_evaluation_is_judged_by_its_own_cells() -> None:
    scored = cells(split=["train", "train", "test", "test"] * 2).assign(fits_only=False)
    parts = ["split", "leave_one_plate_out", "nsc", "map_replicates"]
    split, left_out, mechanisms, replicates = label_leaks([LEARNED], scored, parts, Settings(label="compound"))
    assert [each.were_seen for each in (split, left_out, mechanisms, replicates)] == [False, True, True, True]
    assert "compound (split)" in split.sentence and "mechanisms (nsc)" in mechanisms.sentence


def test_the_split_is_judged_by_the_part_that_is_predicted() -> None:
    scored = cells(split=["val", "val", "test", "test"] * 2).assign(fits_only=False)
    (of_val,) = label_leaks([LEARNED], scored, ["split"], Settings(label="compound", part="val"))
    (of_test,) = label_leaks([LEARNED], scored, ["split"], Settings(label="compound"))
    assert of_val.were_seen and not of_test.were_seen


def test_a_model_without_labels_has_nothing_to_say() -> None:
    learned: list[LearnedLabels] = []
    assert label_leaks(learned, cells().assign(fits_only=False), ["nsc"], Settings()) == ()
