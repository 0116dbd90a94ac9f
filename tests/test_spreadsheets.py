"""spreadsheets: no cell that is written is a formula, and what is read back is what was written."""

import csv
from pathlib import Path

import pandas as pd
import pytest

from cellssl.artifacts.tables import read_csv, write_csv
from cellssl.engine.plate_parts import write_quarantine
from cellssl.spreadsheets import readable, safe

FORMULAS = ["=cmd|' /C calc'!A0", "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''@x", "-", "=", "- x"]
HARMLESS = ["", "DMSO", "-1.5", "+3", "-1e-3", "'quoted", "a=b", "(-)-epicatechin", "01", "NA", "5'-AMP", "'"]


@pytest.mark.parametrize("text", [*FORMULAS, *HARMLESS])
def test_text_is_read_back_as_it_was(text: str) -> None:
    assert readable(safe(text)) == text
    assert (safe(text) != text) is (text in FORMULAS)
    assert not safe(text).startswith(("=", "@", "\t", "\r"))


def test_a_table_keeps_its_text_and_its_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame({"=name": [*FORMULAS, *HARMLESS[1:]]})
    table["number"] = -1.5
    write_csv(table, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["'=name", "number"] and ["DMSO", "-1.5"] in rows and ["'-2+3", "-1.5"] in rows
    back = read_csv(tmp_path / "t.csv", ["number"])
    assert back["=name"].tolist() == table["=name"].tolist() and set(back["number"]) == {-1.5}


def test_the_quarantine_list_holds_no_formula(tmp_path: Path) -> None:
    write_quarantine([{"field_id": "=P_A01_s1", "reason": "@x is damaged"}], tmp_path / "q.csv")
    assert (tmp_path / "q.csv").read_text() == "field_id,reason\n'=P_A01_s1,'@x is damaged\n"
