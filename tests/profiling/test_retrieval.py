"""Average precision, its means and its p-values equal those of copairs, scikit-learn and closed forms."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from copairs.map import average_precision, mean_average_precision
from scipy.stats import false_discovery_control
from sklearn.metrics import average_precision_score

from cellssl.profiling import retrieval
from cellssl.randomness import generator

QUIET = {"progress_bar": False}


def wells(plates: int = 3, controls: int = 8, dim: int = 10) -> tuple[pd.DataFrame, np.ndarray]:
    """Return plates with control wells and one well of each of ten treatments; the first treatments have no effect."""
    rows = [(f"P{plate}", "DMSO", True) for plate in range(plates) for _ in range(controls)]
    rows += [(f"P{plate}", f"drug {drug}", False) for plate in range(plates) for drug in range(10)]
    table = pd.DataFrame(rows, columns=["plate", "treatment", "control"])
    rng = generator("wells", plates, controls)
    strength = table["treatment"].map({f"drug {drug}": drug / 5 for drug in range(10)}).fillna(0).to_numpy()
    drug = table["treatment"].astype("category").cat.codes.to_numpy()
    return table, strength[:, None] * np.eye(11, dim)[drug] + 0.5 * rng.normal(size=(len(table), dim))


def copairs_of(table: pd.DataFrame, x: np.ndarray, same_plate: bool) -> pd.DataFrame:
    """Return copairs' average precision of replicates; a unique number per control keeps controls from pairing."""
    own = np.where(table["control"], np.arange(len(table)), -1)
    meta = table.assign(own=own)
    found = average_precision(
        meta,
        x,
        pos_sameby=["treatment", "own"],
        pos_diffby=[],
        neg_sameby=["plate"] if same_plate else [],
        neg_diffby=["control"],
        **QUIET,
    )
    return found[~found["control"]]


@pytest.mark.parametrize("same_plate", [True, False])
def test_average_precision_of_replicates_equals_copairs(same_plate: bool) -> None:
    table, x = wells()
    ours = retrieval.replicate_average_precision(
        x, table["treatment"], table["control"].to_numpy(), table["plate"], same_plate=same_plate
    )
    found = copairs_of(table, x, same_plate)
    rows = found.index.to_numpy()
    np.testing.assert_allclose(ours.average_precision[rows], found["average_precision"], atol=1e-6)
    assert ours.positives[rows].tolist() == found["n_pos_pairs"].tolist()
    assert ours.pairs[rows].tolist() == found["n_total_pairs"].tolist()
    assert np.isnan(ours.average_precision[table["control"]]).all()


def test_average_precision_of_mechanisms_equals_copairs() -> None:
    rng = generator("mechanisms")
    compound = np.repeat(np.arange(12), 3)
    table = pd.DataFrame({"compound": compound.astype(str), "moa": (compound % 4).astype(str)})
    x = np.eye(4, 8)[compound % 4] + rng.normal(size=(36, 8))
    ours = retrieval.mechanism_average_precision(x, table["moa"], table["compound"])
    found = average_precision(
        table, x, pos_sameby=["moa"], pos_diffby=["compound"], neg_sameby=[], neg_diffby=["moa", "compound"], **QUIET
    )
    np.testing.assert_allclose(ours.average_precision, found["average_precision"], atol=1e-6)
    assert ours.pairs.tolist() == found["n_total_pairs"].tolist()


def test_means_and_p_values_equal_copairs_except_for_random_draws(tmp_path: Path) -> None:
    table, x = wells(plates=4, controls=30)
    ours = retrieval.replicate_average_precision(
        x, table["treatment"], table["control"].to_numpy(), table["plate"], same_plate=False
    )
    found = retrieval.mean_average_precision(table[["treatment"]], ours, null_size=20_000)
    expected = mean_average_precision(
        copairs_of(table, x, same_plate=False), ["treatment"], 20_000, 0.05, seed=0, cache_dir=tmp_path, **QUIET
    ).sort_values("treatment")
    assert found["treatment"].tolist() == expected["treatment"].tolist()
    np.testing.assert_allclose(found["mean_average_precision"], expected["mean_average_precision"], atol=1e-6)
    np.testing.assert_allclose(found["p_value"], expected["p_value"], atol=0.02)
    np.testing.assert_allclose(found["corrected_p_value"], expected["corrected_p_value"], atol=0.03)
    assert found["found"].tolist() == expected["below_corrected_p"].tolist()
    assert 0 < found["found"].sum() < 10


