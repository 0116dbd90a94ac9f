"""split: balanced classes, the given shares, groups that stay together, and counted leakage."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from chain import Chain

from cellssl.artifacts.tables import read_table
from cellssl.errors import UsageError
from cellssl.stages.split.settings import Settings, Treated
from cellssl.stages.split.stage import (
    _check_classes_in_parts,
    _contradictions,
    add_labels,
    assign_parts,
    leakage,
    select_balanced,
    treatment_labels,
)

DOSES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def plates(count: int = 3, per_well: int = 20) -> pd.DataFrame:
    """Make plates with two wells per dose of compound A, two wells of B at one dose, and six control wells."""
    layout = [("DMSO", 0.0)] * 6 + [("A", dose) for dose in DOSES for _ in range(2)] + [("B", 5.0)] * 2
    rows = []
    for plate in range(count):
        for well, (compound, dose) in enumerate(layout):
            for cell in range(per_well + 7 * (well % 3)):
                where = {"plate": f"P{plate}", "well": f"W{well:02d}", "field_id": f"P{plate}_W{well:02d}_s{cell % 2}"}
                rows.append(
                    {**where, "cell_id": f"P{plate}_{well}_{cell}", "compound": compound, "dose_micromolar": dose}
                )
    cells = pd.DataFrame(rows).astype({"compound": "string"})
    return cells.assign(control=cells["compound"] == "DMSO")


def split(cells: pd.DataFrame, **given: Any) -> pd.DataFrame:
    """Label, divide and balance a cell table as the stage does."""
    settings = Settings(**{"treated": Treated(compounds=("A",)), **given})
    cells = add_labels(cells, settings)
    cells = cells.assign(split=assign_parts(cells, settings))
    return cells[select_balanced(cells, settings)]


def counts(cells: pd.DataFrame) -> Counter[tuple[str, str]]:
    return Counter(zip(cells["split"], cells["label"], strict=True))


@pytest.mark.parametrize("by", ["cell", "well"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_part_has_as_many_cells_of_each_class(by: str, seed: int) -> None:
    number = counts(split(plates(), group_by=by, seed=seed))
    for part in ("train", "val", "test"):
        assert number[part, "control"] == number[part, "treated"] > 0


def test_the_shares_are_those_of_the_settings() -> None:
    number = Counter(split(plates(), shares=(0.7, 0.1, 0.2))["split"])
    assert [number[part] / number.total() for part in ("train", "val", "test")] == pytest.approx(
        [0.7, 0.1, 0.2], abs=0.01
    )


def test_a_share_of_zero_gives_no_cells() -> None:
    assert set(split(plates(), shares=(0.8, 0.0, 0.2))["split"]) == {"train", "test"}


@pytest.mark.parametrize(("by", "group"), [("well", ["plate", "well"]), ("plate", ["plate"])])
def test_groups_stay_in_one_part(by: str, group: list[str]) -> None:
    cells = split(plates(6), group_by=by, shares=(0.6, 0.2, 0.2))
    assert (cells.groupby(group)["split"].nunique() == 1).all()
    assert leakage(cells)[f"{by}s_in_train_and_test"] == 0


def test_no_compound_is_in_train_and_in_test_and_controls_are_divided_by_wells() -> None:
    cells = plates().assign(moa=lambda table: table["compound"].map({"A": "one", "B": "one", "DMSO": "none"}))
    divided = split(cells, treated=None, classes="moa", balance=False, group_by="compound", shares=(0.5, 0.0, 0.5))
    by_compound = divided.groupby("compound")["split"].agg(set)
    assert by_compound["A"] | by_compound["B"] == {"train", "test"} and len(by_compound["A"]) == len(by_compound["B"])
    controls = divided[divided["control"]]
    assert set(controls["split"]) == {"train", "test"}
    assert (controls.groupby(["plate", "well"])["split"].nunique() == 1).all()
    assert leakage(divided)["compounds_in_train_and_test"] == 0
    assert leakage(split(cells, treated=None, classes="moa"))["compounds_in_train_and_test"] == 2


@pytest.mark.parametrize("chosen", [{"test_plates": ("P1",)}, {"split_column": "official_part"}])
def test_a_test_part_that_is_chosen_otherwise_cannot_be_divided_by_compound(chosen: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(chosen))} chooses the test part"):
        Settings(group_by="compound", **chosen)


def test_leakage_agrees_with_a_count_by_sets() -> None:
    cells = split(plates())
    for name, group in (("fields", ["field_id"]), ("wells", ["plate", "well"]), ("plates", ["plate"])):
        parts = [set(map(tuple, cells.loc[cells["split"] == part, group].to_numpy())) for part in ("train", "test")]
        assert leakage(cells)[f"{name}_in_train_and_test"] == len(parts[0] & parts[1]) > 0


def test_test_plates_are_the_whole_test_part() -> None:
    cells = split(plates(4), test_plates=("P1", "P3"))
    assert set(cells.loc[cells["split"] == "test", "plate"]) == {"P1", "P3"}
    assert set(cells.loc[cells["split"] != "test", "plate"]) == {"P0", "P2"}
    rest = Counter(cells.loc[cells["split"] != "test", "split"])
    assert rest["val"] / rest.total() == pytest.approx(1 / 8, abs=0.02)


@pytest.mark.parametrize("by", ["cell", "well"])
def test_the_order_of_the_rows_does_not_change_the_split(by: str) -> None:
    cells = plates()
    shuffled = cells.sample(frac=1, random_state=4).reset_index(drop=True)
    one, two = (
        split(table, group_by=by, cells_per_class=200).set_index("cell_id")["split"] for table in (cells, shuffled)
    )
    assert one.sort_index().equals(two.sort_index())


def test_the_same_seed_gives_the_same_split_and_another_a_different_one() -> None:
    one, again, other = (split(plates(), seed=seed).set_index("cell_id")["split"] for seed in (3, 3, 4))
    assert one.equals(again)
    assert not one.equals(other.reindex(one.index))


def test_the_top_doses_are_taken_evenly_from_every_plate() -> None:
    cells = split(plates(), treated=Treated(compounds=("A",), doses="top 4"), cells_per_class=240)
    treated = cells[cells["label"] == "treated"]
    assert sorted(treated["dose_micromolar"].unique()) == list(DOSES[-4:])
    for part, total in (("train", 168), ("val", 24), ("test", 48)):
        of_part = treated[treated["split"] == part].groupby(["plate", "dose_micromolar"]).size()
        assert of_part.sum() == pytest.approx(total, abs=1)
        assert len(of_part) == 12
        assert of_part.max() - of_part.min() <= 1


@pytest.mark.parametrize("wanted", [6, 7, 10, 61, 100, 102])
def test_no_class_has_more_cells_than_the_limit(wanted: int) -> None:
    for shares in ((0.7, 0.1, 0.2), (0.4, 0.3, 0.3), (0.34, 0.33, 0.33), (0.5, 0.25, 0.25)):
        number = Counter(split(plates(), shares=shares, cells_per_class=wanted)["label"])
        assert number["control"] == number["treated"] <= wanted
        assert number["treated"] >= wanted - 2


def test_labels_are_treated_control_or_missing() -> None:
    cells = plates()
    labels = treatment_labels(cells, Treated(compounds=("A",), doses=(3.0, 0.1)))
    assert set(cells.loc[labels == "treated", "dose_micromolar"]) == {0.1, 3.0}
    assert set(cells.loc[labels == "control", "compound"]) == {"DMSO"}
    assert labels[cells["compound"] == "B"].isna().all()


def test_a_compound_without_known_doses_is_treated_at_all_of_them() -> None:
    cells = plates().assign(dose_micromolar=np.nan)
    assert (treatment_labels(cells, Treated(compounds=("A",))) == "treated").sum() == (cells["compound"] == "A").sum()


def test_cells_without_a_compound_have_no_label() -> None:
    cells = plates()
    cells.loc[::5, "compound"] = pd.NA
    cells.loc[::5, "control"] = False
    assert treatment_labels(cells, Treated(compounds=("A",)))[::5].isna().all()


def test_without_labels_every_cell_is_used() -> None:
    cells = split(plates(), treated=None)
    assert len(cells) == len(plates())
    assert cells["label"].isna().all()


@pytest.mark.parametrize(
    ("treated", "message"),
    [
        (Treated(compounds=("C",)), "no cell was treated with 'C'"),
        (Treated(compounds=("A",), doses=(2.0,)), "A has no dose of 2 uM"),
        (Treated(compounds=("DMSO",)), "there is no treated cell"),
    ],
)
def test_a_class_without_cells_is_an_error(treated: Treated, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        treatment_labels(plates(), treated)


def test_the_card_holds_the_counts_and_the_leakage(chain: Chain) -> None:
    split_, segment = chain.made("split"), chain.made("segment")
    table = read_table(split_.file("split.parquet"))
    cells = table.merge(read_table(segment.file("cells.parquet")), on=["cell_id", "field_id"], validate="one_to_one")
    assert len(cells) == len(table)
    assert split_.card.metrics["counts"] == {f"{part}/{name}": n for (part, name), n in sorted(counts(table).items())}
    fields = [set(table.loc[table["split"] == part, "field_id"]) for part in ("train", "test")]
    assert split_.card.metrics["leaks"]["fields_in_train_and_test"] == len(fields[0] & fields[1])
    assert split_.card.metrics["unused_cells"] == segment.card.metrics["kept"] - len(table)


def digits(per_class: int = 40) -> pd.DataFrame:
    """Make cells of one plate with seven classes; every fifth is in the official test part."""
    rows = [
        {"cell_id": f"d{row}", "field_id": "f", "plate": "P", "well": "W", "compound": pd.NA, "dose_micromolar": np.nan}
        | {"class": str(row % 7), "official_part": "test" if row % 5 == 0 else "train"}
        for row in range(7 * per_class + 3)
    ]
    return pd.DataFrame(rows).astype({"compound": "string"}).assign(control=False)


def test_the_values_of_a_column_are_classes_and_each_has_the_same_shares() -> None:
    cells = split(digits(), treated=None, classes="class")
    number = counts(cells)
    assert {name for _, name in number} == set("0123456")
    assert {number["train", name] for name in "0123456"} == {28}
    assert {number["test", name] for name in "0123456"} == {8}


def test_classes_that_are_not_balanced_keep_every_cell() -> None:
    cells = split(digits(), treated=None, classes="class", balance=False)
    assert len(cells) == len(digits())
    assert len(split(digits(), treated=None, classes="class", cells_per_class=10)) == 7 * 10


def test_a_class_in_one_part_only_is_named_with_the_column() -> None:
    cells = digits()
    rare = cells["cell_id"].isin(cells["cell_id"][cells["official_part"] == "test"].iloc[:9])
    cells.loc[rare, "class"] = "rare"
    cells["split"] = cells["official_part"]
    settings = Settings(classes="class", split_column="official_part")
    with pytest.raises(UsageError, match=r"the class 'rare' has no cell in train, only 9 in test .*'official_part'"):
        _check_classes_in_parts(add_labels(cells, settings), settings)


def test_classes_are_the_text_of_the_table_and_cells_without_one_are_counted() -> None:
    classes = pd.Series(["01", "1", "NA", "None", None, "", "dmso", "DMSO"])
    cells = pd.DataFrame({"cell_id": classes.index.astype(str), "class": classes})
    settings = Settings(classes="class")
    labelled = add_labels(cells, settings)
    assert sorted(labelled["label"]) == ["01", "1", "DMSO", "NA", "None", "dmso"]
    said = " ".join(_contradictions(labelled, settings, len(cells) - len(labelled)))
    assert "2 of 8 cells have nothing in the column 'class'" in said
    assert "'DMSO' and 'dmso' differ in spelling only" in said


def test_whole_numbers_with_gaps_are_classes_without_decimals() -> None:
    cells = pd.DataFrame({"cell_id": list("abc"), "class": [1.0, np.nan, 2.0]})
    assert list(add_labels(cells, Settings(classes="class"))["label"]) == ["1", "2"]


def test_the_official_test_part_is_kept_and_val_is_taken_from_train() -> None:
    cells = split(digits(), treated=None, classes="class", split_column="official_part", balance=False)
    assert (cells["split"] == "test").tolist() == (cells["official_part"] == "test").tolist()
    train, val = ((cells["split"] == part).sum() for part in ("train", "val"))
    assert val / (train + val) == pytest.approx(0.1 / 0.8, abs=0.01)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"classes": "clas"}, "no column 'clas'"),
        ({"classes": "plate"}, "has 1 classes"),
        ({"classes": "class", "split_column": "official"}, "no column 'official'"),
        ({"classes": "class", "split_column": "class"}, "holds '0'"),
    ],
)
def test_a_wrong_column_is_an_error(given: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        split(digits(), treated=None, **given)
