"""The table of wells: shares of clusters add up, and distances are measured by the controls of the same plate."""

import math

import numpy as np
import pandas as pd
import pytest

from cellssl.errors import DataError
from cellssl.profiling.wells import count_wells, distance_from_controls, well_table

PER_WELL = 4
AROUND = np.array([[-1.0, 0.0], [1.0, 0.0], [0.0, -2.0], [0.0, 2.0]])
"""Positions of a well's cells relative to its mean."""


def plate(means: dict[str, tuple[float, float]], name: str = "plate 1") -> tuple[pd.DataFrame, np.ndarray]:
    """Return wells with the same cells around different means; C wells are controls."""
    wells = np.repeat(list(means), PER_WELL)
    cells = pd.DataFrame({"plate": name, "well": wells})
    cells["compound"] = np.where(cells["well"].str.startswith("C"), "DMSO", "taxol")
    cells["dose_micromolar"] = np.where(cells["compound"] == "DMSO", 0.0, 3.0)
    return cells, np.concatenate([AROUND + mean for mean in means.values()])


def field_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Return one field per well."""
    fields = cells.drop_duplicates(["plate", "well"]).assign(field_id=lambda rows: rows["plate"] + rows["well"])
    return fields.assign(control=fields["compound"] == "DMSO" if "compound" in fields else False)


def table(cells: pd.DataFrame, x: np.ndarray, assignment: np.ndarray | None = None, clusters: int = 2) -> pd.DataFrame:
    given = np.zeros(len(x), dtype=int) if assignment is None else assignment
    kept = cells.assign(field_id=cells["plate"] + cells["well"])
    wells = count_wells(field_table(cells), kept, None)
    return well_table(wells, cells, x, given, clusters).set_index(["plate", "well"])


def test_counts_and_shares_add_up() -> None:
    cells, x = plate({"B02": (0, 0), "C02": (5, 5)})
    found = table(cells, x, np.array([0, 0, 0, 2, 1, 1, 1, 1]), clusters=3)
    shares = found[["share_of_cluster_0", "share_of_cluster_1", "share_of_cluster_2"]]
    assert shares.loc[("plate 1", "B02")].tolist() == [0.75, 0, 0.25]
    assert shares.loc[("plate 1", "C02")].tolist() == [0, 1, 0]
    assert found["n"].tolist() == found["n_drawn"].tolist() == [4, 4]
    assert found[["compound", "dose_micromolar", "control"]].values.tolist() == [["taxol", 3, False], ["DMSO", 0, True]]


def test_the_distance_is_measured_in_the_scale_of_the_control_cells() -> None:
    """One control well around (0, 0): deviations |x| = 1 1 0 0 and |y| = 0 0 2 2, so MAD 0.5 and 1, times 1.4826."""
    cells, x = plate({"B02": (3, 8), "C02": (0, 0)})
    expected = math.hypot(3 / (0.5 * 1.4826), 8 / (1.0 * 1.4826))
    assert table(cells, x)["distance_from_controls"].loc[("plate 1", "B02")] == pytest.approx(expected)


def test_a_feature_whose_mad_is_zero_is_measured_in_standard_deviations() -> None:
    controls = np.array([[0.0], [0], [0], [0], [5]])
    assert distance_from_controls(np.array([3.0]), [controls]) == pytest.approx((3 - 1) / controls.std())


def test_a_feature_that_does_not_vary_among_controls_is_left_out() -> None:
    controls = np.c_[[-1.0, 1.0], [7.0, 7.0]]
    assert distance_from_controls(np.array([1.4826, 100.0]), [controls]) == pytest.approx(1)


def test_every_control_well_counts_once_however_many_cells_it_has() -> None:
    small, large = np.array([[-1.0], [1.0]]), np.repeat([[9.0], [11.0]], 50, axis=0)
    assert distance_from_controls(np.array([5.0]), [small, large]) == pytest.approx(0)


def test_a_control_well_is_compared_with_the_other_control_wells() -> None:
    cells, x = plate({"C02": (0, 0), "C03": (0, 0), "C04": (6, 0)})
    found = table(cells, x)["distance_from_controls"]
    others = x[cells["well"] != "C04"]
    scale = 1.4826 * np.median(np.abs(others - np.median(others, axis=0)), axis=0)
    assert found.loc[("plate 1", "C04")] == pytest.approx(6 / scale[0])
    among_themselves = found.loc[("plate 1", "C02")]
    assert 0 < among_themselves < found.loc[("plate 1", "C04")]


def test_plates_are_compared_with_their_own_controls() -> None:
    here, x_here = plate({"B02": (3, 0), "C02": (0, 0)}, "plate 1")
    there, x_there = plate({"B02": (103, 50), "C02": (100, 50)}, "plate 2")
    found = table(pd.concat([here, there]), np.concatenate([x_here, x_there]))["distance_from_controls"]
    assert found.loc[("plate 1", "B02")] == pytest.approx(found.loc[("plate 2", "B02")])


def test_without_other_controls_the_distance_is_missing() -> None:
    cells, x = plate({"B02": (3, 0), "C02": (0, 0)})
    treated = (cells["compound"] == "taxol").to_numpy()
    assert np.isnan(table(cells, x)["distance_from_controls"].loc[("plate 1", "C02")])
    assert table(cells[treated], x[treated])["distance_from_controls"].isna().all()


def test_the_order_of_the_cells_does_not_matter() -> None:
    cells, x = plate({"B02": (3, 0), "C02": (0, 0), "B03": (1, 1), "C03": (2, 2)})
    order = np.arange(len(x))[::-1]
    pd.testing.assert_frame_equal(table(cells, x), table(cells.iloc[order], x[order]))


def test_cells_without_compounds_still_make_a_table() -> None:
    cells, x = plate({"B02": (3, 0), "B03": (1, 0)})
    bare = cells[["plate", "well"]]
    found = table(bare, x, clusters=1).reset_index()
    counts = ["n_fields", "n_fields_quarantined", "n_detected", "n", "n_drawn"]
    assert list(found) == ["plate", "well", "control", *counts, "share_of_cluster_0", "distance_from_controls"]


def test_a_well_with_two_doses_is_an_error_that_names_it() -> None:
    cells, _ = plate({"B02": (3, 0), "C02": (0, 0)})
    cells.loc[0, "dose_micromolar"] = 10.0
    fields = cells.assign(field_id=np.arange(len(cells)), control=False)
    with pytest.raises(DataError, match=r"well B02 of plate plate 1 has more than one dose_micromolar: 10\.0, 3\.0"):
        count_wells(fields, cells.assign(field_id=0), None)


def test_a_well_without_any_cell_has_a_row_with_0_and_no_share() -> None:
    cells, x = plate({"B02": (3, 0), "C02": (0, 0), "C03": (0, 0)})
    fields, dead = field_table(cells), (cells["well"] == "B02").to_numpy()
    fields["field_flags"] = np.where(fields["well"] == "B02", "quarantined", "")
    kept = cells[~dead].assign(field_id=lambda rows: rows["plate"] + rows["well"])
    dropped = pd.DataFrame({"field_id": ["plate 1C02", "plate 1C02"]})
    wells = count_wells(fields, kept, dropped)
    found = well_table(wells, cells[~dead], x[~dead], np.zeros(8, dtype=int), 1).set_index("well")
    assert found["n"].to_dict() == found["n_drawn"].to_dict() == {"B02": 0, "C02": 4, "C03": 4}
    assert found["n_detected"].to_dict() == {"B02": 0, "C02": 6, "C03": 4}
    assert found["n_fields_quarantined"].to_dict() == {"B02": 1, "C02": 0, "C03": 0}
    assert found.loc["B02", ["share_of_cluster_0", "distance_from_controls"]].isna().all()
    assert found.loc["C02", "share_of_cluster_0"] == 1
