"""report: what is said of treatments is true with ties, with one treatment, and without a typical control well."""

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from cellssl.stages.hits.cautions import cautions_of_effects
from cellssl.stages.report import hit_tables
from cellssl.stages.report.hit_blocks import treatment_rows
from cellssl.stages.report.hit_sentences import surest


def treatments(**columns: list[Any]) -> pd.DataFrame:
    """Return a table of treatments without doses."""
    known = {name: [None] * len(columns["compound"]) for name in hit_tables.TREATMENTS}
    return pd.DataFrame(known | {"wells": [4] * len(columns["compound"])} | columns)


@pytest.mark.parametrize(
    ("q", "words"),
    [
        ([0.01, 0.02, 0.03], "; most surely a"),
        ([0.01, 0.01, 0.03], "; most surely a and b"),
        ([0.01, 0.01, 0.01], "; largest effect: c"),
    ],
)
def test_the_surest_treatment_is_named_only_where_few_are_as_sure(q: list[float], words: str) -> None:
    assert surest(treatments(compound=["a", "b", "c"], q_value=q, effect=[1.0, 2.0, 3.0])) == words


def test_no_treatment_has_the_largest_effect_where_none_has_an_effect() -> None:
    assert surest(treatments(compound=["a", "b", "c"], q_value=[0.01] * 3, effect=[0.0, 0.001, 0.0])) == ""


def test_a_nearest_treatment_that_is_not_active_is_called_so_and_gives_no_mechanism() -> None:
    table = treatments(
        compound=["a", "b", "c", "d"],
        active=[True, True, False, False],
        nearest_treatment=["b", "c", "a", "a"],
        nearest_similarity=[0.9, 0.58, 0.7, 0.2],
        nearest_moa=["tubulin", "none", "actin", "actin"],
    )
    heads, rows = treatment_rows(table)
    shown = [dict(zip(heads, row, strict=True)) for row in rows]
    assert [row["most like"] for row in shown] == ["b (0.90)", "c (0.58; not active)", "", ""]
    assert [row["nearest mechanism"] for row in shown] == ["tubulin", "", "", ""]


def test_an_effect_of_1_is_no_typical_control_well_where_no_plate_has_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hit_tables, "compared_with", lambda hits: "control well")
    effects: Any = SimpleNamespace(unit_wells=0, effect=[1.0])
    runs: list[Any] = [
        SimpleNamespace(hits=SimpleNamespace(cautions=cautions), found_hits=None)
        for cautions in ((), cautions_of_effects(effects))
    ]
    usual, without = map(hit_tables.unit_of, runs)
    assert usual == "1: as far as a typical control well lies from the others"
    assert "typical control well" not in without and "median of all wells" in without
