"""Ratios of cell counts are those of geometric means on the same plate, with intervals."""

import numpy as np
import pytest
from scipy.stats import gmean

from cellssl.profiling.cell_counts import treatment_count_ratios, well_count_ratios
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
