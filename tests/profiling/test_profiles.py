"""Well and treatment profiles equal pycytominer's, and features without variation among controls are counted."""

import numpy as np
import pandas as pd
import pytest
from pycytominer import consensus

from cellssl.errors import DataError
from cellssl.profiling.profiles import TREATMENT_IN_BATCH, constant_features, treatment_profiles, well_profiles
from cellssl.randomness import generator


def screen(cells: int = 6) -> tuple[pd.DataFrame, np.ndarray]:
    """Return two plates of ten wells, four of them controls; each plate has its own offset and gain."""
    wells = pd.DataFrame(
        {
            "plate": np.repeat(["P1", "P2"], 10),
            "well": [f"B{number:02}" for number in range(10)] * 2,
            "batch": np.repeat(["week 1", "week 2"], 10),
            "compound": ["DMSO"] * 4 + ["taxol", "taxol", "taxol", "ALLN", "ALLN", None] + ["DMSO"] * 4 + ["taxol"] * 6,
            "dose_micromolar": ([0.0] * 4 + [1.0, 1.0, 3.0, 1.0, 1.0, np.nan]) + [0.0] * 4 + [1.0] * 6,
        }
    )
    wells["moa"] = wells["compound"].map({"taxol": "stabilizer", "ALLN": "degradation"})
    wells["control"] = wells["compound"] == "DMSO"
    table = wells.loc[np.repeat(wells.index, cells)].reset_index(drop=True)
    gain = np.where(table["plate"] == "P1", 1.0, 3.0)[:, None]
    return table, 5 * gain + gain * generator("screen").normal(size=(len(table), 4))


def test_features_that_do_not_vary_among_the_controls_of_a_plate_are_counted() -> None:
    cells, x = screen()
    control, second = cells["control"].to_numpy(), (cells["plate"] == "P2").to_numpy()
    x = x.astype(np.float32)
    x[control, 1] = 0.1
    x[control & second, 2] = 5.0
    x[:, 3] = 0.1  # not exact in binary
    found = constant_features(x, cells["plate"], control)
    assert found.plates == {1: 2, 2: 1, 3: 2} and found.without_scale == (3,)


@pytest.mark.parametrize("operation", ["median", "mean"])
def test_well_and_treatment_profiles_equal_pycytominers_consensus(operation: str) -> None:
    cells, x = screen()
    wells, of_wells = well_profiles(cells, x, operation)
    treatments, of_treatments = treatment_profiles(wells, of_wells, operation)
    names = [f"Cells_{name}" for name in "abcd"]
    table = cells.add_prefix("Metadata_").join(pd.DataFrame(x, columns=names))
    expected = consensus(table, ["Metadata_plate", "Metadata_well"], operation, names)
    np.testing.assert_allclose(of_wells, expected[names], atol=1e-9)
    named = wells.add_prefix("Metadata_").join(pd.DataFrame(of_wells, columns=names))
    named = named[named["Metadata_compound"].notna() & ~named["Metadata_control"]]
    expected = consensus(named, ["Metadata_compound", "Metadata_dose_micromolar"], operation, names)
    assert treatments["compound"].tolist() == expected["Metadata_compound"].tolist() == ["ALLN", "taxol", "taxol"]
    np.testing.assert_allclose(of_treatments, expected[names], atol=1e-9)


def test_a_treatment_has_its_wells_and_mechanism_and_each_batch_may_have_its_own() -> None:
    wells, x = well_profiles(*screen(), "median")
    assert wells["cells"].tolist() == [6] * 20
    treatments, _ = treatment_profiles(wells, x, "median")
    assert treatments["wells"].tolist() == [2, 8, 1]
    assert treatments["moa"].tolist() == ["degradation", "stabilizer", "stabilizer"]
    in_batch, _ = treatment_profiles(wells, x, "median", TREATMENT_IN_BATCH)
    assert in_batch["batch"].tolist() == ["week 1", "week 1", "week 2", "week 1"]
    assert in_batch["wells"].tolist() == [2, 2, 6, 1]


def test_the_order_of_the_cells_does_not_matter() -> None:
    cells, x = screen()
    order = generator("order").permutation(len(cells))
    (one, x_one), (two, x_two) = (
        well_profiles(cells.iloc[rows].reset_index(drop=True), x[rows], "median")
        for rows in (np.arange(len(cells)), order)
    )
    pd.testing.assert_frame_equal(one, two)
    np.testing.assert_allclose(x_one, x_two)


def test_a_well_with_two_compounds_is_named() -> None:
    cells, x = screen()
    cells.loc[0, "compound"] = "taxol"
    with pytest.raises(DataError, match=r"P1 B00 .*more than one compound"):
        well_profiles(cells, x, "median")
