"""Ratios of cell counts are those of geometric means on the same plate, with intervals, and have an exact test."""

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import gmean, kstest

from cellssl.profiling.cell_counts import count_p_values, treatment_count_ratios, well_count_ratios
from cellssl.randomness import generator

PLATES = ["P"] * 5 + ["Q"] * 5
CONTROL = np.array([True, True, True, False, False] * 2)
CELLS = np.array([100, 120, 90, 50, 0, 30, 40, 30, 20, 60])
LABELS = [None, None, None, "a", "b", None, None, None, "a", "c"]


def test_ratios_of_wells_are_to_the_geometric_mean_of_their_plate() -> None:
    found = well_count_ratios(CELLS, PLATES, CONTROL)
    assert found[3] == pytest.approx(50.5 / gmean([100.5, 120.5, 90.5]))
    assert found[8] == pytest.approx(20.5 / gmean([30.5, 40.5, 30.5]))


def test_a_well_without_cells_has_a_ratio_near_0() -> None:
    assert well_count_ratios(CELLS, PLATES, CONTROL)[4] == pytest.approx(0.5 / gmean([100.5, 120.5, 90.5]))


def test_the_ratio_of_a_treatment_is_the_geometric_mean_over_its_wells() -> None:
    wells = well_count_ratios(CELLS, PLATES, CONTROL)
    found = treatment_count_ratios(CELLS, PLATES, CONTROL, LABELS, draws=500).set_index("treatment")
    assert found.loc["a", "ratio"] == pytest.approx(gmean(wells[[3, 8]]))
    assert found.loc["a", "low"] < found.loc["a", "ratio"] < found.loc["a", "high"]
    assert found.loc[["b", "c"], ["low", "high"]].isna().all(axis=None)  # one well each


def test_a_plate_without_controls_has_no_ratio_but_with_all_wells_as_the_reference() -> None:
    none = np.zeros(10, bool)
    assert np.isnan(well_count_ratios(CELLS, PLATES, none)).all()
    assert well_count_ratios(CELLS, PLATES, none, reference="all")[2] == 1  # the median well


def test_intervals_contain_the_true_ratio() -> None:
    rng = generator("counts")
    labels = [None] * 16 + [f"drug {i:02d}" for i in range(60) for _ in range(6)]
    is_control = np.arange(len(labels)) < 16
    covered = []
    for seed in range(5):
        cells = rng.poisson(rng.lognormal(np.where(is_control, 5.0, 5.0 + np.log(0.7)), 0.2))
        found = treatment_count_ratios(cells, ["P"] * len(labels), is_control, labels, draws=400, seed=seed)
        covered.append(((found["low"] <= 0.7) & (found["high"] >= 0.7)).mean())
    assert np.mean(covered) > 0.9


def test_the_p_value_is_the_share_of_relabelings_with_a_mean_ratio_at_least_as_far_from_1() -> None:
    cells = np.array([100, 120, 90, 50, 40, 30, 40, 30, 20, 31])
    labels = [None, None, None, "a", "a", None, None, None, "a", "b"]
    kept = np.array([label != "b" for label in labels])
    means = []
    for first in combinations(range(5), 2):
        for second in range(5, 9):
            treated = np.isin(np.arange(10), [*first, second])
            ratios = well_count_ratios(cells[kept], np.array(PLATES)[kept], ~treated[kept])
            means.append(abs(np.log(ratios[treated[kept]]).mean()))
    observed = abs(np.log(well_count_ratios(cells, PLATES, CONTROL)[[3, 4, 8]]).mean())
    expected = np.mean(np.array(means) >= observed - 1e-9)
    found = count_p_values(cells, PLATES, CONTROL, labels)
    assert found["a"] == pytest.approx(expected)
    assert np.isnan(found["b"])  # one well


def counts(
    seed: int, *, plates: int = 4, controls: int = 8, treatments: int = 60
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return cells of wells, their plates, control flags and treatments with one well on every plate."""
    rng = generator("counts of wells", seed)
    plate = np.repeat(np.arange(plates), controls + treatments)
    label = np.tile([None] * controls + [f"drug {i:02d}" for i in range(treatments)], plates)
    cells = rng.poisson(100 * rng.lognormal(0.0, 0.3, len(plate)) * (1 + plate))
    return cells, plate, np.array([name is None for name in label]), label


@pytest.mark.parametrize("reference", ["controls", "all"])
def test_p_values_are_uniform_where_no_treatment_changes_the_number_of_cells(reference: str) -> None:
    found = []
    for seed in range(60):
        cells, plate, is_control, label = counts(seed, plates=2, controls=8, treatments=5)
        found += count_p_values(cells, plate, is_control, label, null_size=200, reference=reference).values()  # type: ignore[arg-type]
    assert kstest(found[::5], "uniform").pvalue > 0.01  # treatments of one plate share its controls
    assert np.mean(np.array(found) <= 0.05) == pytest.approx(0.05, abs=0.03)


def test_a_loss_of_cells_that_differs_between_replicates_is_found() -> None:
    cells, plate, is_control, label = counts(1)
    rows = np.flatnonzero(label == "drug 07")
    cells[rows] = cells[rows] * [0.02, 0.6, 0.1, 0.3]
    found = count_p_values(cells, plate, is_control, label, null_size=2000)
    assert found["drug 07"] < 0.002
    assert np.mean(np.array(list(found.values())) < 0.05) < 0.2


def test_with_blocks_wells_are_compared_with_controls_of_their_block() -> None:
    cells, plate, is_control, label = counts(2)
    at_edge = np.isin(label, ["drug 01", "drug 02"]) | (is_control & (np.arange(len(label)) % 4 == 0))
    fewer = np.where(at_edge, cells // 5, cells)
    assert count_p_values(fewer, plate, is_control, label)["drug 01"] < 0.05
    of_blocks = count_p_values(fewer, plate, is_control, label, blocks=at_edge)
    assert min(of_blocks["drug 01"], of_blocks["drug 02"]) > 0.05


def test_a_treatment_without_a_test_has_no_p_value() -> None:
    found = count_p_values(CELLS, PLATES, CONTROL, LABELS)
    assert not np.isnan(found["a"]) and np.isnan([found["b"], found["c"]]).all()
    one_control = np.array([True, False, False, False, False] * 2)
    assert np.isnan(count_p_values(CELLS, PLATES, one_control, ["x"] * 10)["x"])
