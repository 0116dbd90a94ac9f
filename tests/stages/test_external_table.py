"""external_table: vectors from elsewhere are searched for hits, and messages name the section that gave the table."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chain import Said, say

from cellssl.errors import CellsslError
from cellssl.randomness import generator
from cellssl.stages.shared.external_table import (
    ExternalTable,
    column_hint,
    controls_key,
    read_external_table,
    table_blocks,
)

GOOD = "Metadata_Plate,Metadata_Well,Cells_a\nP,A01,1\n"
WRONG = {
    "no feature": (GOOD.replace("Cells_a", "a"), {}, "table.features"),
    "text in a feature": (GOOD.replace(",1\n", ",one\n"), {}, "table.features"),
    "a gap in the controls": (GOOD.replace("Well", "control").replace("A01", ""), {}, "table.controls"),
    "two columns for the plate": (GOOD.replace("Metadata_Well", "plate"), {}, "table.columns"),
    "a feature in no block": (GOOD, {"blocks": {"n": "Nuclei_*"}}, "table.blocks"),
}


@pytest.mark.parametrize("section", ["evaluate", "hits"])
@pytest.mark.parametrize("case", WRONG)
def test_a_cure_names_the_setting_of_the_section_that_gave_the_table(tmp_path: Path, case: str, section: str) -> None:
    text, settings, key = WRONG[case]
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(CellsslError) as caught:
        read_external_table(ExternalTable(path=str(tmp_path / "p.csv"), **settings), section)
    assert f"{section}.{key}" in caught.value.hint


def test_settings_of_the_data_set_are_named_where_there_is_no_table() -> None:
    table = ExternalTable(path="p.csv")
    assert column_hint(None, "well", "hits").endswith("fetch.dataset.columns.well")
    assert column_hint(table, "well", "hits").endswith("hits.table.columns.well")
    assert (controls_key(None, "hits"), controls_key(table, "hits")) == ("fetch.controls", "hits.table.controls")
    assert table_blocks(table, ["Cells_a"], "hits") == ()


def profiles(wells: int = 6) -> pd.DataFrame:
    """Return profiles of two plates, on which the compound `strong` does much and `weak` nothing."""
    compounds = ["DMSO"] * 12 + ["strong"] * 3 + ["weak"] * 3
    names = [f"{'ABC'[number // wells]}{number % wells + 1:02}" for number in range(len(compounds))]
    rows = [(plate, *each) for plate in ("P1", "P2") for each in zip(names, compounds, strict=True)]
    table = pd.DataFrame(rows, columns=["Metadata_Plate", "Metadata_Well", "Metadata_compound"])
    shift = 8.0 * (table["Metadata_compound"] == "strong").to_numpy()[:, None] * np.eye(5)[0]
    numbers = shift + generator("profiles").normal(size=(len(table), 5))
    return table.join(pd.DataFrame(numbers, columns=[f"Cells_{name}" for name in "abcde"]))


def searched(folder: Path, table: pd.DataFrame, *words: str) -> Said:
    """Return the output of `cellssl hits` for an external table."""
    table.to_csv(folder / "profiles.csv", index=False)
    option = ["--set", f"hits.table.path={folder}/profiles.csv"]
    return say("hits", "profiles", "--store", folder / "store", *option, *words)


def test_a_table_of_profiles_is_searched_for_hits_without_a_recipe_of_its_own(tmp_path: Path) -> None:
    said = searched(tmp_path, profiles())
    found = pd.read_csv(Path(said.line) / "hits.csv").set_index("compound")
    assert found["active"].astype(str).str.lower().to_dict() == {"strong": "true", "weak": "false"}
    assert found.loc["strong", "q_value"] < 0.05 < found.loc["weak", "q_value"]
    assert searched(tmp_path, profiles()).line == said.line
    words = ["profiles", "--store", tmp_path / "store", "--set", f"hits.table.path={tmp_path}/profiles.csv", "--json"]
    rows = json.loads(say("status", *words, "--set", f"evaluate.table.path={tmp_path}/profiles.csv").line)["stages"]
    assert [(row["stage"], row["state"]) for row in rows] == [("evaluate", "missing"), ("hits", "done")]


def test_control_types_of_other_programs_name_positive_and_negative_controls(tmp_path: Path) -> None:
    words = {"DMSO": "negcon", "strong": "poscon", "weak": "trt"}
    typed = profiles().assign(Metadata_control_type=lambda table: table["Metadata_compound"].map(words))
    renamed = typed.replace({"Metadata_compound": {"DMSO": "vehicle 7"}})  # a control by its type only
    found = pd.read_csv(Path(searched(tmp_path, renamed).line) / "plates.csv")
    assert found["negative_controls"].tolist() == [12, 12] and found["positive_controls"].tolist() == [3, 3]
    assert (found["robust_z_prime"] > 0).all()


def test_a_table_without_controls_is_compared_with_all_wells_where_that_is_asked_for(tmp_path: Path) -> None:
    alone = profiles().query("Metadata_compound != 'DMSO'")
    refused = searched(tmp_path, alone)
    assert refused.code == 2 and "hits.table.controls" in refused.err and 'hits.reference = "all"' in refused.err
    assert searched(tmp_path, alone, "--set", "hits.reference=all").code == 0
