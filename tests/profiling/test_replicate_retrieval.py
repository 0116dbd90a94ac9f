"""Replicates find each other for good or for bad reasons; rules about plate, batch and position tell which."""

import numpy as np
import pandas as pd
import pytest

from cellssl.profiling.replicate_retrieval import ReplicateRetrieval, replicate_retrieval
from cellssl.profiling.retrieval_rules import RULES
from cellssl.randomness import generator

ROWS, COLUMNS = "BCDE", range(2, 8)


def screen(plates: int = 4, layouts: int = 1) -> pd.DataFrame:
    """Return plates with 20 treatments and 4 control wells; layouts put treatments in other wells."""
    names = [f"{row}{column:02d}" for row in ROWS for column in COLUMNS]
    tables = []
    for plate in range(plates):
        treatments = np.array([None] * 4 + [f"t{n:02d}" for n in range(20)], dtype=object)
        order = generator("layout", plate % layouts).permutation(24)
        table = pd.DataFrame({"plate": f"P{plate}", "batch": f"B{plate // 2}", "well": names})
        tables.append(table.assign(treatment=treatments[order]))
    return pd.concat(tables, ignore_index=True)


def of(table: pd.DataFrame, x: np.ndarray, **options: object) -> ReplicateRetrieval:
    """Return the retrieval in a table."""
    control = table["treatment"].isna().to_numpy()
    options = {"batches": table["batch"], **options}
    return replicate_retrieval(x, table["treatment"], control, table["plate"], table["well"], **options)


def by_number(labels: pd.Series, dim: int, strength: float, *name: str | int) -> np.ndarray:
    """Return a random vector for each label."""
    number = pd.factorize(labels)[0]
    return strength * generator("vectors", *name).normal(size=(number.max() + 2, dim))[number]


def noise(table: pd.DataFrame, dim: int = 12) -> np.ndarray:
    """Return random profiles."""
    return np.asarray(generator("noise").normal(size=(len(table), dim)))


def test_recall_chance_and_average_precision_equal_loops() -> None:
    table = screen(layouts=3)
    x = noise(table) + by_number(table["treatment"], 12, 0.7, "treatment")
    well, names = table["well"], table["treatment"].to_numpy()
    places = table.assign(row=well.str[0], column=well.str[1:], position=well)
    found = of(table, x).rules
    treated = np.flatnonzero(table["treatment"].notna()).tolist()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    near = unit @ unit.T
    for name in ("any", "other_plate", "other_row", "other_position", "other_batch_and_position"):
        recall, chance, precision, pairs = [], [], [], 0
        of_rule = places[list(RULES[name])].to_numpy()
        for query in treated:
            left = [row for row in treated if row != query and (of_rule[row] != of_rule[query]).all()]
            hits = [names[row] == names[query] for row in sorted(left, key=lambda row: -near[query, row])]
            if any(hits):
                ranks = np.flatnonzero(hits) + 1
                recall.append(hits[0])
                chance.append(np.mean(hits))
                precision.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
                pairs += sum(hits)
        got = found[name]
        assert (got.queries, got.pairs) == (len(recall), pairs / 2)
        np.testing.assert_allclose(
            [got.recall_at_1, got.chance, got.mean_average_precision],
            [np.mean(recall), np.mean(chance), np.mean(precision)],
        )


def test_an_effect_of_treatments_is_found_under_every_rule_and_not_where_wells_are_shuffled() -> None:
    table = screen(layouts=4)
    found = of(table, noise(table) + by_number(table["treatment"], 12, 3, "treatment")).rules
    for name in ("any", "other_plate", "other_batch", "other_position", "other_batch_and_position"):
        assert found[name].recall_at_1 > 0.9
        assert found[name].shuffled_recall_at_1 < 0.15
        assert found[name].chance < 0.06


