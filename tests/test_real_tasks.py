"""How cells and compounds are chosen and divided for the tables on real cells."""

import sys

import numpy as np
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
from page_numbers import mechanisms, profile_blocks
from page_numbers.profile_blocks import Answers
from page_numbers.workplace import benchmark


def test_frequent_compounds_are_drawn_and_controls_are_left_out() -> None:
    compounds = np.array(["DMSO"] * 90 + ["taxol"] * 80 + ["cyclohexamide"] * 70 + ["nocodazole"] * 7, object)
    chosen = mechanisms._is_chosen(compounds)
    counts = dict(zip(*np.unique(compounds[chosen].astype(str), return_counts=True), strict=True))
    assert counts == {"taxol": 60, "cyclohexamide": 60, "nocodazole": 7}
    assert (chosen == mechanisms._is_chosen(compounds)).all()


def test_a_half_has_half_of_every_phase_and_shares_no_cell_with_the_other() -> None:
    label = np.repeat(["G1", "G2", "Prophase"], [10, 6, 4])
    one, other = benchmark("jurkat").half(label, number=0)
    assert not (one & other).any()
    assert (one | other).all()
    assert {name: int((label[one] == name).sum()) for name in set(label)} == {"G1": 5, "G2": 3, "Prophase": 2}


def test_the_interval_of_a_gain_that_every_compound_has_is_that_gain() -> None:
    compound = np.repeat(["a", "b", "c"], 2)
    wrong, right = Answers(compound, np.zeros(6, bool)), Answers(compound, np.ones(6, bool))
    found = {("nucleus", "none", "nsc"): wrong, ("both", "none", "nsc"): right}
    assert profile_blocks._gain(found, "none", "nsc") == "+100 (100 to 100)"


def test_the_chain_is_chosen_by_the_compounds_of_the_half_alone() -> None:
    compound = np.array(["a", "b"])
    of_chain = {
        "good for a": Answers(compound, np.array([True, False])),
        "good for b": Answers(compound, compound == "b"),
    }
    found = {(name, *key): of_chain[key[0]] for name in ("nucleus", "both") for key in KEYS}
    assert profile_blocks._by_both(found, list(of_chain), np.array(["b"])) == ("good for b", "good for b")


KEYS = [(chain, rule) for chain in ("good for a", "good for b") for rule in profile_blocks.RULES]