def test_average_precision_equals_a_loop_in_float64_and_scikit_learn() -> None:
    table, x = wells()
    ours = retrieval.replicate_average_precision(x, table["treatment"], table["control"].to_numpy(), table["plate"])
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for row in np.flatnonzero(~table["control"]):
        positive = (table["treatment"] == table["treatment"][row]).to_numpy() & (np.arange(len(table)) != row)
        negative = table["control"].to_numpy() & (table["plate"] == table["plate"][row]).to_numpy()
        ranked = sorted(np.flatnonzero(positive | negative), key=lambda each: -(unit[each] @ unit[row]))
        positive_ranks = [rank for rank, each in enumerate(ranked, 1) if positive[each]]
        precision = np.mean([place / rank for place, rank in enumerate(positive_ranks, 1)])
        assert ours.average_precision[row] == pytest.approx(precision, abs=1e-12)
        compared = positive | negative
        assert precision == pytest.approx(average_precision_score(positive[compared], unit[compared] @ unit[row]))


def test_equal_profiles_have_the_lowest_average_precision() -> None:
    table, _ = wells()
    ours = retrieval.replicate_average_precision(
        np.ones((len(table), 3)), table["treatment"], table["control"].to_numpy(), table["plate"]
    )
    lowest = (1 / 9 + 2 / 10) / 2  # two replicates ranked after eight controls
    np.testing.assert_allclose(ours.average_precision[~table["control"]], lowest)


def test_the_null_distribution_of_one_positive_is_one_over_its_rank() -> None:
    drawn = retrieval.random_average_precision(40_000, 1, 5)
    assert drawn.mean() == pytest.approx(np.mean([1 / rank for rank in range(1, 6)]), abs=0.005)
    assert set(np.round(drawn, 6)) == {round(1 / rank, 6) for rank in range(1, 6)}


def test_the_p_value_of_a_perfect_score_is_its_probability_by_chance() -> None:
    """Two positives rank before six negatives by chance once in 28 times, whatever the size of the null."""
    table, x = wells(plates=3, controls=6)
    x[~table["control"]] = np.eye(10)[np.arange(30) % 10] * 100
    ours = retrieval.replicate_average_precision(x, table["treatment"], table["control"].to_numpy(), table["plate"])
    found = retrieval.mean_average_precision(table[["treatment"]], ours, null_size=20_000)
    assert (found["mean_average_precision"] == 1).all()
    np.testing.assert_allclose(found["p_value"], 1 / 28, atol=0.005)
    np.testing.assert_allclose(found["corrected_p_value"], false_discovery_control(found["p_value"]))


def test_p_values_without_any_effect_are_uniform() -> None:
    rng = generator("no effect")
    table = pd.DataFrame({"plate": "P", "treatment": [f"d{n % 60}" for n in range(120)] + ["DMSO"] * 60})
    control = (table["treatment"] == "DMSO").to_numpy()
    ours = retrieval.replicate_average_precision(
        rng.normal(size=(180, 20)), table["treatment"], control, table["plate"]
    )
    found = retrieval.mean_average_precision(table[["treatment"]], ours, null_size=2000)
    assert found["p_value"].mean() == pytest.approx(0.5, abs=0.15)
    assert (found["p_value"] < 0.05).mean() < 0.15


def test_a_treatment_of_one_well_has_no_average_precision() -> None:
    table, x = wells(plates=1)
    ours = retrieval.replicate_average_precision(x, table["treatment"], table["control"].to_numpy(), table["plate"])
    assert np.isnan(ours.average_precision).all()
    assert retrieval.mean_average_precision(table[["treatment"]], ours).empty