def test_an_effect_of_positions_is_gone_where_positions_must_differ() -> None:
    """Three plates have one layout, so that replicates share their well; the fourth has another."""
    table = screen()
    other = screen(layouts=4)
    table = pd.concat([table[table["plate"] != "P3"], other[other["plate"] == "P3"]], ignore_index=True)
    found = of(table, noise(table) + by_number(table["well"], 12, 3, "well")).rules
    assert found["other_plate"].recall_at_1 > 0.6
    assert found["other_position"].recall_at_1 < 0.15
    assert found["other_batch_and_position"].recall_at_1 < 0.15


def test_an_effect_of_batches_does_not_count_where_batches_must_differ() -> None:
    table = screen(layouts=4)
    found = of(table, noise(table) + by_number(table["treatment"] + table["batch"], 12, 3, "both")).rules
    assert found["any"].recall_at_1 > 0.9
    assert found["other_batch"].recall_at_1 < 0.15


def test_what_cannot_be_computed_says_why() -> None:
    table = screen()
    x = noise(table)
    assert of(table, x).not_computed == {
        "other_source": "no source is known",
        "other_row": "no two replicates differ in row",
        "other_column": "no two replicates differ in column",
        "other_position": "no two replicates differ in position",
        "other_edge_class": "all wells are of the same edge class",
        "other_batch_and_position": "no two replicates differ in batch and position",
    }
    one = of(table.assign(well="somewhere", batch="B"), x, sources=["s"] * len(x)).not_computed
    assert one["other_batch"] == "all wells are of the same batch"
    assert one["other_source"] == "all wells are of the same source"
    assert one["other_position"] == "no well has a name that says its position, as B02 does"
    assert "other_plate" not in one
    single = table[table["plate"] == "P0"].reset_index(drop=True)
    assert of(single, x[: len(single)]).not_computed["any"] == "no treatment has two wells"
    assert not of(single, x[: len(single)]).rules


def test_plates_stand_in_for_batches_where_there_is_one() -> None:
    table = screen(layouts=4)
    x = noise(table)
    assert "other_plate_and_position" not in of(table, x).rules
    found = of(table, x, batches=None)
    assert "other_plate_and_position" in found.rules
    assert found.not_computed["other_batch_and_position"] == "no batch is known"


def test_cell_counts_alone_are_another_arm() -> None:
    table = screen(layouts=4)
    counts = 100 + 7.0 * pd.factorize(table["treatment"])[0]
    found = of(table, noise(table), cell_counts=counts).rules["other_position"]
    assert found.cell_count_recall_at_1 == 1
    assert found.recall_at_1 < 0.2
    equal = of(table, noise(table), cell_counts=np.full(len(table), 80.0)).rules["any"]
    assert equal.cell_count_recall_at_1 == pytest.approx(equal.chance)
    unknown = of(table, noise(table), cell_counts=np.where(counts > 120, counts, np.nan)).rules["any"]
    assert unknown.cell_count_recall_at_1 is None


def test_a_well_without_a_position_takes_no_part_in_rules_about_positions() -> None:
    table = screen(layouts=4)
    x = noise(table)
    some = table["treatment"].notna() & (table["plate"] == "P1")
    found = of(table.assign(well=table["well"].where(~some, "?")), x).rules
    without = of(table[~some].reset_index(drop=True), x[~some]).rules
    both = [rules["other_position"] for rules in (found, without)]
    assert both[0].pairs == both[1].pairs
    assert both[0].recall_at_1 == both[1].recall_at_1
    assert both[0].mean_average_precision == pytest.approx(both[1].mean_average_precision)
    assert found["any"].queries == 80


def test_doses_of_one_compound_alone_are_nothing_to_find_replicates_among() -> None:
    x = generator("one compound").normal(size=(8, 4))
    doses, plates = np.repeat(["a 1", "a 3"], 4), np.tile(["P1", "P2"], 4)
    wells = [f"A{number:02d}" for number in range(1, 9)]
    found = replicate_retrieval(x, doses, np.zeros(8, bool), plates, wells, compounds=["a"] * 8)
    assert not found.rules and found.not_computed["any"] == "no well of another compound is left to compare with"
    assert replicate_retrieval(x, doses, np.zeros(8, bool), plates, wells).rules["any"].queries == 8
