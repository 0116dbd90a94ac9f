"""Well and treatment profiles equal pycytominer's, and offsets and gains of plates are normalised away."""

import numpy as np
import pandas as pd
import pytest
from pycytominer import consensus, normalize
from sklearn.decomposition import PCA

from cellssl.errors import DataError, UsageError
from cellssl.profiling.profiles import TREATMENT_IN_BATCH, normalise_by_controls, treatment_profiles, well_profiles
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


@pytest.mark.parametrize("how", ["robust_z", "percentile", "sphering"])
def test_the_offset_and_gain_of_a_plate_do_not_matter(how: str) -> None:
    cells, x = screen()
    moved = np.where((cells["plate"] == "P2").to_numpy()[:, None], 7 + 2 * x, x)
    control = cells["control"].to_numpy()
    one, two = (normalise_by_controls(how, each, cells["plate"], control)[0] for each in (x, moved))
    np.testing.assert_allclose(one, two, atol=1e-9)


def test_robust_z_on_controls_equals_pycytominers() -> None:
    cells, x = screen()
    found, _ = normalise_by_controls("robust_z", x, cells["plate"], cells["control"].to_numpy())
    for plate in ("P1", "P2"):
        here = (cells["plate"] == plate).to_numpy()
        table = pd.DataFrame(x[here], columns=[f"Cells_{name}" for name in "abcd"])
        table["Metadata_compound"] = cells.loc[here, "compound"].to_numpy()
        expected = normalize(
            table.fillna({"Metadata_compound": "none"}),
            features=[f"Cells_{name}" for name in "abcd"],
            meta_features=["Metadata_compound"],
            samples="Metadata_compound == 'DMSO'",
            method="mad_robustize",
            mad_robustize_epsilon=0,
        )
        np.testing.assert_allclose(found[here], expected.filter(like="Cells_"), atol=1e-9)


def test_sphering_leaves_the_controls_of_all_plates_uncorrelated() -> None:
    cells, x = screen(40)
    control = cells["control"].to_numpy()
    found, _ = normalise_by_controls("sphering", x, cells["plate"], control)
    np.testing.assert_allclose(np.cov(found[control].T), np.eye(found.shape[1]), atol=1e-9)
    scaled, _ = normalise_by_controls("percentile", x, cells["plate"], control)
    np.testing.assert_allclose(
        found, PCA(0.9, svd_solver="full", whiten=True).fit(scaled[control]).transform(scaled), atol=1e-9
    )


def test_a_plate_without_controls_is_named() -> None:
    cells, x = screen()
    control = cells["control"].to_numpy() & (cells["plate"] == "P1").to_numpy()
    with pytest.raises(UsageError, match="plate P2 has 0 controls"):
        normalise_by_controls("percentile", x, cells["plate"], control)
    assert normalise_by_controls("none", x, cells["plate"], control)[0] is x


@pytest.mark.parametrize("how", ["robust_z", "percentile"])
def test_a_feature_that_only_treated_wells_vary_in_keeps_its_information_and_is_counted(how: str) -> None:
    cells, x = screen()
    control = cells["control"].to_numpy()
    x[control, 1] = 0.1
    found, constant = normalise_by_controls(how, x, cells["plate"], control)
    assert constant.plates == {1: 2} and constant.without_scale == ()
    assert not found[control, 1].any() and np.isfinite(found).all()
    usual = found[~control][:, [0, 2, 3]].std(axis=0)
    assert usual.min() / 3 < found[~control, 1].std() < 3 * usual.max(), "it weighs as much as the others"


def test_a_feature_without_variation_on_one_plate_is_scaled_as_on_the_other() -> None:
    cells, x = screen()
    control, second = cells["control"].to_numpy(), (cells["plate"] == "P2").to_numpy()
    expected, _ = normalise_by_controls("robust_z", x[~second], cells["plate"][~second], control[~second])
    x[second & control, 1] = 5
    x[second, 1] = 5 + x[second, 1] - x[second & control, 1].mean()
    found, constant = normalise_by_controls("robust_z", x, cells["plate"], control)
    assert constant.plates == {1: 1}
    np.testing.assert_allclose(found[~second], expected)
    mad = (x[~second, 1] - np.median(x[~second & control, 1])) / expected[:, 1]
    np.testing.assert_allclose(found[second, 1], (x[second, 1] - 5) / mad[0])


@pytest.mark.parametrize("how", ["robust_z", "percentile", "sphering"])
def test_a_feature_that_varies_nowhere_is_zero_and_counts_as_without_scale(how: str) -> None:
    cells, x = screen()
    x = x.astype(np.float32)
    x[:, 1] = 0.1  # not exact in binary
    found, constant = normalise_by_controls(how, x, cells["plate"], cells["control"].to_numpy())
    assert constant.without_scale == (1,) and np.isfinite(found).all()
    assert how == "sphering" or not found[:, 1].any()


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
