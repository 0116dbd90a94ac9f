"""controls: what a control is, and what looks like one; nothing that only looks like one is taken."""

import pytest

from cellssl.datasets.base import ControlType
from cellssl.datasets.tables.controls import control_type_of, is_control, near_control, near_names, usual_controls


@pytest.mark.parametrize(
    ("compound", "kind", "controls", "expected"),
    [
        ("DMSO", None, ["DMSO"], True),
        ("dmso", None, ["DMSO"], False),
        (None, None, ["DMSO"], False),
        (None, None, [""], True),
        ("LacZ", "negative", ["DMSO"], True),
        ("taxol", "positive", ["DMSO"], False),
    ],
)
def test_a_control_is_named_letter_by_letter_or_by_its_type(
    compound: str | None, kind: ControlType | None, controls: list[str], expected: bool
) -> None:
    assert is_control(compound, kind, controls) is expected


@pytest.mark.parametrize("name", ["dmso", "Dmso", "DMSO 0.1%", "DMSO (0.1 % v/v)", "DMSO control", "DMSO_1", "dmso-2"])
def test_other_spellings_of_a_control_look_like_it(name: str) -> None:
    assert near_control(name, ["DMSO"]) == "DMSO"


@pytest.mark.parametrize(
    "name",
    [
        *("DSMO", "DMOS", "DMS0", "DMSO.", "D.M.S.O.", "DMSO1", "DMSO10", "DMSO+TNF", "vehicle (DMSO)"),
        *("Dimethyl sulfoxide", "DMS\u041e", "dimethyl sulphoxide", "DMSSO", "DMSO/PBS"),
    ],
)
def test_misprints_and_other_names_of_a_short_control_look_like_it(name: str) -> None:
    assert near_control(name, ["DMSO"]) == "DMSO"


def test_short_forms_of_untreated_and_of_solvents_look_like_it() -> None:
    pairs = [("UNT", "untreated"), ("untreated", "UNT"), ("EtOH", "ethanol"), ("non-treated", "untreated")]
    assert all(near_control(name, [control]) == control for name, control in pairs)


@pytest.mark.parametrize("name", ["DMSO", "taxol", "DMS", "sulfoxide", "DMF", "dimethyl fumarate", "DMOG", "MDMA"])
def test_the_control_itself_and_other_compounds_do_not(name: str) -> None:
    assert near_control(name, ["DMSO"]) is None


def test_a_series_of_which_one_is_a_control_does_not_look_like_it() -> None:
    assert near_control("compound2", ["compound1"]) is None
    assert near_control("drug b", ["drug a"]) is None


def test_misprints_of_compounds_are_found_and_series_are_not() -> None:
    names = ["nocodazole", "nocodazol", "Drug A", "drug-a", "cycloheximide", "cyclohexamide", "BRD-K0001", "BRD-K0002"]
    names += ["compound-a", "compound-b", "(+)-JQ1", "(-)-JQ1"]
    assert near_names(names) == [
        ("Drug A", "drug-a"), ("cyclohexamide", "cycloheximide"), ("nocodazol", "nocodazole"),
    ]  # fmt: skip


def test_words_for_types_of_wells_are_known() -> None:
    words = ["negcon", "Negative Control", "poscon_cp", "trt", "empty", "DMSO 0.1%", "edge", ""]
    kinds = ["negative", "negative", "positive", "treatment", "empty", "negative", None, None]
    assert [control_type_of(word) for word in words] == kinds


def test_usual_controls_are_proposed() -> None:
    assert usual_controls(["DMSO", "dmso 0.1%", "taxol", "water", "waterfall"]) == ["DMSO", "dmso 0.1%", "water"]
